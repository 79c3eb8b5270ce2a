package s3_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// byField deletes records by their own time.
func byField() connectors.Rule {
	r := connectors.Rule{}
	r.Name, r.Action = "time", retention.Delete
	r.Start = retention.StartingPoint{Kind: retention.StartField, Field: "at", Null: retention.NullKeep}
	return r
}

// failing sweeps and returns what was left and why.
func failing(t *testing.T, s connectors.Sweeper, job connectors.SweepJob) (map[string]int64, error) {
	t.Helper()
	j := connectortest.NewJournal()
	job.Journal = j
	_, err := s.Sweep(background, job)
	require.True(t, connectors.IsPermanent(err), "%v", err)
	return sums(j.Tallies()), err
}

// Whatever cannot be read of a bucket is counted, by why, and keeps nothing else from going: not even another version of
// the same object.
func TestSweepGoesOnPastWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	whole := zipped(t, at("2020-01-01"))
	s.put(t, "events/a", []byte(at("2020-01-01")))
	s.put(t, "events/cut.gz", whole[:len(whole)-6])
	s.put(t, "events/line", []byte(at("2020-01-01")+"no JSON\n"))
	s.put(t, "events/older", []byte("no JSON\n"))
	s.put(t, "events/older", []byte(at("2020-01-01")))
	s.put(t, "events/refused", []byte(at("2020-01-01")))
	s.put(t, "events/start", []byte(at("soon")))
	s.put(t, "events/z", []byte(at("2020-01-01")+at("2030-01-01")))
	f := newFront(t, s)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		refused := r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "events/refused")
		if refused { // as by a key of KMS that the role may not use
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`<Error><Code>AccessDenied</Code></Error>`))
		}
		return refused
	}
	sys := lake()
	sys.Entities[0].Rules = []connectors.Rule{byField()}
	sys.Settings = f.settings(s)
	b := s.open(t, sys, connectors.Options{})
	cuts := []connectors.Cut{{Before: time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC), Zone: time.UTC}, {Before: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), Zone: time.UTC}}
	due, err := b.Due(background, connectors.DueQuery{Entity: "events", Rule: byField(), Cuts: cuts})
	require.NoError(t, err)
	unread := map[dsr.Code]int64{dsr.CodeUnreadable: 3, dsr.CodeForbidden: 1}
	require.Equal(t, []map[dsr.Code]int64{unread, unread}, []map[dsr.Code]int64{due[0].Unreadable, due[1].Unreadable})
	require.Equal(t, []int64{0, 3, 5}, []int64{due[0].Rows, due[1].Rows, due[1].Total})

	got, err := failing(t, b, connectors.SweepJob{Entity: "events", Rule: byField(), Cut: cuts[1]})
	require.Equal(t, map[string]int64{" events delete": 3, " events failed": 4}, got)
	for _, part := range []string{"3 unreadable-content (events/cut.gz", "1 forbidden (events/refused", "1 unreadable-start ("} {
		require.Contains(t, err.Error(), part)
	}
	left, bodies := map[string]int{}, map[string]string{}
	for _, p := range s.places(t) {
		if !p.marker {
			left[p.key]++
			bodies[p.key] = string(s.get(t, p))
		}
	}
	require.Equal(t, map[string]int{"events/cut.gz": 1, "events/line": 1, "events/older": 1, "events/refused": 1, "events/start": 1, "events/z": 1}, left)
	require.Equal(t, at("2030-01-01"), bodies["events/z"])
	require.Equal(t, "no JSON\n", bodies["events/older"])
}

// A rule by age reads no object, so a damaged one goes; but what its metadata says, where that decides, it must know.
func TestSweepByAgeLeavesWhatItCannotAskAbout(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	for _, key := range []string{"letters/1", "letters/2", "letters/3"} {
		s.put(t, key, []byte("x"), meta("class", "short"))
	}
	f := newFront(t, s)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		refused := r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "letters/2")
		if refused {
			w.WriteHeader(http.StatusForbidden)
		}
		return refused
	}
	sys := avatars()
	e := sys.Entity("letters")
	e.Fields = append(e.Fields, connectors.Field{Name: "meta:class"})
	sys.Settings = f.settings(s)
	b := s.open(t, sys, connectors.Options{})
	rule := byAge(dsr.Condition{Field: "meta:class", Values: []string{"short"}})
	due, err := b.Due(background, connectors.DueQuery{Entity: "letters", Rule: rule, Cuts: []connectors.Cut{past, future}})
	require.NoError(t, err)
	require.Nil(t, due[0].Unreadable, "it is too young, whatever its metadata says")
	require.Equal(t, map[dsr.Code]int64{dsr.CodeForbidden: 1}, due[1].Unreadable)
	require.EqualValues(t, 2, due[1].Rows)
	got, err := failing(t, b, connectors.SweepJob{Entity: "letters", Rule: rule, Cut: future})
	require.Equal(t, map[string]int64{" letters delete": 2, " letters failed": 1}, got)
	require.Equal(t, dsr.CodeForbidden, dsr.CodeOf(err))
	require.Equal(t, []string{"letters/2"}, keys(s.places(t)))
}

// What comes under a lock after it was looked at is tallied as failed, and the sweep fails for it: it has no subject to
// tell.
func TestSweepSaysWhatCannotGo(t *testing.T) {
	t.Parallel()
	s := newStore(t, true, locked)
	s.put(t, "avatars/1/a", []byte("x"))
	late := s.put(t, "avatars/42/late", []byte("x"))
	b := s.open(t, avatars(), connectors.Options{})
	j := connectortest.NewJournal()
	j.AtStep(func(_ int, name string) {
		if name == "s3.intent" {
			_, err := s.Client.PutObjectLegalHold(background, &awss3.PutObjectLegalHoldInput{
				Bucket: &s.Name, Key: aws.String("avatars/42/late"), VersionId: late.VersionId,
				LegalHold: &types.ObjectLockLegalHold{Status: types.ObjectLockLegalHoldStatusOn},
			})
			require.NoError(t, err)
		}
	})
	_, err := b.Sweep(background, connectors.SweepJob{Entity: "avatars", Rule: byAge(), Cut: future, Journal: j})
	require.True(t, connectors.IsPermanent(err), "%v", err)
	require.Equal(t, dsr.CodeForbidden, dsr.CodeOf(err))
	require.NotContains(t, err.Error(), "42")
	require.Equal(t, map[string]int64{" avatars delete": 1, " avatars failed": 1}, sums(j.Tallies()))
	require.Equal(t, []string{"avatars/42/late"}, keys(s.places(t)))
}
