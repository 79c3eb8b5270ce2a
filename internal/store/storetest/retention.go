package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/retention"
)

func hold(n int) *dsr.Hold {
	return &dsr.Hold{
		ID: fmt.Sprintf("hold_%04d", n), Tenant: "acme", Reference: "T 12-34", Review: noon.AddDate(0, n, 0),
		PlacedBy: "prn_dpo", CreatedAt: noon, Version: 1,
	}
}

func sealedOf(h *dsr.Hold, name, commitment string) engine.SealedIdentifier {
	return engine.SealedIdentifier{
		Request: h.ID, Name: name, Origin: dsr.Known, Ciphertext: []byte("sealed " + h.ID + name), KeyID: "k7",
		Commitment: commitment,
	}
}

func testHolds(t *testing.T, s *store.Store) {
	subject, table, restricted := hold(1), hold(2), hold(3)
	table.Tenant, table.System, table.Entity = "", "shop", "orders"
	table.When = []dsr.Condition{{Field: "status", Values: []string{"disputed", "open"}}, {Field: "closed_at", Null: true}}
	restricted.Restriction, restricted.Review, restricted.Request, restricted.Unlearned = true, time.Time{}, "req_0001", "pending"
	a, b, c := sealedOf(subject, "user_id", "c2"), sealedOf(subject, "email", "c1"), sealedOf(restricted, "email", "c1")
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.InsertHold(subject, []byte("w1")))
		require.NoError(t, tx.InsertHold(table, nil))
		require.NoError(t, tx.InsertHold(restricted, []byte("w3")))
		require.NoError(t, tx.AddHoldIdentifiers(a, b, c))
		again := a
		again.Ciphertext = []byte("another")
		require.NoError(t, tx.AddHoldIdentifiers(again), "twice is once")

		subject.Commitments, restricted.Commitments = []string{"c2", "c1"}, []string{"c1"}
		open, err := tx.OpenHolds()
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]engine.SealedHold{
			{Hold: subject, Sealed: []engine.SealedIdentifier{a, b}, DataKey: []byte("w1")},
			{Hold: table},
			{Hold: restricted, Sealed: []engine.SealedIdentifier{c}, DataKey: []byte("w3")},
		}, open))
		restricted.Unlearned = "unavailable"
		require.NoError(t, tx.SetUnlearned(restricted.ID, restricted.Unlearned))
		now, err := tx.HoldOf(restricted.ID)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(restricted, now), "its version stays")
		lasting, err := tx.LastingHolds()
		require.NoError(t, err)
		require.ElementsMatch(t, []string{subject.ID, table.ID, restricted.ID}, lasting)

		on, err := tx.HoldsOn("acme", []string{"c1", "c9"})
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]*dsr.Hold{subject, restricted}, on))
		for tenant, commitments := range map[string][]string{"other": {"c1"}, "acme": {"c9"}, "": nil} {
			on, err = tx.HoldsOn(tenant, commitments)
			require.NoError(t, err)
			require.Empty(t, on)
		}

		stats, err := tx.Stats(noon.AddDate(0, 1, 1))
		require.NoError(t, err)
		require.Equal(t, [3]int64{2, 1, 1}, [3]int64{stats.LegalHolds, stats.Restrictions, stats.OverdueHolds})

		for name, c := range map[string]struct {
			f    engine.HoldSelection
			want []*dsr.Hold
		}{
			"newest first": {engine.HoldSelection{}, []*dsr.Hold{restricted, table, subject}},
			"overdue":      {engine.HoldSelection{Overdue: &restricted.CreatedAt}, nil},
			"tenant":       {engine.HoldSelection{Tenants: []string{""}}, []*dsr.Hold{table}},
			"system":       {engine.HoldSelection{System: "shop"}, []*dsr.Hold{table}},
			"identifier":   {engine.HoldSelection{Commitments: []string{"c2"}}, []*dsr.Hold{subject}},
			"request":      {engine.HoldSelection{Request: "req_0001"}, []*dsr.Hold{restricted}},
			"lifted":       {engine.HoldSelection{Lifted: true}, nil},
		} {
			page, next, err := tx.ListHolds(c.f)
			require.NoError(t, err)
			require.Empty(t, next)
			require.Len(t, page, len(c.want), name)
			for i := range page {
				require.Empty(t, cmp.Diff(c.want[i], page[i]), name)
			}
		}
		first, next, err := tx.ListHolds(engine.HoldSelection{Limit: 2})
		require.NoError(t, err)
		require.Len(t, first, 2)
		rest, next, err := tx.ListHolds(engine.HoldSelection{Limit: 2, Cursor: next})
		require.NoError(t, err)
		require.Empty(t, next)
		require.Equal(t, []*dsr.Hold{subject}, rest)
	})
	at := noon.Add(time.Hour)
	in(t, s, func(tx engine.Tx) {
		subject.LiftedAt, subject.LiftedBy = &at, "prn_dpo"
		require.NoError(t, tx.UpdateHold(subject))
		require.NoError(t, tx.ForgetHold(subject.ID))
		require.NoError(t, tx.ForgetHold(subject.ID), "twice is once")
		got, err := tx.HoldOf(subject.ID)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(subject, got), "its commitments stay for its retention")
		on, err := tx.HoldsOn("acme", []string{"c1"})
		require.NoError(t, err)
		require.Len(t, on, 1)
	})
	err := s.InTx(t.Context(), func(tx engine.Tx) error {
		stale := *subject
		stale.Version = 1
		return tx.UpdateHold(&stale)
	})
	require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err))
	require.Equal(t, 2, count(t.Context(), t, s, "SELECT count(*) FROM hold_identifiers WHERE ciphertext IS NULL"))
	require.Equal(t, 1, count(t.Context(), t, s, "SELECT count(*) FROM holds WHERE length(data_key) > 0"))
	keys, err := s.CommitmentKeysInUse(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"k7"}, keys)
	in(t, s, func(tx engine.Tx) {
		_, err := tx.Purge(at.Add(time.Second), at.Add(time.Second), 10)
		require.NoError(t, err)
		_, err = tx.HoldOf(subject.ID)
		require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err))
		_, err = tx.HoldOf(table.ID)
		require.NoError(t, err)
	})
}

