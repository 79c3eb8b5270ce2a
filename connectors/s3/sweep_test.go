package s3_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// byAge deletes what was stored too long ago.
func byAge(when ...dsr.Condition) connectors.Rule {
	r := connectors.Rule{}
	r.Name, r.Action, r.When = "age", retention.Delete, when
	r.Start.Kind = retention.StartObject
	return r
}

// past and future are cut-offs before and after everything that a test stores.
var (
	past   = connectors.Cut{Before: time.Now().Add(-time.Hour), Zone: time.UTC}
	future = connectors.Cut{Before: time.Now().Add(24 * time.Hour), Zone: time.UTC}
)

func sweep(t *testing.T, s connectors.Sweeper, job connectors.SweepJob) *connectortest.Journal {
	t.Helper()
	j := connectortest.NewJournal()
	job.Journal = j
	_, err := s.Sweep(background, job)
	require.NoError(t, err)
	return j
}

func TestSweepOfWholeObjects(t *testing.T) {
	t.Parallel()
	s := newStore(t, true, locked)
	s.put(t, "avatars/1/a", []byte("old"))
	s.put(t, "avatars/1/a", []byte("new"))
	s.put(t, "avatars/2/a", []byte("x"))
	s.delete(t, "avatars/2/a")
	s.put(t, "avatars/3/kept", []byte("x"), func(in *awss3.PutObjectInput) {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockModeGovernance, aws.Time(time.Now().Add(time.Hour))
	})
	s.put(t, "avatars/42/held", []byte("x"))
	s.begin(t, "avatars/5/half")
	s.put(t, "elsewhere/a", []byte("x"))
	sys := avatars()
	b := s.open(t, sys, connectors.Options{})
	held := connectors.Holds{Subjects: connectors.Batch{subject("h", "user_id", "42")}}
	due, err := b.Due(background, connectors.DueQuery{Entity: "avatars", Rule: byAge(), Cuts: []connectors.Cut{past, future}, Held: held})
	require.NoError(t, err)
	require.Equal(t, connectors.Due{Total: 5}, due[0])
	require.Equal(t, connectors.Due{Rows: 6, Bytes: 9, Held: 1, Blocked: 1, Total: 5}, due[1])

	require.Empty(t, sweep(t, b, connectors.SweepJob{Entity: "avatars", Rule: byAge(), Cut: past, Held: held}).Tallies())
	require.Len(t, s.places(t), 7)
	j := sweep(t, b, connectors.SweepJob{Entity: "avatars", Rule: byAge(), Cut: future, Held: held})
	require.Equal(t, map[string]int64{" avatars delete": 4, " avatars held": 1, " avatars blocked": 1}, sums(j.Tallies()))
	require.Equal(t, []string{"avatars/3/kept", "avatars/42/held", "elsewhere/a"}, keys(s.places(t)))
	require.Empty(t, s.uploads(t))
}

func TestSweepByTag(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	s.put(t, "letters/1", []byte("x"), tag("class", "short"))
	s.put(t, "letters/2", []byte("x"), tag("class", "long"))
	s.put(t, "letters/3", []byte("x"))
	sys := avatars()
	e := sys.Entity("letters")
	e.Fields = append(e.Fields, connectors.Field{Name: "tag:class"})
	rule := byAge(dsr.Condition{Field: "tag:class", Values: []string{"short"}})
	j := sweep(t, s.open(t, sys, connectors.Options{}), connectors.SweepJob{Entity: "letters", Rule: rule, Cut: future})
	require.Equal(t, map[string]int64{" letters delete": 1}, sums(j.Tallies()))
	require.Equal(t, []string{"letters/2", "letters/3"}, keys(s.places(t)))
}

// Objects of records that go by their age are not read: one that could not be read goes all the same.
func TestSweepByAgeDoesNotRead(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "events/a", []byte("this is no JSON"))
	j := sweep(t, s.open(t, lake(), connectors.Options{}), connectors.SweepJob{Entity: "events", Rule: byAge(), Cut: future})
	require.Equal(t, map[string]int64{" events delete": 1}, sums(j.Tallies()))
	require.Empty(t, s.places(t))
}

