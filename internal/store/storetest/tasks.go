package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/store"
)

func testTasks(t *testing.T, s *store.Store) {
	rs, _ := seed(t, s, 2)
	full := task(rs[0], "crm")
	full.Reason, full.Hint, full.Attempt = "unreachable", "start it", 2
	full.Receipt = &dsr.Receipt{
		Request: rs[0].ID, System: "crm", Residue: 1, Started: noon, Finished: noon,
		Lines: []dsr.ReceiptLine{{Entity: "people", Method: dsr.Delete, Count: 3, Resolved: 1}},
	}
	full.Residue = []dsr.Residue{{Subject: full.ID, System: "crm", Entity: "people", Field: "email", Count: 1}}
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.InsertTasks(full))
		got, err := tx.TasksOf(rs[1].ID, rs[0].ID)
		require.NoError(t, err)
		require.Len(t, got, 3)
		require.Empty(t, cmp.Diff(full, got[0], dates), "ordered by request and system")

		got[0].Receipt, got[0].Residue, got[0].Phase, got[0].Run = nil, nil, dsr.PhaseVerify, "run_1"
		got[2].State, got[2].Receipt = dsr.TaskDone, full.Receipt
		require.NoError(t, tx.UpdateTasks(got[2], got[0]))
		again, err := tx.TasksOf(rs[0].ID, rs[1].ID)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(got, again, dates))

		members, err := tx.RunTasks("run_1")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(got[:1], members, dates))
		members, err = tx.RunTasks("")
		require.NoError(t, err)
		require.Empty(t, members)
	})
	err := s.InTx(t.Context(), func(tx engine.Tx) error { return tx.InsertTasks(full) })
	require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err), "one task per request and system")
}

func testClaimConcurrently(t *testing.T, s *store.Store) {
	const tasks, claimers = 60, 6
	seed(t, s, tasks)
	type claim struct {
		ids []string
		err error
	}
	claims := make(chan claim, claimers)
	for i := range claimers {
		go func() {
			var c claim
			for {
				var got []*dsr.Task
				c.err = s.InTx(context.WithoutCancel(t.Context()), func(tx engine.Tx) (err error) {
					got, err = tx.ClaimTasks(fmt.Sprintf("run_%d", i), "shop", dsr.PhaseLocate, 1, noon, 7)
					return err
				})
				if c.err != nil || len(got) == 0 {
					claims <- c
					return
				}
				for _, k := range got {
					c.ids = append(c.ids, k.ID)
				}
			}
		}()
	}
	owner := map[string]bool{}
	for range claimers {
		c := <-claims
		require.NoError(t, c.err)
		for _, id := range c.ids {
			require.False(t, owner[id], "%s was claimed twice", id)
			owner[id] = true
		}
	}
	require.Len(t, owner, tasks)
}

func testClaimSelects(t *testing.T, s *store.Store) {
	rs, ts := seed(t, s, 6)
	other := task(rs[0], "crm")
	ts[1].NotBefore = noon.Add(time.Second)
	ts[2].Phase = dsr.PhaseErase
	ts[3].State = dsr.TaskDone
	rs[4].MapVersion = 2
	ts[5].NotBefore = time.Time{}
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.InsertTasks(other))
		require.NoError(t, tx.UpdateTasks(ts...))
		require.NoError(t, tx.UpdateRequests(rs[4]))

		versions, err := tx.PendingMapVersions("shop", dsr.PhaseLocate, noon)
		require.NoError(t, err)
		require.Equal(t, []int{1, 2}, versions)
		versions, err = tx.PendingMapVersions("shop", dsr.PhaseExport, noon)
		require.NoError(t, err)
		require.Empty(t, versions)

		claim := func(version, limit int, now time.Time) (ids []string) {
			got, err := tx.ClaimTasks("run_1", "shop", dsr.PhaseLocate, version, now, limit)
			require.NoError(t, err)
			for _, k := range got {
				require.Equal(t, dsr.TaskClaimed, k.State)
				require.Equal(t, "run_1", k.Run)
				require.True(t, k.Updated.Equal(now))
				ids = append(ids, k.Request)
			}
			return ids
		}
		require.Equal(t, []string{rs[5].ID}, claim(1, 1, noon), "what has waited longest goes first")
		require.Equal(t, []string{rs[0].ID}, claim(1, 100, noon))
		require.Empty(t, claim(1, 100, noon))
		require.Equal(t, []string{rs[1].ID}, claim(1, 100, noon.Add(time.Second)))
		require.Equal(t, []string{rs[4].ID}, claim(2, 100, noon))
	})
}

