package cloudwatchlogs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/cloudwatchlogs"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
)

// The whole life of an erasure: the plan gives the date, the search before it waits, the one after it finds nothing.
func TestEventsAreErasedOnTheirDate(t *testing.T) {
	t.Parallel()
	w := setup(t)
	last := start.Add(-3 * day)
	w.event(start.Add(-5*day), "42")
	w.event(last, "42", "email", anna)
	w.event(start.Add(-time.Hour), "7", "text", "asked by user 1234567")
	w.Put(users, "user/42/a", start, "hello")
	w.Put(users, "user/421/a", start, "hello")
	l := w.open(t)
	b := append(batch("42"), connectors.Subject{Ref: "mentioned", Identifiers: []dsr.Identifier{{Name: "user_id", Value: dsr.NewSecret("1234567")}}})
	gone := last.Add(30*day + 72*time.Hour)

	found, err := l.Locate(context.Background(), connectors.Query{Batch: b})
	require.NoError(t, err)
	mentioned := start.Add(-time.Hour).Add(33 * day)
	require.Empty(t, cmp.Diff([]connectors.Count{
		{Subject: "task-42", Entity: "events", Method: dsr.Expire, Rows: 2, Exception: &dsr.Exception{Cause: dsr.CauseRetention, Ends: &gone}},
		{Subject: "mentioned", Entity: "events", Method: dsr.Expire, Rows: 1, Exception: &dsr.Exception{Cause: dsr.CauseRetention, Ends: &mentioned}},
		{Subject: "task-42", Entity: "sessions", Method: dsr.Delete, Rows: 1, TableRows: 2},
	}, found.Counts))

	j := erase(t, l, b, connectors.Holds{})
	require.Equal(t, map[string]int64{"task-42 events expire": 2, "mentioned events expire": 1, "task-42 sessions delete": 1}, sums(j.Tallies()))
	require.Equal(t, []string{"user/421/a"}, w.Streams(users))
	require.Len(t, w.Dump(group), 3, "events cannot be deleted singly")
	require.Equal(t, []dsr.Residue{
		{Subject: "task-42", System: "logs", Entity: "events", Count: 2, Waits: &dsr.Exception{Cause: dsr.CauseRetention, Ends: &gone}},
	}, verify(t, l, b[:1], connectors.Holds{}))

	w.move(gone.Sub(w.now()) - time.Second)
	require.Len(t, verify(t, l, b[:1], connectors.Holds{}), 1, "one event is there to the last")
	w.move(time.Second)
	require.Empty(t, verify(t, l, b[:1], connectors.Holds{}))
	require.Len(t, w.Dump(group), 1, "what is younger is still there")
}

// An event that outlives its date is plain residue: a person must look.
func TestEventsPastTheirDate(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Delay = 200 * time.Hour
	w.event(start.Add(-34*day), "42")
	w.event(start, "42")
	l := w.open(t)
	ends := start.Add(33 * day)
	require.Equal(t, []dsr.Residue{
		{Subject: "task-42", System: "logs", Entity: "events", Count: 1},
		{Subject: "task-42", System: "logs", Entity: "events", Count: 1, Waits: &dsr.Exception{Cause: dsr.CauseRetention, Ends: &ends}},
	}, verify(t, l, batch("42"), connectors.Holds{}))
}

// Without a retention nobody can give a date, and an erasure says so before it calls anything done.
func TestNoRetention(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.event(start, "42")
	w.Retain(group, 0)
	l := w.open(t)
	found, err := l.Locate(context.Background(), connectors.Query{Batch: batch("42")})
	require.NoError(t, err)
	require.Equal(t, &dsr.Exception{Cause: dsr.CauseRetention}, found.Counts[0].Exception)
	err = l.Erase(context.Background(), connectors.Job{Batch: batch("42"), Journal: connectortest.NewJournal()})
	require.True(t, connectors.IsPermanent(err))
	require.Equal(t, dsr.Code("logs-no-retention"), dsr.CodeOf(err))
	require.Equal(t, &dsr.Exception{Cause: dsr.CauseRetention}, verify(t, l, batch("42"), connectors.Holds{})[0].Waits)
}

// What is put back is found.
func TestSaboteur(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Put(users, "user/42/a", start, "x")
	l := w.open(t)
	b := batch("42")
	erase(t, l, b, connectors.Holds{})
	require.Empty(t, verify(t, l, b, connectors.Holds{}))
	w.Put(users, "user/42/b", start, "x")
	require.Equal(t, []dsr.Residue{{Subject: "task-42", System: "logs", Entity: "sessions", Count: 1}}, verify(t, l, b, connectors.Holds{}))
	erase(t, l, b, connectors.Holds{})
	require.Empty(t, verify(t, l, b, connectors.Holds{}))
	w.Put(group, "late", start, `{"user":{"id":"\u0034\u0032"}}`)
	require.Len(t, verify(t, l, b, connectors.Holds{}), 1, "however it is written")
}