func sweep(n int, rule string) *retention.Sweep {
	return &retention.Sweep{
		ID: fmt.Sprintf("swp_%04d", n), Rule: rule, System: "shop", Entity: "logins", Action: retention.Delete, RuleHash: "h1",
		MapVersion: 3, State: retention.SweepRunning, StartedBy: "lethe", Before: noon.AddDate(-1, 0, 0), CreatedAt: noon,
		UpdatedAt: noon, LeaseUntil: noon.Add(time.Minute), Fence: 1, Version: 1,
	}
}

func testSweeps(t *testing.T, s *store.Store) {
	a, b := sweep(1, "shop.logins.short"), sweep(2, "shop.orders.long")
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.InsertSweep(a))
		require.NoError(t, tx.InsertSweep(b))
		got, err := tx.Sweep(a.ID)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(a, got))
	})
	err := s.InTx(t.Context(), func(tx engine.Tx) error { return tx.InsertSweep(sweep(3, a.Rule)) })
	require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err), "one sweep of a rule at a time")

	due, left, ended := int64(41_200), int64(0), noon.Add(time.Hour)
	in(t, s, func(tx engine.Tx) {
		interrupted, err := tx.SaveSweep(a.ID, 1, noon.Add(2*time.Minute), []byte("sealed"), []connectors.Tally{
			{Entity: "logins", Method: dsr.Delete, Rows: 3},
			{Entity: "logins", Method: dsr.Delete, Rows: 2, Resolved: true},
			{Entity: "clicks", Method: dsr.Delete, Rows: 7},
		})
		require.NoError(t, err)
		require.False(t, interrupted)
		require.NoError(t, tx.InterruptSweeps(b.Rule))
		interrupted, err = tx.SaveSweep(a.ID, 1, noon.Add(2*time.Minute), []byte("sealed 2"), []connectors.Tally{
			{Entity: "logins", Method: dsr.Delete, Rows: 1},
		})
		require.NoError(t, err)
		require.False(t, interrupted, "another rule's")
		interrupted, err = tx.BeatSweep(b.ID, 1, noon.Add(2*time.Minute))
		require.NoError(t, err)
		require.True(t, interrupted)
		require.NoError(t, tx.InterruptSweeps(""))
		interrupted, err = tx.SaveSweep(a.ID, 1, noon.Add(2*time.Minute), []byte("sealed 3"), nil)
		require.NoError(t, err)
		require.True(t, interrupted)

		_, err = tx.AcquireSweep(a.ID, 0, noon, time.Minute)
		require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err), "its worker lives")
		got, err := tx.AcquireSweep(a.ID, 1, noon, time.Minute)
		require.NoError(t, err)
		require.EqualValues(t, 2, got.Fence)
		require.True(t, got.Works)
		require.Equal(t, "sealed 3", string(got.Checkpoint))
		interrupted, err = tx.BeatSweep(a.ID, 2, noon.Add(time.Minute))
		require.NoError(t, err)
		require.False(t, interrupted, "whoever acquires it looks by itself")
		_, err = tx.SaveSweep(a.ID, 1, noon, nil, nil)
		require.ErrorIs(t, err, connectors.ErrFenced)
		_, err = tx.BeatSweep(a.ID, 1, noon)
		require.ErrorIs(t, err, connectors.ErrFenced)

		expired, err := tx.ExpiredSweeps(noon.Add(time.Minute), 10)
		require.NoError(t, err)
		require.Len(t, expired, 1)
		require.Equal(t, a.ID, expired[0].ID)
		taken, err := tx.AcquireSweep(a.ID, 0, noon.Add(time.Minute), time.Minute)
		require.NoError(t, err)
		require.EqualValues(t, 3, taken.Fence)

		got, err = tx.LockSweep(a.ID)
		require.NoError(t, err)
		require.Equal(t, []dsr.ReceiptLine{
			{Entity: "clicks", Method: dsr.Delete, Count: 7}, {Entity: "logins", Method: dsr.Delete, Count: 6, Resolved: 2},
		}, got.Results)
		require.EqualValues(t, 13, got.Count(dsr.Delete))
		got.State, got.Due, got.Left, got.FinishedAt, got.BlockedBy = retention.SweepDone, &due, &left, &ended, []string{"orders"}
		got.Measures = retention.SweepMeasures{Bytes: 9, Longest: time.Millisecond, Pauses: map[string]time.Duration{"lag": time.Second}}
		got.ApprovedBy, got.Approved, got.Reason, got.Hint, got.Failures = "prn_dpo", 5, "r", "h", 2
		require.NoError(t, tx.UpdateSweep(got))
		require.EqualValues(t, 2, got.Version)
		read, err := tx.Sweep(a.ID)
		require.NoError(t, err)
		require.Nil(t, read.Checkpoint, "with its end the checkpoint goes")
		got.Checkpoint = nil
		require.Empty(t, cmp.Diff(got, read))

		_, err = tx.AcquireSweep(a.ID, 3, noon, time.Minute)
		require.Equal(t, dsr.CodeWrongState, dsr.CodeOf(err))
		_, err = tx.SaveSweep(a.ID, 3, noon, nil, nil)
		require.ErrorIs(t, err, connectors.ErrFenced, "it is over")

		c := sweep(3, a.Rule)
		require.NoError(t, tx.InsertSweep(c), "the first has come to its end")
		open, err := tx.OpenSweeps("")
		require.NoError(t, err)
		require.Equal(t, []string{b.ID, c.ID}, idsOf(open))
		open, err = tx.OpenSweeps(b.Rule)
		require.NoError(t, err)
		require.Equal(t, []string{b.ID}, idsOf(open))
		done, err := tx.DoneSweeps(a.Rule, 5)
		require.NoError(t, err)
		require.Equal(t, []string{a.ID}, idsOf(done))
		last, err := tx.LastSweeps()
		require.NoError(t, err)
		require.Equal(t, c.ID, last[a.Rule].ID)
		require.Equal(t, b.ID, last[b.Rule].ID)

		for name, f := range map[string]struct {
			f    engine.SweepFilter
			want []string
		}{
			"newest first": {engine.SweepFilter{}, []string{c.ID, b.ID, a.ID}},
			"rule":         {engine.SweepFilter{Rule: a.Rule}, []string{c.ID, a.ID}},
			"system":       {engine.SweepFilter{System: "other"}, nil},
			"state":        {engine.SweepFilter{States: []retention.SweepState{retention.SweepDone}}, []string{a.ID}},
			"cursor":       {engine.SweepFilter{Cursor: b.ID}, []string{a.ID}},
		} {
			page, next, err := tx.ListSweeps(f.f)
			require.NoError(t, err)
			require.Empty(t, next)
			require.Equal(t, f.want, idsOf(page), name)
		}
		page, next, err := tx.ListSweeps(engine.SweepFilter{Limit: 2})
		require.NoError(t, err)
		require.Equal(t, b.ID, next)
		require.Len(t, page, 2)

		stats, err := tx.Stats(noon)
		require.NoError(t, err)
		require.Equal(t, map[retention.SweepState]int64{retention.SweepRunning: 2}, stats.Sweeps)

		_, err = tx.Purge(ended.Add(time.Second), ended, 10)
		require.NoError(t, err)
		_, err = tx.Sweep(a.ID)
		require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err), "history has its end too")
	})
	require.Zero(t, count(t.Context(), t, s, "SELECT count(*) FROM sweep_tallies"))
}