func testFencing(t *testing.T, s *store.Store) {
	_, ts := seed(t, s, 1)
	tally := []connectors.Tally{{Subject: ts[0].ID, Entity: "orders", Method: dsr.Delete, Rows: 5}}
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.InsertRun(&dsr.Run{
			ID: "run_1", System: "shop", Phase: dsr.PhaseErase, MapVersion: 1, Fence: 1, LeaseUntil: noon.Add(time.Minute),
		}))
		_, err := tx.AcquireRun("run_1", 0, noon, time.Minute)
		require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err), "somebody else holds it")

		held, err := tx.AcquireRun("run_1", 1, noon, time.Minute)
		require.NoError(t, err)
		require.EqualValues(t, 2, held.Fence)
		require.NoError(t, tx.SaveRun("run_1", 2, noon.Add(time.Minute), []byte("half"), tally))

		expired, err := tx.ExpiredRuns(noon, 10)
		require.NoError(t, err)
		require.Empty(t, expired)
		expired, err = tx.ExpiredRuns(noon.Add(time.Hour), 10)
		require.NoError(t, err)
		require.Len(t, expired, 1)

		require.NoError(t, tx.KeepRun("run_1", 2, noon.Add(30*time.Minute)))
		_, err = tx.AcquireRun("run_1", 0, noon.Add(10*time.Minute), time.Minute)
		require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err), "its worker gave a sign of life")

		taken, err := tx.AcquireRun("run_1", 0, noon.Add(time.Hour), time.Minute)
		require.NoError(t, err, "its lease had ended")
		require.Empty(t, cmp.Diff(&dsr.Run{
			ID: "run_1", System: "shop", Phase: dsr.PhaseErase, MapVersion: 1, Fence: 3,
			LeaseUntil: noon.Add(time.Hour + time.Minute), Checkpoint: []byte("half"),
		}, taken, dates))
	})
	// The worker that was taken over.
	err := s.InTx(t.Context(), func(tx engine.Tx) error {
		return tx.SaveRun("run_1", 2, noon.Add(2*time.Hour), []byte("old"), tally)
	})
	require.ErrorIs(t, err, connectors.ErrFenced)
	err = s.InTx(t.Context(), func(tx engine.Tx) error { return tx.KeepRun("run_1", 2, noon.Add(2*time.Hour)) })
	require.ErrorIs(t, err, connectors.ErrFenced)
	err = s.InTx(t.Context(), func(tx engine.Tx) error { return tx.FinishRun("run_1", 2) })
	require.ErrorIs(t, err, connectors.ErrFenced)

	in(t, s, func(tx engine.Tx) {
		tallies, err := tx.TalliesOf(ts[0].ID)
		require.NoError(t, err)
		require.Equal(t, tally, tallies)
		require.NoError(t, tx.FinishRun("run_1", 3))
		_, err = tx.AcquireRun("run_1", 3, noon.Add(2*time.Hour), time.Minute)
		require.Equal(t, dsr.CodeWrongState, dsr.CodeOf(err), "a run that is done stays done")
		expired, err := tx.ExpiredRuns(noon.Add(24*time.Hour), 10)
		require.NoError(t, err)
		require.Empty(t, expired)
	})
	require.Zero(t, count(t.Context(), t, s, "SELECT count(*) FROM runs WHERE checkpoint IS NOT NULL"))
}

func testTallies(t *testing.T, s *store.Store) {
	_, ts := seed(t, s, 2)
	a, b := ts[0].ID, ts[1].ID
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.InsertRun(&dsr.Run{ID: "run_1", Fence: 1}))
		require.NoError(t, tx.SaveRun("run_1", 1, noon, nil, []connectors.Tally{
			{Subject: a, Entity: "orders", Method: dsr.Delete, Rows: 2},
			{Subject: b, Entity: "orders", Method: dsr.Delete, Rows: 1},
			{Subject: a, Entity: "orders", Method: dsr.Delete, Rows: 3},
			{Subject: a, Entity: "orders", Method: dsr.Delete, Rows: 7, Resolved: true},
		}))
		require.NoError(t, tx.SaveRun("run_1", 1, noon, nil, []connectors.Tally{
			{Subject: a, Entity: "orders", Method: dsr.Delete, Rows: 10},
			{Subject: a, Entity: "orders", Method: dsr.Mask, Rows: 1},
		}))
		got, err := tx.TalliesOf(a, b)
		require.NoError(t, err)
		require.Equal(t, []connectors.Tally{
			{Subject: a, Entity: "orders", Method: dsr.Delete, Rows: 15},
			{Subject: a, Entity: "orders", Method: dsr.Delete, Rows: 7, Resolved: true},
			{Subject: a, Entity: "orders", Method: dsr.Mask, Rows: 1},
			{Subject: b, Entity: "orders", Method: dsr.Delete, Rows: 1},
		}, got)
	})
}

func testSpool(t *testing.T, s *store.Store) {
	_, ts := seed(t, s, 3)
	a, b := ts[0].ID, ts[1].ID
	const pages = 100
	in(t, s, func(tx engine.Tx) {
		for i := range pages / 2 {
			require.NoError(t, tx.AppendSpool([]string{a, b}[i%2], "orders", []byte{byte(i)}))
		}
		var rest []engine.SpoolPage
		for i := pages / 2; i < pages; i++ {
			rest = append(rest, engine.SpoolPage{Task: []string{a, b}[i%2], Entity: "orders", Page: []byte{byte(i)}})
		}
		require.NoError(t, tx.AppendSpools(rest...))
		require.NoError(t, tx.AppendSpool(a, "messages", []byte("x")))
		require.NoError(t, tx.AppendSpool(ts[2].ID, "orders", []byte("y")))
	})
	in(t, s, func(tx engine.Tx) {
		next := byte(0)
		require.NoError(t, tx.EachSpool([]string{b, a}, "orders", func(task string, page []byte) error {
			require.Equal(t, []byte{next}, page)
			require.Equal(t, []string{a, b}[next%2], task)
			next++
			_, err := tx.TasksOf(ts[0].Request) // the transaction can be used meanwhile
			return err
		}))
		require.EqualValues(t, pages, next)

		stop := errors.New("stop")
		require.ErrorIs(t, tx.EachSpool([]string{a}, "orders", func(string, []byte) error { return stop }), stop)
		require.NoError(t, tx.DropSpool(a, b))
	})
	require.Equal(t, 1, count(t.Context(), t, s, "SELECT count(*) FROM spool"))
}