// A hold keeps a stream, and Verify says why it is there.
func TestHolds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, u := range []string{"42", "7", "8"} {
		w.Put(users, "user/"+u+"/a", start, "x")
	}
	w.event(start, "42")
	l := w.open(t)
	b := batch("42", "7", "8")
	held := connectors.Holds{
		Subjects: batch("42"),
		Entities: []connectors.Frozen{{Entity: "sessions", When: []dsr.Condition{{Field: "user_id", Values: []string{"7"}}}}},
	}
	j := erase(t, l, b, held)
	require.Equal(t, map[string]int64{"task-8 sessions delete": 1}, sums(j.Tallies()))
	require.Equal(t, []string{"user/42/a", "user/7/a"}, w.Streams(users))
	hold := &dsr.Exception{Cause: dsr.CauseHold}
	require.Equal(t, []dsr.Residue{
		{Subject: "task-42", System: "logs", Entity: "events", Count: 1, Waits: hold},
		{Subject: "task-42", System: "logs", Entity: "sessions", Count: 1, Waits: hold},
		{Subject: "task-7", System: "logs", Entity: "sessions", Count: 1, Waits: hold},
	}, verify(t, l, b, held))
	erase(t, l, b, connectors.Holds{})
	require.Empty(t, w.Streams(users), "the holds were lifted")

	w.Put(users, "user/9/a", start, "x")
	whole := connectors.Holds{Entities: []connectors.Frozen{{Entity: "sessions", When: []dsr.Condition{{Field: "text", Null: true}}}}}
	erase(t, l, batch("9"), whole)
	require.Len(t, w.Streams(users), 1, "a condition that a name cannot answer holds all")
}

// Whatever interrupts an erasure and however often, it ends with the same streams and the same tallies.
func TestInterruptedErase(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := setup(rt)
		w.Page = rapid.IntRange(1, 3).Draw(rt, "page")
		w.EmptyPages = rapid.IntRange(0, 1).Draw(rt, "empty pages")
		want := map[string]int64{}
		for i := range rapid.IntRange(1, 6).Draw(rt, "streams") {
			u := rapid.SampledFrom([]string{"42", "7", "1"}).Draw(rt, "user")
			w.Put(users, fmt.Sprintf("user/%s/%d", u, i), start, "x")
			if u != "1" {
				want["task-"+u+" sessions delete"]++
			}
		}
		for i := range rapid.IntRange(1, 6).Draw(rt, "events") {
			u := rapid.SampledFrom([]string{"42", "7", "1"}).Draw(rt, "user")
			w.event(start.Add(time.Duration(i/3)*time.Second), u) // several in one millisecond
			if u != "1" {
				want["task-"+u+" events expire"]++
			}
		}
		l := w.open(rt)
		j := connectortest.NewJournal()
		for range rapid.IntRange(0, 4).Draw(rt, "interruptions") {
			ctx, cancel := context.WithCancel(context.Background())
			at := rapid.IntRange(1, 8).Draw(rt, "at")
			job := connectors.Job{Batch: batch("42", "7"), Journal: j}
			want := context.Canceled
			switch rapid.SampledFrom([]string{"cancel", "save", "lost answer", "yield"}).Draw(rt, "how") {
			case "cancel":
				n := 0
				j.AtStep(func(int, string) {
					if n++; n == at {
						cancel()
					}
				})
			case "save":
				want = connectortest.ErrJournal
				j.OnSave(func(n int) error { return onlyAt(n, at) }, nil)
			case "lost answer":
				want = connectortest.ErrJournal
				j.OnSave(nil, func(n int) error { return onlyAt(n, at) })
			case "yield":
				want, job.Deadline = connectors.ErrYield, w.now()
			}
			err := l.Erase(ctx, job)
			cancel()
			if err != nil {
				require.ErrorIs(rt, err, want)
			}
			j.Heal()
			if rapid.Bool().Draw(rt, "a day passes") { // and the tokens with it
				w.move(25 * time.Hour)
			}
		}
		require.NoError(rt, l.Erase(context.Background(), connectors.Job{Batch: batch("42", "7"), Journal: j}))
		require.Equal(rt, want, sums(j.Tallies()))
		for _, s := range w.Streams(users) {
			require.Contains(rt, s, "user/1/")
		}
	})
}

func onlyAt(n, at int) error {
	if n == at {
		return connectortest.ErrJournal
	}
	return nil
}

