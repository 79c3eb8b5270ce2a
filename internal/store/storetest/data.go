package storetest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/store"
)

func sealed(r *dsr.Request, name, commitment string) engine.SealedIdentifier {
	return engine.SealedIdentifier{
		Request: r.ID, Name: name, Origin: dsr.Learned, Source: "shop.customers", Ciphertext: []byte("sealed " + r.ID + name),
		KeyID: "k1", Commitment: commitment,
	}
}

func testIdentifiers(t *testing.T, s *store.Store) {
	rs, _ := seed(t, s, 2)
	a, b, c := sealed(rs[0], "user_id", "c2"), sealed(rs[0], "email", "c1"), sealed(rs[1], "email", "c1")
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.AddIdentifiers(a, b, c))
		again := a
		again.Ciphertext = []byte("another")
		require.NoError(t, tx.AddIdentifiers(again))
		require.NoError(t, tx.AddIdentifiers())
		got, err := tx.IdentifiersOf(rs[0].ID, rs[1].ID, "req_absent")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(map[string][]engine.SealedIdentifier{rs[0].ID: {a, b}, rs[1].ID: {c}}, got))

		require.NoError(t, tx.PutDataKey(rs[0].ID, []byte("w1")))
		require.NoError(t, tx.PutDataKey(rs[0].ID, []byte("w2")))
		keys, err := tx.DataKeys(rs[0].ID, rs[1].ID)
		require.NoError(t, err)
		require.Equal(t, map[string][]byte{rs[0].ID: []byte("w2")}, keys)
	})
}

func testForget(t *testing.T, s *store.Store) {
	rs, _ := seed(t, s, 2)
	in(t, s, func(tx engine.Tx) {
		for _, r := range rs {
			require.NoError(t, tx.AddIdentifiers(sealed(r, "email", "c1"), sealed(r, "user_id", "c2")))
			require.NoError(t, tx.PutDataKey(r.ID, []byte("wrapped "+r.ID)))
		}
		require.NoError(t, tx.ForgetBut(rs[0].ID, []string{"email"}))
		got, err := tx.IdentifiersOf(rs[0].ID)
		require.NoError(t, err)
		for _, i := range got[rs[0].ID] {
			require.Equal(t, i.Name == "email", i.Ciphertext != nil, i.Name)
		}
		require.NoError(t, tx.ForgetBut(rs[0].ID, nil))
		got, err = tx.IdentifiersOf(rs[0].ID)
		require.NoError(t, err)
		for _, i := range got[rs[0].ID] {
			require.Nil(t, i.Ciphertext, i.Name)
		}
		require.NoError(t, tx.Forget(rs[0].ID))
		require.NoError(t, tx.Forget(rs[0].ID), "twice is once")
		got, err = tx.IdentifiersOf(rs[0].ID, rs[1].ID)
		require.NoError(t, err)
		for _, i := range got[rs[0].ID] {
			require.Nil(t, i.Ciphertext)
			require.NotEmpty(t, i.Commitment, "commitments stay for the request's retention")
		}
		require.NotEmpty(t, got[rs[1].ID][0].Ciphertext, "others are not touched")
		keys, err := tx.DataKeys(rs[0].ID, rs[1].ID)
		require.NoError(t, err)
		require.Len(t, keys, 1)
	})
	require.Equal(t, 2, count(t.Context(), t, s, "SELECT count(*) FROM identifiers WHERE ciphertext IS NULL"))
	require.Equal(t, 1, count(t.Context(), t, s, "SELECT count(*) FROM data_keys"))
	if s.Pool() != nil {
		return // PostgreSQL overwrites a dead row when it is vacuumed; docs/ARCHITECTURE.md says so
	}
	// SQLite overwrites at once, and its log is emptied by a checkpoint: look into the files themselves.
	_, err := s.SQLite().Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err)
	var name string
	require.NoError(t, s.SQLite().QueryRow("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&name))
	for _, path := range []string{name, name + "-wal"} {
		body, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(body), "wrapped "+rs[0].ID)
		require.NotContains(t, string(body), "sealed "+rs[0].ID)
		if path == name {
			require.Contains(t, string(body), "wrapped "+rs[1].ID, "or the search could not find anything")
			require.Contains(t, string(body), "sealed "+rs[1].ID)
		}
	}
}

