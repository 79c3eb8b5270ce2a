package connectortest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// countUnread is count with how many contents could not be read, which it takes out of what it returns.
func (w *world) countUnread(t *testing.T, c connectors.Connector, r ruling, label string) (connectors.Due, int64) {
	t.Helper()
	due := w.count(t, c, r)
	var unread int64
	for code, n := range due.Unreadable {
		require.NotEmpty(t, code, label)
		unread += n
	}
	due.Unreadable = nil
	return due, unread
}

// left are the tallies without what failed, and how much that is.
func left(j *Journal, r ruling) (counts map[string]int64, failed int64) {
	counts = tallied(j.Tallies())
	at := r.entity + " " + string(dsr.Failed)
	failed = counts[at]
	delete(counts, at)
	return counts, failed
}

// testSweepDamaged: a content that cannot be read keeps nothing else from being counted and swept. It is counted and
// tallied on its own, stays as it is, and the sweep fails for it once all else is done, however it is cut into slices.
func testSweepDamaged(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	row := w.full("accounts", Row{"id": 90, "email": address(90), "name": "N", "status": "closed", "closed_at": "2019-04-01T00:00:00Z"})
	for _, action := range []retention.Action{retention.Delete, retention.Pseudonymise} {
		for _, chunk := range []int{0, 1} {
			for _, sliced := range []bool{false, true} {
				w.Load(t, w.data)
				intact := w.Damage(t, "accounts", row)
				w.chunk = chunk
				c := w.open(t)
				r := ruling{
					entity: "accounts", rule: deletes("closed_at"), cut: at(cutAt),
					held: connectors.Holds{Subjects: connectors.Batch{subject("a", anna)}},
				}
				if r.rule.Action = action; action == retention.Pseudonymise {
					r.rule.Masks = masks{"email": toRandom, "name": constant("-")}
				}
				label := fmt.Sprintf("%s, chunk %d, sliced %t", action, chunk, sliced)
				want := expectSweep(w.sys, w.data, r)
				due, unread := w.countUnread(t, c, r, label)
				w.sameDue(t, want.due, due, label)
				require.EqualValues(t, 1, unread, label)

				j := NewJournal()
				job := r.job(j)
				if sliced {
					job.Deadline = time.Now().Add(-time.Second)
				}
				for again := range 2 {
					_, err := sweeper(t, c).Sweep(context.Background(), job)
					for n := 0; n < maxSlices && !connectors.IsPermanent(err); n++ {
						require.ErrorIs(t, err, connectors.ErrYield, label)
						_, err = sweeper(t, c).Sweep(context.Background(), job)
					}
					namesNobody(t, label, err)
					require.True(t, connectors.IsPermanent(err), "%s, call %d: %v", label, again, err)
					require.NotEmpty(t, dsr.CodeOf(err), label)
					counts, failed := left(j, r)
					require.EqualValues(t, 1, failed, "%s, call %d", label, again)
					require.Empty(t, cmp.Diff(want.counts, counts), "%s, call %d", label, again)
					require.Empty(t, diff(w.data.rows(), want.after, w.dump(t)), "%s, call %d", label, again)
					require.True(t, intact(t), label)
				}
				require.NoError(t, c.Close())
			}
		}
	}
}

// testSweepDamagedByAge: what goes by its age goes unread, unless somebody whom a hold covers may be in it.
func testSweepDamagedByAge(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	row := w.full("accounts", Row{"id": 90, "email": anna, "name": "Anna", "status": "closed"})
	intact := w.Damage(t, "accounts", row)
	c := w.open(t)
	r := ruling{entity: "accounts", rule: deletes(""), cut: at(time.Now().AddDate(10, 0, 0))}
	r.rule.Start = retention.StartingPoint{Kind: retention.StartObject}

	r.held = connectors.Holds{Subjects: connectors.Batch{subject("a", "nobody.canary@example.com")}}
	due, unread := w.countUnread(t, c, r, "held")
	require.Zero(t, due.Held)
	require.EqualValues(t, 1, unread)
	j := NewJournal()
	_, err := sweeper(t, c).Sweep(context.Background(), r.job(j))
	namesNobody(t, "held", err)
	require.True(t, connectors.IsPermanent(err), "held: %v", err)
	counts, failed := left(j, r)
	require.EqualValues(t, 1, failed)
	require.Equal(t, map[string]int64{"accounts " + string(dsr.Delete): due.Rows}, counts)
	require.Empty(t, w.dump(t)["accounts"])
	require.True(t, intact(t))

	r.held = connectors.Holds{}
	due, unread = w.countUnread(t, c, r, "lifted")
	require.Zero(t, unread)
	require.EqualValues(t, 1, due.Rows)
	require.Equal(t, map[string]int64{"accounts " + string(dsr.Delete): 1}, tallied(sweep(t, c, r).Tallies()))
	require.False(t, intact(t))
}

// testSweepMost: what could not be read when it was counted may be readable by now, and no cap was asked about it. A sweep
// takes no more than it may.
func testSweepMost(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	w.chunk = 1
	for _, sliced := range []bool{false, true} {
		w.Load(t, w.data)
		c := w.open(t)
		r := ruling{entity: "accounts", rule: deletes("closed_at"), cut: at(cutAt)}
		due := w.count(t, c, r)
		w.Put(t, "accounts", w.full("accounts", Row{ // a content of its own, which comes last
			"id": 90, "email": address(90), "name": "N", "status": "closed", "closed_at": "2019-04-01T00:00:00Z",
		}))
		j := NewJournal()
		job := r.job(j)
		job.Most = due.Rows
		if sliced {
			job.Deadline = time.Now().Add(-time.Second)
		}
		_, err := sweeper(t, c).Sweep(context.Background(), job)
		for n := 0; n < maxSlices && !connectors.IsPermanent(err); n++ {
			require.ErrorIs(t, err, connectors.ErrYield)
			_, err = sweeper(t, c).Sweep(context.Background(), job)
		}
		require.True(t, connectors.IsPermanent(err), "%v", err)
		require.Equal(t, dsr.CodeOverCap, dsr.CodeOf(err))
		require.Contains(t, w.dump(t)["accounts"], "90")
		gone := int64(len(w.data.rows()["accounts"]) + 1 - len(w.dump(t)["accounts"]))
		require.Equal(t, gone, tallied(j.Tallies())["accounts "+string(dsr.Delete)], "what went is not lost")
		require.LessOrEqual(t, gone, due.Rows)

		job.Journal, job.Most = NewJournal(), due.Rows+1
		if _, err = sweeper(t, c).Sweep(context.Background(), job); sliced {
			for n := 0; n < maxSlices && err != nil; n++ {
				require.ErrorIs(t, err, connectors.ErrYield)
				_, err = sweeper(t, c).Sweep(context.Background(), job)
			}
		}
		require.NoError(t, err)
		require.NotContains(t, w.dump(t)["accounts"], "90")
		require.NoError(t, c.Close())
	}
}
