package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/retention"
)

// dates compares times as instants and by the day they show, which depends on their zone.
var dates = cmp.Comparer(func(a, b time.Time) bool {
	return a.Equal(b) && a.Format(time.DateOnly) == b.Format(time.DateOnly)
})

func testRequestRoundTrip(t *testing.T, s *store.Store) {
	plain := request(1)
	full := request(2)
	to, later := noon.Add(time.Hour), noon.Add(24*time.Hour)
	full.Tenant, full.Ground, full.Article, full.Reason, full.Hint = "acme", "b", "17(3)(b)", "drift", "look again"
	full.Scope = dsr.Scope{Systems: []string{"shop", "crm"}, Purposes: []string{"marketing"}}
	full.PlanHash, full.ApprovedHash, full.ApprovedBy, full.Duplicate = "h1", "h1", "prn_dpo", "req_0001"
	full.Clock.Extended = true
	full.Clock.Pauses = []dsr.Pause{{From: noon, To: &to, Reason: "identity"}, {From: to, Reason: "clarification"}}
	full.DeferTo, full.ClosedAt = &later, &later
	for _, want := range []*dsr.Request{plain, full} {
		in(t, s, func(tx engine.Tx) { require.NoError(t, tx.InsertRequest(want)) })
		in(t, s, func(tx engine.Tx) {
			got, err := tx.Request(want.ID)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(want, got, dates))
		})
	}

	plain.State, plain.PlanHash, plain.Clock.Pauses = dsr.AwaitingReview, "h2", full.Clock.Pauses
	full.DeferTo, full.Scope, full.State = nil, dsr.Scope{}, dsr.Completed
	in(t, s, func(tx engine.Tx) { require.NoError(t, tx.UpdateRequests(full, plain)) })
	require.EqualValues(t, 2, plain.Version)
	in(t, s, func(tx engine.Tx) {
		got, err := tx.LockRequests(full.ID, plain.ID)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]*dsr.Request{plain, full}, got, dates))
	})
}

func testOptimisticLock(t *testing.T, s *store.Store) {
	rs, _ := seed(t, s, 2)
	stale := *rs[0]
	in(t, s, func(tx engine.Tx) { require.NoError(t, tx.UpdateRequests(rs[0])) })

	stale.State, rs[1].State = dsr.Cancelled, dsr.Cancelled
	err := s.InTx(t.Context(), func(tx engine.Tx) error { return tx.UpdateRequests(&stale, rs[1]) })
	require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err))
	in(t, s, func(tx engine.Tx) {
		for _, r := range rs {
			got, err := tx.Request(r.ID)
			require.NoError(t, err)
			require.Equal(t, dsr.Discovering, got.State, "nothing of a conflicting update is kept")
		}
	})
	require.EqualValues(t, 1, stale.Version)
}

func testLockRequests(t *testing.T, s *store.Store) {
	rs, _ := seed(t, s, 2)
	// Two transactions read, think and write; without the lock one of the ten changes would be lost or refused.
	const writers = 10
	errs := make(chan error, writers)
	for range writers {
		go func() {
			errs <- s.InTx(context.WithoutCancel(t.Context()), func(tx engine.Tx) error {
				locked, err := tx.LockRequests(rs[1].ID, rs[0].ID)
				if err != nil {
					return err
				}
				for _, r := range locked {
					r.Round++
				}
				return tx.UpdateRequests(locked...)
			})
		}()
	}
	for range writers {
		require.NoError(t, <-errs)
	}
	in(t, s, func(tx engine.Tx) {
		got, err := tx.LockRequests(rs[0].ID, "req_absent", rs[1].ID)
		require.NoError(t, err)
		require.Len(t, got, 2)
		require.Equal(t, rs[0].ID, got[0].ID)
		for _, r := range got {
			require.Equal(t, 1+writers, r.Round)
		}
	})
}