func testTimelineAndPlan(t *testing.T, s *store.Store) {
	rs, _ := seed(t, s, 2)
	es := []dsr.Event{
		{Request: rs[0].ID, At: noon, Actor: "lethe", Type: "filed", To: dsr.Discovering},
		{Request: rs[1].ID, At: noon, Actor: "lethe", Type: "filed"},
		{
			Request: rs[0].ID, At: noon.Add(time.Second), Actor: "prn_dpo", Type: "planned", From: dsr.Discovering,
			To: dsr.AwaitingReview, Detail: map[string]string{"hash": "h1"},
		},
	}
	ends := noon.AddDate(7, 0, 0)
	plan := &dsr.Plan{
		Request: rs[0].ID, Kind: dsr.Erasure, MapVersion: 1, MapHash: "m1", Commitments: []string{"c1", "c2"},
		Lines: []dsr.PlanLine{
			{System: "shop", Entity: "customers", Method: dsr.Delete, Count: 1},
			{
				System: "shop", Entity: "orders", Method: dsr.Keep, Count: 4,
				Exception: &dsr.Exception{Article: "17(3)(b)", Statute: "Bokföringslag 7:2", Class: "accounting", Ends: &ends},
			},
		},
		Unsearched: []string{"shop.orders.note"}, Copies: []dsr.Copy{{System: "shop", What: "backups", Ends: "P35D"}},
		CreatedAt: noon,
	}
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.AddEvents(es...))
		got, err := tx.Events(rs[0].ID, 0, 10)
		require.NoError(t, err)
		require.Len(t, got, 2)
		require.Less(t, got[0].ID, got[1].ID)
		tail, err := tx.Events(rs[0].ID, got[0].ID, 10)
		require.NoError(t, err)
		require.Equal(t, got[1:], tail)
		first, err := tx.Events(rs[0].ID, 0, 1)
		require.NoError(t, err)
		require.Equal(t, got[:1], first)
		got[0].ID, got[1].ID = 0, 0
		require.Empty(t, cmp.Diff([]dsr.Event{es[0], es[2]}, got, dates))

		require.NoError(t, tx.PutPlan("h0", &dsr.Plan{Request: rs[0].ID}))
		require.NoError(t, tx.PutPlan("h1", plan))
		hash, stored, err := tx.PlanOf(rs[0].ID)
		require.NoError(t, err)
		require.Equal(t, "h1", hash)
		require.Empty(t, cmp.Diff(plan, stored, dates))

		other := &dsr.Plan{Request: rs[1].ID, Kind: dsr.Access}
		plan.MapVersion = 2
		require.NoError(t, tx.PutPlans(plan, other))
		require.NoError(t, tx.PutPlans())
		all, err := tx.PlansOf(rs[0].ID, rs[1].ID, "req_absent")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(map[string]*dsr.Plan{rs[0].ID: plan, rs[1].ID: other}, all, dates))
		hash, _, err = tx.PlanOf(rs[1].ID)
		require.NoError(t, err)
		require.Equal(t, other.Hash(), hash)
	})
}

func testMaps(t *testing.T, s *store.Store) {
	in(t, s, func(tx engine.Tx) {
		for _, c := range []struct {
			hash string
			want int
		}{{"h1", 1}, {"h1", 1}, {"h2", 2}, {"h1", 3}} {
			v, err := tx.PutMap(c.hash, []byte("version: 1 # "+c.hash), noon)
			require.NoError(t, err)
			require.Equal(t, c.want, v)
		}
		m, err := tx.Map(2)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(&engine.StoredMap{Version: 2, Hash: "h2", YAML: []byte("version: 1 # h2"), At: noon}, m))
		m, err = tx.LatestMap()
		require.NoError(t, err)
		require.Equal(t, 3, m.Version)
	})
	const processes = 5
	versions := make(chan int, processes)
	for range processes {
		go func() {
			var v int
			_ = s.InTx(context.WithoutCancel(t.Context()), func(tx engine.Tx) (err error) {
				v, err = tx.PutMap("h9", []byte("x"), noon)
				return err
			})
			versions <- v
		}()
	}
	for range processes {
		require.Equal(t, 4, <-versions, "processes that start together agree")
	}
}

func testPackages(t *testing.T, s *store.Store) {
	rs, _ := seed(t, s, 1)
	p := &engine.Package{
		Request: rs[0].ID, Path: "ab/cd.zip", Size: 10, Records: 3, SHA256: "s", DataKey: []byte("w"), CreatedAt: noon,
		Expires: noon.Add(time.Hour),
	}
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.PutPackage(p))
		got, err := tx.PackageOf(rs[0].ID)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(p, got))

		expired, err := tx.ExpiredPackages(noon, 5)
		require.NoError(t, err)
		require.Empty(t, expired)
		expired, err = tx.ExpiredPackages(noon.Add(time.Hour), 5)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]*engine.Package{p}, expired))

		require.NoError(t, tx.PutLink(rs[0].ID, "t1", noon.Add(time.Minute)))
		require.NoError(t, tx.PutLink(rs[0].ID, "t2", noon.Add(time.Minute)))
		id, err := tx.TakeLink("t1", noon)
		require.NoError(t, err)
		require.Equal(t, rs[0].ID, id)
		_, err = tx.TakeLink("t1", noon)
		require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err), "once")
		_, err = tx.TakeLink("t2", noon.Add(time.Minute))
		require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err), "expired")

		p.RemovedAt = &noon
		require.NoError(t, tx.PutPackage(p))
		got, err = tx.PackageOf(rs[0].ID)
		require.NoError(t, err)
		require.Empty(t, got.DataKey, "nothing opens a copy of a removed package")
		require.NotNil(t, got.RemovedAt)
	})
}

