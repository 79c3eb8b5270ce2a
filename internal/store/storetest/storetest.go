// Package storetest is the suite that the control plane's store passes on every database it supports.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/store"
)

// Run runs the suite; fresh returns the URL of an empty database.
func Run(t *testing.T, fresh func(testing.TB) string) {
	for name, test := range map[string]func(*testing.T, *store.Store){
		"a request comes back as it was stored":        testRequestRoundTrip,
		"a stale version is a conflict":                testOptimisticLock,
		"a lock makes a second locker wait":            testLockRequests,
		"pages are stable, nearest deadline first":     testPaging,
		"filters select":                               testFilters,
		"open requests are found by commitment":        testOpenRequests,
		"of two duplicates at once one sees the other": testDuplicatesAtOnce,
		"statistics count what is open":                testStats,
		"identifiers are sealed, ordered and unique":   testIdentifiers,
		"forget removes keys and ciphertexts":          testForget,
		"timeline and plan come back":                  testTimelineAndPlan,
		"tasks come back and are updated together":     testTasks,
		"two claims never get the same task":           testClaimConcurrently,
		"a claim takes what is due":                    testClaimSelects,
		"an older fence changes nothing":               testFencing,
		"tallies add up":                               testTallies,
		"the spool is read in order":                   testSpool,
		"row, leaf and job commit together":            testCommitTogether,
		"row, leaf and job roll back together":         testRollBackTogether,
		"a panic rolls back":                           testPanic,
		"a call inside a transaction is an error":      testNestedCall,
		"equal jobs of a transaction are one":          testEqualJobs,
		"leaves are canonical and salted":              testLeaves,
		"maps are numbered once":                       testMaps,
		"packages and links":                           testPackages,
		"purge keeps to the retention":                 testPurge,
		"schedules are remembered":                     testSchedules,
		"errors name no value":                         testErrorsNameNoValue,
		"conflicting transactions run again":           testRetry,
		"a lost connection is replaced":                testLostConnection,
		"many rows are written together":               testManyRows,
		"processes migrate one after the other":        testMigrateTogether,
		"a cancelled context ends the transaction":     testCancelled,
		"migrating twice changes nothing":              testMigrateTwice,
		"commitment keys in use are known":             testCommitmentKeys,
		"what is not there is not found":               testNotFound,
		"holds come back, and are forgotten":           testHolds,
		"sweeps are fenced, interrupted and kept":      testSweeps,
		"of two sweeps of a rule at once one begins":   testSweepsAtOnce,
		"rules and stops are remembered":               testRules,
		"the database's clock is known":                testClock,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, Open(t, fresh(t)))
		})
	}
}

// Open opens and migrates a database and closes it when the test ends.
func Open(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url, store.Options{MaxConns: 6})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

// noon is the time of the suite's clock.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 123456000, time.UTC)

// in runs fn in a transaction that must succeed.
func in(t testing.TB, s *store.Store, fn func(tx engine.Tx)) {
	t.Helper()
	require.NoError(t, s.InTx(t.Context(), func(tx engine.Tx) error {
		fn(tx)
		return nil
	}))
}

// request makes the n-th Request; a higher n is due later.
func request(n int) *dsr.Request {
	zone, err := time.LoadLocation("Europe/Stockholm")
	if err != nil {
		panic(err)
	}
	received := time.Date(2026, 3, 2, 0, 0, 0, 0, zone)
	due := time.Date(2026, 4, 2+n, 0, 0, 0, 0, zone)
	return &dsr.Request{
		ID: fmt.Sprintf("req_%04d", n), Kind: dsr.Erasure, State: dsr.Discovering, FiledBy: "prn_portal", Subject: "c1",
		MapVersion: 1, Round: 1, Version: 1, CreatedAt: noon, UpdatedAt: noon,
		Clock: dsr.Clock{Received: received, DueUnpaused: due, Due: due},
	}
}

// task makes the Task of a Request in a System.
func task(r *dsr.Request, system string) *dsr.Task {
	return &dsr.Task{
		ID: "tsk_" + r.ID + "_" + system, Request: r.ID, System: system, Phase: dsr.PhaseLocate, State: dsr.TaskPending,
		Attempt: 1, NotBefore: noon, Updated: noon,
	}
}

// seed stores n Requests with one pending Task each in the System shop.
func seed(t testing.TB, s *store.Store, n int) (rs []*dsr.Request, ts []*dsr.Task) {
	t.Helper()
	in(t, s, func(tx engine.Tx) {
		for i := range n {
			r := request(i)
			require.NoError(t, tx.InsertRequest(r))
			rs, ts = append(rs, r), append(ts, task(r, "shop"))
		}
		require.NoError(t, tx.InsertTasks(ts...))
	})
	return rs, ts
}

// nudge is a job.
type nudge struct {
	System string `json:"system"`
}

func (nudge) Kind() string { return "storetest.nudge" }

// count reads one number with SQL that both databases understand, without the store.
func count(ctx context.Context, t testing.TB, s *store.Store, sql string, args ...any) int {
	t.Helper()
	var n int
	if p := s.Pool(); p != nil {
		require.NoError(t, p.QueryRow(ctx, sql, args...).Scan(&n))
		return n
	}
	require.NoError(t, s.SQLite().QueryRowContext(ctx, sql, args...).Scan(&n))
	return n
}
