package s3_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Objects that go by their age are not read, unless somebody is held: then each is, and one with their records stays, and
// so does one that cannot be read.
func TestSweepByAgeReadsWhereSomebodyIsHeld(t *testing.T) {
	t.Parallel()
	for _, archived := range []bool{false, true} {
		s := newStore(t, true)
		s.put(t, "events/a", []byte(event("1", "x")+event("42", "held")))
		s.put(t, "events/b", []byte(event("1", "x")))
		f := newFront(t, s)
		if archived {
			f.after = func(r *http.Response) error {
				if r.Request.URL.Query().Has("versions") {
					b, err := io.ReadAll(r.Body)
					if err != nil {
						return err
					}
					b = bytes.ReplaceAll(b, []byte("STANDARD"), []byte("GLACIER"))
					r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
					r.Header.Del("Content-Length")
				} else if r.Request.Method == http.MethodHead {
					r.Header.Set("X-Amz-Storage-Class", "GLACIER")
				}
				return nil
			}
		}
		sys := lake()
		sys.Settings = f.settings(s)
		b := s.open(t, sys, connectors.Options{})
		job := connectors.SweepJob{Entity: "events", Rule: byAge(), Cut: future, Held: connectors.Holds{Subjects: connectors.Batch{subject("h", "user_id", "42")}}}
		want, left := map[string]int64{" events delete": 1, " events held": 1}, []string{"events/a"}
		if archived {
			want, left = map[string]int64{" events held": 2}, []string{"events/a", "events/b"}
		}
		due, err := b.Due(background, connectors.DueQuery{Entity: "events", Rule: byAge(), Cuts: []connectors.Cut{future}, Held: job.Held})
		require.NoError(t, err)
		require.Equal(t, int64(len(left)), due[0].Held)
		require.Equal(t, want, sums(sweep(t, b, job).Tallies()))
		require.Equal(t, left, keys(s.places(t)))
	}
}

// What is not due by an earlier rule too stays.
func TestSweepByAgeAfterAnEarlierRule(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "avatars/1/a", []byte("x"))
	b := s.open(t, avatars(), connectors.Options{})
	cut := future
	cut.After = []connectors.Bound{{Rule: byAge(), Before: past.Before}}
	require.Empty(t, sweep(t, b, connectors.SweepJob{Entity: "avatars", Rule: byAge(), Cut: cut}).Tallies())
	require.Len(t, s.places(t), 1)
	cut.After[0].Before = future.Before
	require.Len(t, sweep(t, b, connectors.SweepJob{Entity: "avatars", Rule: byAge(), Cut: cut}).Tallies(), 1)
}

// One beside it that starts in the records is asked of each of them: the object's own age says nothing about that.
func TestSweepByAgeBesideARuleAboutRecords(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "events/all", []byte(at("2020-01-01")))
	s.put(t, "events/mixed", []byte(at("2020-01-01")+at("2030-01-01")))
	s.put(t, "events/none", []byte(at("2030-01-01")))
	inside := connectors.Rule{}
	inside.Name, inside.Action = "inside", retention.Next
	inside.Start = retention.StartingPoint{Kind: retention.StartField, Field: "at", Null: retention.NullKeep}
	sys := lake()
	sys.Entities[0].Rules = []connectors.Rule{inside, byAge()}
	b := s.open(t, sys, connectors.Options{})
	cut := future
	cut.After = []connectors.Bound{{Rule: inside, Before: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}}
	due, err := b.Due(background, connectors.DueQuery{Entity: "events", Rule: byAge(), Cuts: []connectors.Cut{cut}})
	require.NoError(t, err)
	require.EqualValues(t, 2, due[0].Rows)
	require.Equal(t, map[string]int64{" events delete": 2}, sums(sweep(t, b, connectors.SweepJob{Entity: "events", Rule: byAge(), Cut: cut}).Tallies()))
	require.Equal(t, map[string][]string{"events/mixed": {at("2030-01-01")}, "events/none": {at("2030-01-01")}}, s.texts(t))

	_, err = b.Due(background, connectors.DueQuery{Entity: "events", Rule: byAge(dsr.Condition{Field: "user_id", Values: []string{"1"}}), Cuts: []connectors.Cut{cut}})
	require.True(t, connectors.IsPermanent(err), "a condition on objects cannot be asked of records: %v", err)
}

// A hold on a person keeps the uploads that their key names, from sweeps and from erasures.
func TestUploadsOfWhoIsHeldStay(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.begin(t, "avatars/42/half")
	s.begin(t, "avatars/43/half")
	b := s.open(t, avatars(), connectors.Options{})
	for _, held := range []connectors.Holds{
		{Subjects: connectors.Batch{subject("h", "user_id", "42")}}, {Entities: []connectors.Frozen{{Entity: "avatars"}}},
	} {
		j := connectortest.NewJournal()
		require.NoError(t, b.Erase(background, connectors.Job{Batch: connectors.Batch{subject("a", "user_id", "42")}, Held: held, Journal: j}))
		require.Empty(t, j.Tallies())
		require.Contains(t, s.uploads(t), "avatars/42/half")
	}
	sweep(t, b, connectors.SweepJob{Entity: "avatars", Rule: byAge(), Cut: future, Held: connectors.Holds{Subjects: connectors.Batch{subject("h", "user_id", "42")}}})
	require.Equal(t, []string{"avatars/42/half"}, s.uploads(t))
}

// In a bucket without versions another's object may have come in the place of one that was looked at: it stays.
func TestWhatCameMeanwhileStays(t *testing.T) {
	t.Parallel()
	for _, swept := range []bool{false, true} {
		t.Run(fmt.Sprint("swept ", swept), func(t *testing.T) {
			t.Parallel()
			s := newStore(t, false)
			s.put(t, "letters/1", []byte("old"), meta("customer", "42"))
			b := s.open(t, avatars(), connectors.Options{})
			j := connectortest.NewJournal()
			j.AtStep(func(_ int, name string) {
				if name == "s3.intent" {
					s.put(t, "letters/1", []byte("another's"), meta("customer", "43"))
				}
			})
			var err error
			if swept {
				_, err = b.Sweep(background, connectors.SweepJob{Entity: "letters", Rule: byAge(), Cut: future, Journal: j})
			} else {
				err = b.Erase(background, connectors.Job{Batch: connectors.Batch{subject("a", "user_id", "42")}, Journal: j})
			}
			require.NoError(t, err)
			require.Equal(t, map[string][]string{"letters/1": {"another's"}}, s.texts(t))
		})
	}
}