func testPurge(t *testing.T, s *store.Store) {
	rs, ts := seed(t, s, 5)
	long, recent := noon.AddDate(-3, 0, 0), noon.AddDate(0, 0, -1)
	rs[0].ClosedAt, rs[1].ClosedAt, rs[2].ClosedAt, rs[3].ClosedAt = &long, &long, &recent, &long
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.UpdateRequests(rs[:4]...))
		for i, r := range rs {
			require.NoError(t, tx.AddIdentifiers(sealed(r, "email", "c1")))
			require.NoError(t, tx.PutDataKey(r.ID, []byte("w")))
			require.NoError(t, tx.AddEvents(dsr.Event{Request: r.ID, At: noon, Type: "filed"}))
			require.NoError(t, tx.PutPlan("h", &dsr.Plan{Request: r.ID}))
			require.NoError(t, tx.AppendSpool(ts[i].ID, "orders", []byte("k")))
			require.NoError(t, tx.AddSuppressions(engine.Suppression{
				Request: r.ID, Name: "email", KeyID: "k1", Commitment: "c1", Systems: []string{"shop"},
				ErasedAt: long, Expires: noon.AddDate(0, 0, i-2),
			}))
		}
		require.NoError(t, tx.PutPackage(&engine.Package{Request: rs[3].ID, Expires: long}))
		require.NoError(t, tx.PutLink(rs[3].ID, "old", long))
		require.NoError(t, tx.PutLink(rs[4].ID, "new", noon.Add(time.Hour)))
		require.NoError(t, tx.InsertRun(&dsr.Run{ID: "run_old", Done: true, LeaseUntil: long}))
		require.NoError(t, tx.InsertRun(&dsr.Run{ID: "run_open", LeaseUntil: long}))
	})
	for subject, at := range map[string]time.Time{"addr:192.0.2.1": noon.AddDate(0, 0, -2), "addr:192.0.2.2": noon} {
		_, err := s.AddFailure(t.Context(), subject, at, time.Hour, time.Hour, 1)
		require.NoError(t, err)
		_, _, _, err = s.ClaimIdempotency(t.Context(), subject, "f", at, at.Add(time.Hour))
		require.NoError(t, err)
	}
	before := noon.AddDate(-2, 0, 0)
	in(t, s, func(tx engine.Tx) {
		n, err := tx.Purge(before, noon, 1)
		require.NoError(t, err)
		require.EqualValues(t, 7, n, "at most one row of each table")
		for range 10 {
			_, err := tx.Purge(before, noon, 100)
			require.NoError(t, err)
		}
		n, err = tx.Purge(before, noon, 100)
		require.NoError(t, err)
		require.Zero(t, n)
	})
	for table, want := range map[string]int{
		"requests": 3, "identifiers": 3, "data_keys": 3, "events": 3, "plans": 3, "tasks": 3, "spool": 1,
		"suppressions": 2, "packages": 1, "links": 1, "runs": 1,
		"auth_failures": 1, "idempotency": 1,
	} {
		require.Equal(t, want, count(t.Context(), t, s, "SELECT count(*) FROM "+table), table)
	}
	in(t, s, func(tx engine.Tx) {
		_, err := tx.Request(rs[3].ID)
		require.NoError(t, err, "its package is still on the disk")
	})
}

func testSchedules(t *testing.T, s *store.Store) {
	in(t, s, func(tx engine.Tx) {
		at, err := tx.LastRun("purge")
		require.NoError(t, err)
		require.True(t, at.IsZero())
		require.NoError(t, tx.SetLastRun("purge", noon))
		require.NoError(t, tx.SetLastRun("purge", noon.Add(time.Hour)))
		at, err = tx.LastRun("purge")
		require.NoError(t, err)
		require.Equal(t, noon.Add(time.Hour), at)
	})
}

func testCommitmentKeys(t *testing.T, s *store.Store) {
	rs, _ := seed(t, s, 1)
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.AddIdentifiers(sealed(rs[0], "email", "c1")))
		require.NoError(t, tx.AddSuppressions(
			engine.Suppression{Request: "req_gone", Name: "email", KeyID: "k0", Commitment: "c0"},
			engine.Suppression{Request: "req_gone", Name: "email", KeyID: "k0", Commitment: "c0"},
		))
	})
	ids, err := s.CommitmentKeysInUse(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"k0", "k1"}, ids)
}