func testPaging(t *testing.T, s *store.Store) {
	const n = 25
	in(t, s, func(tx engine.Tx) {
		for i := range n {
			r := request(n - i)
			r.Clock.Due = request((n - i) / 5).Clock.Due // several share a deadline
			require.NoError(t, tx.InsertRequest(r))
		}
	})
	var got []*dsr.Request
	cursor, pages := "", 0
	for {
		in(t, s, func(tx engine.Tx) {
			page, next, err := tx.ListRequests(engine.RequestFilter{Limit: 4, Cursor: cursor})
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), 4)
			got, cursor = append(got, page...), next
		})
		pages++
		if pages == 2 { // one that is due first appears while pages are read: nothing is repeated or lost
			early := request(0)
			early.ID = "req_early"
			in(t, s, func(tx engine.Tx) { require.NoError(t, tx.InsertRequest(early)) })
		}
		if cursor == "" {
			break
		}
	}
	require.Len(t, got, n)
	require.Equal(t, 7, pages)
	for i := 1; i < len(got); i++ {
		a, b := got[i-1], got[i]
		ordered := a.Clock.Due.Before(b.Clock.Due) || a.Clock.Due.Equal(b.Clock.Due) && a.ID < b.ID
		require.True(t, ordered, "%s before %s", a.ID, b.ID)
	}
	for _, cursor := range []string{"x", "!!", "e30"} {
		err := s.InTx(t.Context(), func(tx engine.Tx) error {
			_, _, err := tx.ListRequests(engine.RequestFilter{Cursor: cursor})
			return err
		})
		require.Equal(t, dsr.CodeInvalid, dsr.CodeOf(err), cursor)
	}
}

func testFilters(t *testing.T, s *store.Store) {
	in(t, s, func(tx engine.Tx) {
		for i := range 4 {
			r := request(i)
			if i%2 == 1 {
				r.Kind, r.Tenant = dsr.Access, "acme"
			}
			if i == 3 {
				r.State, r.FiledBy = dsr.AwaitingReview, "prn_other"
			}
			require.NoError(t, tx.InsertRequest(r))
			require.NoError(t, tx.AddIdentifiers(engine.SealedIdentifier{
				Request: r.ID, Name: "email", Origin: dsr.Known, Ciphertext: []byte{1}, KeyID: "k1",
				Commitment: []string{"even", "odd"}[i%2],
			}))
		}
		for _, c := range []struct {
			filter engine.RequestFilter
			want   []string
		}{
			{engine.RequestFilter{}, []string{"req_0000", "req_0001", "req_0002", "req_0003"}},
			{engine.RequestFilter{Kind: dsr.Access}, []string{"req_0001", "req_0003"}},
			{engine.RequestFilter{States: []dsr.State{dsr.AwaitingReview, dsr.Running}}, []string{"req_0003"}},
			{engine.RequestFilter{Tenants: []string{"acme"}}, []string{"req_0001", "req_0003"}},
			{engine.RequestFilter{Tenants: []string{}}, nil},
			{engine.RequestFilter{FiledBy: "prn_other"}, []string{"req_0003"}},
			{engine.RequestFilter{Commitment: "even"}, []string{"req_0000", "req_0002"}},
			{engine.RequestFilter{Commitment: "odd", FiledBy: "prn_portal"}, []string{"req_0001"}},
		} {
			page, _, err := tx.ListRequests(c.filter)
			require.NoError(t, err)
			var got []string
			for _, r := range page {
				got = append(got, r.ID)
			}
			require.Equal(t, c.want, got, "%+v", c.filter)
		}
	})
}