func at(day string) string { return `{"user":{"id":"1"},"at":"` + day + `","text":"x"}` + "\n" }

func TestSweepOfRecords(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "events/all", []byte(at("2020-01-01")+at("2020-01-02")))
	mixed := s.put(t, "events/mixed", []byte(at("2020-01-01")+at("2030-01-01")))
	none := s.put(t, "events/none", []byte(at("2030-01-01")))
	sys := lake()
	rule := connectors.Rule{}
	rule.Name, rule.Action = "time", retention.Delete
	rule.Start = retention.StartingPoint{Kind: retention.StartField, Field: "at", Null: retention.NullKeep}
	sys.Entities[0].Rules = []connectors.Rule{rule}
	b := s.open(t, sys, connectors.Options{})
	cuts := []connectors.Cut{{Before: time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC), Zone: time.UTC}, {Before: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), Zone: time.UTC}}
	due, err := b.Due(background, connectors.DueQuery{Entity: "events", Rule: rule, Cuts: cuts})
	require.NoError(t, err)
	require.Equal(t, []int64{2, 3, 5}, []int64{due[0].Rows, due[1].Rows, due[1].Total})
	j := sweep(t, b, connectors.SweepJob{Entity: "events", Rule: rule, Cut: cuts[1]})
	require.Equal(t, map[string]int64{" events delete": 3}, sums(j.Tallies()))
	require.Equal(t, map[string][]string{"events/mixed": {at("2030-01-01")}, "events/none": {at("2030-01-01")}}, s.texts(t))
	for _, p := range s.places(t) {
		require.Equal(t, p.key == "events/none", p.id == *none.VersionId)
		require.NotEqual(t, *mixed.VersionId, p.id)
	}
}

// The age of an object is not that of its rewriting.
func TestARewritingDoesNotMakeAnObjectYounger(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "events/a", []byte(event("42", "x")+event("1", "y")), meta("lethe-stored", time.Now().AddDate(-1, 0, 0).UTC().Format(time.RFC3339)))
	s.put(t, "events/b", []byte(event("42", "x")+event("1", "y")))
	sys := lake()
	sys.Entities[0].Rules = []connectors.Rule{byAge()}
	b := s.open(t, sys, connectors.Options{})
	erase(t, b, connectors.Batch{subject("a", "user_id", "42")})
	h, err := s.Client.HeadObject(background, &awss3.HeadObjectInput{Bucket: &s.Name, Key: aws.String("events/b")})
	require.NoError(t, err)
	stored, err := time.Parse(time.RFC3339, h.Metadata["lethe-stored"])
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), stored, time.Minute)
	j := sweep(t, b, connectors.SweepJob{Entity: "events", Rule: byAge(), Cut: past})
	require.Equal(t, map[string]int64{" events delete": 1}, sums(j.Tallies()))
	require.Equal(t, []string{"events/b"}, keys(s.places(t)))
}

func TestPseudonymisedRecordsAreNotDueAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "events/a", []byte(at("2020-01-01")))
	rule := connectors.Rule{Masks: map[string]mask.Spec{"text": {Kind: mask.Constant, Value: "-"}}}
	rule.Name, rule.Action = "time", retention.Pseudonymise
	rule.Start = retention.StartingPoint{Kind: retention.StartField, Field: "at", Null: retention.NullKeep}
	sys := lake()
	sys.Entities[0].Rules = []connectors.Rule{rule}
	b := s.open(t, sys, connectors.Options{})
	require.Equal(t, map[string]int64{" events mask": 1}, sums(sweep(t, b, connectors.SweepJob{Entity: "events", Rule: rule, Cut: future}).Tallies()))
	require.Empty(t, sweep(t, b, connectors.SweepJob{Entity: "events", Rule: rule, Cut: future}).Tallies())
	require.Len(t, s.texts(t)["events/a"], 1)
	require.Contains(t, s.texts(t)["events/a"][0], `"text":"-"`)
}