func idsOf(ss []*retention.Sweep) []string {
	var ids []string
	for _, s := range ss {
		ids = append(ids, s.ID)
	}
	return ids
}

// Of many who start a Sweep of one rule at once, one does.
func testSweepsAtOnce(t *testing.T, s *store.Store) {
	const workers = 5
	errs := make(chan error, workers)
	for n := range workers {
		go func() {
			errs <- s.InTx(context.WithoutCancel(t.Context()), func(tx engine.Tx) error { return tx.InsertSweep(sweep(n, "r")) })
		}()
	}
	begun := 0
	for range workers {
		err := <-errs
		if err == nil {
			begun++
			continue
		}
		require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err))
	}
	require.Equal(t, 1, begun)
}

func testRules(t *testing.T, s *store.Store) {
	r := &retention.RuleState{Rule: "shop.logins.short", ApprovedHash: "h1", ApprovedBy: "prn_dpo", ApprovedAt: &noon}
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.PutRuleState(&retention.RuleState{Rule: "a"}))
		require.NoError(t, tx.PutRuleState(r))
		r.PausedBy, r.PausedAt, r.Counted, r.LastSuccess = "prn_ops", &noon, &noon, &noon
		r.Due, r.Held, r.Blocked, r.Backlog = 1, 2, 3, 4
		require.NoError(t, tx.PutRuleState(r))
		got, err := tx.RuleStates()
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(map[string]*retention.RuleState{"a": {Rule: "a"}, r.Rule: r}, got))
		stats, err := tx.Stats(noon)
		require.NoError(t, err)
		require.Equal(t, []retention.RuleState{{Rule: "a"}, *r}, stats.Rules)
		require.False(t, stats.SweepsHalted)

		stop, err := tx.Stopped(engine.StopOfSweeps)
		require.NoError(t, err)
		require.Nil(t, stop)
		first := engine.Stop{By: "prn_ops", At: noon, Reason: "incident"}
		require.NoError(t, tx.PutStop(engine.StopOfSweeps, first))
		require.NoError(t, tx.PutStop(engine.StopOfSweeps, engine.Stop{By: "another", At: noon, Reason: "x"}))
		stop, err = tx.Stopped(engine.StopOfSweeps)
		require.NoError(t, err)
		require.Equal(t, &first, stop)
		stats, err = tx.Stats(noon)
		require.NoError(t, err)
		require.True(t, stats.SweepsHalted)
		require.NoError(t, tx.DropStop(engine.StopOfSweeps))
		require.NoError(t, tx.DropStop(engine.StopOfSweeps), "twice is once")
		stop, err = tx.Stopped(engine.StopOfSweeps)
		require.NoError(t, err)
		require.Nil(t, stop)
	})
}

func testClock(t *testing.T, s *store.Store) {
	in(t, s, func(tx engine.Tx) {
		at, err := tx.Clock()
		require.NoError(t, err)
		require.Equal(t, s.Pool() == nil, at.IsZero(), "SQLite has no clock but this machine's")
		if s.Pool() != nil {
			require.WithinDuration(t, time.Now(), at, time.Hour)
		}
	})
}