func testOpenRequests(t *testing.T, s *store.Store) {
	in(t, s, func(tx engine.Tx) {
		for i, r := range []*dsr.Request{request(0), request(1), request(2), request(3)} {
			switch i {
			case 1:
				r.State, r.ClosedAt = dsr.Completed, &noon
			case 2:
				r.Tenant = "acme"
			case 3:
				r.Kind = dsr.Access
			}
			require.NoError(t, tx.InsertRequest(r))
			for _, c := range []string{"c1", "c2"} {
				require.NoError(t, tx.AddIdentifiers(engine.SealedIdentifier{Request: r.ID, Name: "email", Commitment: c}))
			}
		}
		open := func(kind dsr.Kind, tenant string, commitments ...string) []string {
			ids, err := tx.OpenRequests(kind, tenant, commitments)
			require.NoError(t, err)
			return ids
		}
		require.Equal(t, []string{"req_0000"}, open(dsr.Erasure, "", "c2", "c1"))
		require.Equal(t, []string{"req_0002"}, open(dsr.Erasure, "acme", "c1"))
		require.Equal(t, []string{"req_0003"}, open(dsr.Access, "", "c1"))
		require.Empty(t, open(dsr.Erasure, "", "c3"))
		require.Empty(t, open(dsr.Erasure, ""))
		for _, odd := range []string{`a"b`, `a\b`, "{a,b}", "NULL", "", "å, ö"} {
			require.NoError(t, tx.AddIdentifiers(engine.SealedIdentifier{Request: "req_0000", Name: "email", Commitment: odd}))
			require.Equal(t, []string{"req_0000"}, open(dsr.Erasure, "", "c3", odd), "%q", odd)
		}

		n, err := tx.CountRequestsSince(dsr.Erasure, noon)
		require.NoError(t, err)
		require.EqualValues(t, 3, n)
		n, err = tx.CountRequestsSince(dsr.Erasure, noon.Add(time.Microsecond))
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func testDuplicatesAtOnce(t *testing.T, s *store.Store) {
	const callers = 6
	alone := make(chan bool, callers)
	for i := range callers {
		go func() {
			var first bool
			err := s.InTx(context.WithoutCancel(t.Context()), func(tx engine.Tx) error {
				open, err := tx.OpenRequests(dsr.Erasure, "", []string{"c1", "c2"})
				if err != nil {
					return err
				}
				first = len(open) == 0
				r := request(i)
				return errors.Join(tx.InsertRequest(r), tx.AddIdentifiers(sealed(r, "email", "c1")))
			})
			alone <- first && err == nil
		}()
	}
	n := 0
	for range callers {
		if <-alone {
			n++
		}
	}
	require.Equal(t, 1, n)
}

func testStats(t *testing.T, s *store.Store) {
	rs, ts := seed(t, s, 4)
	rs[0].State, rs[0].ClosedAt = dsr.Completed, &noon
	ts[0].State, ts[1].State, ts[2].State = dsr.TaskDone, dsr.TaskFailed, dsr.TaskClaimed
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.UpdateRequests(rs[0]))
		require.NoError(t, tx.UpdateTasks(ts...))
		got, err := tx.Stats(noon)
		require.NoError(t, err)
		due := rs[1].Clock.Due
		require.Empty(t, cmp.Diff(engine.Stats{
			Open:       map[dsr.Kind]map[dsr.State]int64{dsr.Erasure: {dsr.Discovering: 3}},
			NearestDue: &due,
			Pending:    map[string]int64{"shop": 2},
			Failed:     map[string]int64{"shop": 1},
			Sweeps:     map[retention.SweepState]int64{},
		}, got, dates))
	})
}

func testNotFound(t *testing.T, s *store.Store) {
	for name, read := range map[string]func(engine.Tx) error{
		"request": func(tx engine.Tx) error { _, err := tx.Request("x"); return err },
		"plan":    func(tx engine.Tx) error { _, _, err := tx.PlanOf("x"); return err },
		"run":     func(tx engine.Tx) error { _, err := tx.AcquireRun("x", 0, noon, time.Minute); return err },
		"map":     func(tx engine.Tx) error { _, err := tx.Map(7); return err },
		"latest":  func(tx engine.Tx) error { _, err := tx.LatestMap(); return err },
		"package": func(tx engine.Tx) error { _, err := tx.PackageOf("x"); return err },
		"link":    func(tx engine.Tx) error { _, err := tx.TakeLink("x", noon); return err },
		"task":    func(tx engine.Tx) error { return tx.UpdateTasks(task(request(1), "shop")) },
	} {
		require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(s.InTx(t.Context(), read)), name)
	}
}