// Who is above a cap is left alone, says so every time, and holds up nobody.
func TestCaps(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]connectors.Limits{
		"rows":  {RowsPerRequest: 2},
		"share": {ShareOfTable: 0.0025},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			for i := range 3 {
				w.Put(users, fmt.Sprintf("user/42/%d", i), start, "x")
			}
			w.Put(users, "user/7/a", start, "x")
			for i := range 996 {
				w.Put(users, fmt.Sprintf("user/others/%d", i), start, "x")
			}
			l, j := w.open(t), connectortest.NewJournal()
			job := connectors.Job{Batch: batch("42", "7"), Journal: j, Limits: limits}
			for range 2 {
				err := l.Erase(context.Background(), job)
				var one *connectors.SubjectError
				require.ErrorAs(t, err, &one)
				require.Equal(t, "task-42", one.Subject)
				require.Equal(t, dsr.CodeOverCap, dsr.CodeOf(err))
				require.True(t, connectors.IsPermanent(err))
			}
			require.Equal(t, map[string]int64{"task-7 sessions delete": 1}, sums(j.Tallies()))
			require.Len(t, w.Streams(users), 999)
			job.Limits = connectors.Limits{RowsPerRequest: 3, ShareOfTable: 0.01}
			job.Journal = connectortest.NewJournal()
			require.NoError(t, l.Erase(context.Background(), job))
		})
	}
}

// Two workers at once leave nothing, and a lost lease stops one of them.
func TestTwoWorkers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Page = 2
	for i := range 20 {
		w.Put(users, fmt.Sprintf("user/42/%d", i), start, "x")
	}
	errs := make(chan error)
	for range 2 {
		l := w.open(t)
		go func() {
			errs <- l.Erase(context.Background(), connectors.Job{Batch: batch("42"), Journal: connectortest.NewJournal()})
		}()
	}
	require.NoError(t, errors.Join(<-errs, <-errs))
	require.Empty(t, w.Streams(users))

	w.Put(users, "user/42/x", start, "x")
	j := connectortest.NewJournal()
	j.Fence()
	require.ErrorIs(t, w.open(t).Erase(context.Background(), connectors.Job{Batch: batch("42"), Journal: j}), connectors.ErrFenced)
	require.Len(t, w.Streams(users), 1)
}

// A group that is deleted between the erasure and the search has nothing left; one that nobody has seen, or of which
// nobody knows whether this is the account that had it, is an error.
func TestDeletedGroups(t *testing.T) {
	t.Parallel()
	for _, gone := range []string{group, users} {
		w := setup(t)
		l := w.open(t)
		b := batch("42")
		w.event(start, "42")
		w.Put(users, "user/42/a", start, "x")
		search := func(keys connectors.Keys) ([]dsr.Residue, error) {
			return l.Verify(context.Background(), connectors.Search{Batch: b, Keys: keys})
		}
		j := erase(t, l, b, connectors.Holds{})
		w.Put(users, "user/42/b", start, "again")
		w.Delete(gone)
		left, err := search(j)
		require.NoError(t, err)
		require.Len(t, left, 1, "of the group that is still there")
		for _, keys := range []connectors.Keys{nil, connectortest.NewJournal()} {
			_, err = search(keys)
			require.True(t, connectors.IsPermanent(err))
			require.Equal(t, cloudwatchlogs.CodeNoGroup, dsr.CodeOf(err))
		}
		other := connectortest.NewJournal()
		for _, e := range []string{"events", "sessions"} {
			require.NoError(t, other.Spool(context.Background(), "task-42", e, []connectors.Key{"arn:aws:logs:eu-north-1:210987654321:log-group:x"}))
		}
		_, err = search(other)
		require.True(t, connectors.IsPermanent(err), "it was another account's")
		w.Delete(map[string]string{group: users, users: group}[gone])
		_, err = search(j)
		require.True(t, connectors.IsPermanent(err), "an account without groups may be any")
	}
}

// A group may go while its streams are deleted, or its events counted.
func TestGroupDeletedMidway(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 6; at++ {
		w := setup(t)
		w.Page = 1
		w.Put("/shop/other", "s", start, "x")
		for i := range 3 {
			w.event(start.Add(time.Duration(i)*time.Second), "42")
			w.Put(users, fmt.Sprintf("user/42/%d", i), start, "x")
		}
		l, j := w.open(t), connectortest.NewJournal()
		n := 0
		j.AtStep(func(int, string) {
			if n++; n == at {
				w.Delete(group)
				w.Delete(users)
			}
		})
		err := l.Erase(context.Background(), connectors.Job{Batch: batch("42"), Journal: j})
		if at <= 3 { // the streams' group went before it was seen
			require.Equal(t, cloudwatchlogs.CodeNoGroup, dsr.CodeOf(err))
			continue
		}
		require.NoError(t, err)
		left, err := l.Verify(context.Background(), connectors.Search{Batch: batch("42"), Keys: j})
		require.NoError(t, err)
		require.Empty(t, left)
	}
}
