package engine_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// die ends the worker that calls it, as far as its process can tell: nothing after it runs but deferred calls, which a
// panic would reach too, but no recover stops it.
func die() { runtime.Goexit() }

// survive runs work in a goroutine of its own and reports whether it was killed.
func survive(t testing.TB, work func() error) (dead bool) {
	t.Helper()
	dead = true
	var err error
	over := make(chan struct{})
	go func() {
		defer close(over)
		err = work()
		dead = false
	}()
	<-over
	require.NoError(t, err)
	return dead
}

// drainDying is drain, but a killed worker's job is gone: only upkeep brings its Run back.
func (h *house) drainDying() (deaths int) {
	h.t.Helper()
	for n := 0; ; n++ {
		require.Less(h.t, n, 2000)
		dead, ok := h.stepDying()
		if dead {
			deaths++
		}
		if !ok {
			return deaths
		}
	}
}

// stepDying carries out the work that is due first, and upkeep when that kills the worker.
func (h *house) stepDying() (dead, ok bool) {
	h.t.Helper()
	s, ok := h.store.next()
	if !ok {
		return false, false
	}
	if wait := s.at.Sub(h.time.Now()); wait > 0 {
		h.time.forward(wait)
	}
	if dead = survive(h.t, func() error { return h.do(s.work) }); dead {
		h.time.forward(2 * time.Minute)
		require.NoError(h.t, h.Tick(h.t.Context(), engine.Tick{Name: engine.TickLeases}))
	}
	return dead, true
}

func TestAWorkerKilledAtEveryStepIsReplaced(t *testing.T) {
	t.Parallel()
	steps := func(kind dsr.Kind) []string {
		h, _ := shop(t, auto)
		var names []string
		h.hooks.step = func(_, name string) { names = append(names, name) }
		a, b := h.file(kind, "ada@example.com"), h.file(kind, "bob@example.com")
		h.drain()
		h.wants(a.ID, dsr.Completed)
		h.wants(b.ID, dsr.Completed)
		return names
	}
	for _, kind := range []dsr.Kind{dsr.Erasure, dsr.Access} {
		names := steps(kind)
		require.NotEmpty(t, names)
		for i, name := range names {
			t.Run(fmt.Sprintf("%s/%d-%s", kind, i, name), func(t *testing.T) {
				t.Parallel()
				h, x := shop(t, auto)
				n := 0
				h.hooks.step = func(string, string) {
					if n++; n == i+1 {
						die()
					}
				}
				a, b := h.file(kind, "ada@example.com"), h.file(kind, "bob@example.com")
				require.Equal(t, 1, h.drainDying())
				h.wants(a.ID, dsr.Completed)
				h.wants(b.ID, dsr.Completed)
				sum := map[string]int64{}
				for _, id := range []string{a.ID, b.ID} {
					for k, n := range h.receipts(id) {
						sum[k] += n
					}
				}
				if kind == dsr.Access {
					require.Equal(t, map[string]int64{
						"shop.customers.export": 2, "shop.carts.export": 3, "shop.messages.export": 4,
					}, sum)
					for id, records := range map[string]int64{a.ID: 5, b.ID: 4} {
						p, err := h.PackageInfo(t.Context(), officer, id)
						require.NoError(t, err)
						require.Equal(t, records, p.Records, "nothing twice, nothing missing")
					}
					return
				}
				require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers"))
				require.Zero(t, x.count("SELECT count(*) FROM carts"))
				require.EqualValues(t, 1, x.count("SELECT count(*) FROM messages WHERE id = 21 AND sender_id IS NULL"))
				require.EqualValues(t, 1, x.count("SELECT count(*) FROM messages"))
				require.EqualValues(t, 2, sum["shop.customers.delete"], "%v", sum)
				require.EqualValues(t, 3, sum["shop.carts.delete"], "%v", sum)
				require.EqualValues(t, 2, sum["shop.messages.delete"], "%v", sum)
			})
		}
	}
}

// A worker that was taken for dead and comes back is refused at its next Save and changes nothing more.
func TestATakenOverWorkerIsFenced(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	asleep, wake, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	n := 0
	h.hooks.step = func(_, name string) {
		if name != sqldb.StepCommitted { // before, it holds locks that no other worker gets past
			return
		}
		if n++; n == 1 {
			close(asleep)
			<-wake
		}
	}
	r := h.file(dsr.Erasure, "ada@example.com")
	var erase engine.Work
	for erase == nil {
		s, ok := h.store.next()
		require.True(t, ok)
		if g, ok := s.work.(engine.Gather); ok && g.Phase == dsr.PhaseErase {
			erase = g
			break
		}
		require.NoError(t, h.do(s.work))
	}
	go func() { done <- h.Gather(context.WithoutCancel(t.Context()), erase.(engine.Gather)) }()
	<-asleep
	h.hooks.mu.Lock()
	h.hooks.step = nil
	h.hooks.mu.Unlock()
	h.time.forward(2 * time.Minute)
	require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickLeases}))
	h.drain()
	h.wants(r.ID, dsr.Completed)
	before := h.receipts(r.ID)
	close(wake)
	require.NoError(t, <-done)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.Equal(t, before, h.receipts(r.ID))
	require.EqualValues(t, 1, before["shop.customers.delete"])
	require.EqualValues(t, 2, x.count("SELECT count(*) FROM customers"))
}

func TestTwoWorkersNeverShareATask(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		x := sqliteTarget(t, shopSchema+shopRows)
		h := open(t, url, map[string]string{"SHOP": x.url}, auto)
		h.activate(shopMap)
		a := h.file(dsr.Erasure, "ada@example.com")
		b := h.file(dsr.Erasure, "bob@example.com")
		// every job is delivered twice, and both at once
		for {
			s, ok := h.store.next()
			if !ok {
				break
			}
			errs := make(chan error, 2)
			for range 2 {
				go func() { errs <- h.do(s.work) }()
			}
			require.NoError(t, errors.Join(<-errs, <-errs))
		}
		h.wants(a.ID, dsr.Completed)
		h.wants(b.ID, dsr.Completed)
		require.EqualValues(t, 1, h.receipts(a.ID)["shop.customers.delete"])
		require.EqualValues(t, 1, h.receipts(b.ID)["shop.customers.delete"])
		require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers"))
	})
}

func TestTransientFaultsEnd(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"locate", "erase", "verify"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			h, _ := shop(t, auto)
			n := 0
			h.hooks.before = func(_ context.Context, _, v string, _ *connectors.Job) error {
				if v == verb {
					if n++; n <= 3 {
						return &dsr.Error{Code: dsr.CodeUnavailable, Msg: "connection refused"}
					}
				}
				return nil
			}
			r := h.file(dsr.Erasure, "ada@example.com")
			h.drain()
			h.wants(r.ID, dsr.Completed)
			require.Greater(t, n, 3)
		})
		t.Run(verb+" for ever", func(t *testing.T) {
			t.Parallel()
			h, _ := shop(t, auto)
			h.hooks.before = func(_ context.Context, _, v string, _ *connectors.Job) error {
				if v == verb {
					return errors.New("dial tcp: ada@example.com") // an untyped error may say anything
				}
				return nil
			}
			r := h.file(dsr.Erasure, "ada@example.com")
			h.drain()
			r = h.wants(r.ID, dsr.NeedsAttention)
			require.Equal(t, "unavailable", r.Reason)
			require.NotContains(t, r.Hint, "ada")
			require.NotContains(t, h.log.String(), "ada@")
			h.hooks.before = nil
			_, err := h.Retry(t.Context(), operator, r.ID, r.Version)
			require.NoError(t, err)
			h.drain()
			h.wants(r.ID, dsr.Completed)
		})
	}
}

// secondSystem knows the shop's customers by their number.
const secondSystem = `
  crm:
    connector: sqlite
    dsn: ${CRM}
    entities:
      contacts:
        subject: true
        fields:
          user_id: {identifier: user_id}
          note: {category: user.content}
        not_personal: [id]
        erase: delete
`

func crm(t *testing.T) *target {
	return sqliteTarget(t, `CREATE TABLE contacts (id INTEGER PRIMARY KEY, user_id TEXT, note TEXT);
		CREATE INDEX contacts_user ON contacts (user_id);
		INSERT INTO contacts VALUES (1, '1', 'vip'), (2, '2', 'late payer')`)
}

func TestAPrivilegeRevokedHalfWay(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	c := crm(t)
	h.env["CRM"] = c.url
	h.activate(shopMap + secondSystem)
	h.hooks.before = func(_ context.Context, system, verb string, _ *connectors.Job) error {
		if system == "shop" && verb == "erase" {
			x.exec("CREATE TRIGGER refuse BEFORE DELETE ON customers BEGIN SELECT RAISE(ABORT, 'denied'); END")
		}
		return nil
	}
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	h.wants(r.ID, dsr.NeedsAttention)
	require.EqualValues(t, 1, c.count("SELECT count(*) FROM contacts"), "the other system is done")
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))
	h.hooks.before = nil
	x.exec("DROP TRIGGER refuse")
	_, err := h.Retry(t.Context(), operator, r.ID, h.get(r.ID).Version)
	require.NoError(t, err)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.Equal(t, map[string]int64{
		"crm.contacts.delete": 1, "shop.customers.delete": 1, "shop.carts.delete": 2, "shop.messages.delete": 1,
		"shop.messages.release": 1,
	}, h.receipts(r.ID), "what was done before the fault is counted, once")
}

func TestPermanentFaultsNeedAttention(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"locate", "erase", "verify"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			h, _ := shop(t, auto)
			h.hooks.before = func(_ context.Context, _, v string, j *connectors.Job) error {
				if v == verb {
					return connectors.Permanent("refused", "the database refused", "grant the privilege", nil)
				}
				return nil
			}
			r := h.file(dsr.Erasure, "ada@example.com")
			h.drain()
			r = h.wants(r.ID, dsr.NeedsAttention)
			require.Equal(t, "refused", r.Reason)
		})
	}
}

// A fault of one subject leaves the others of the batch alone.
func TestASubjectsFaultIsItsOwn(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, auto)
	var poor string
	h.hooks.before = func(_ context.Context, _, v string, j *connectors.Job) error {
		if v != "verify" {
			return nil
		}
		for _, s := range j.Batch {
			for _, id := range s.Identifiers {
				if id.Value.Reveal() == "ada@example.com" {
					poor = s.Ref
					return &connectors.SubjectError{Subject: poor, Entity: "carts", Err: connectors.Permanent("odd", "a row is odd", "", nil)}
				}
			}
		}
		return nil
	}
	a, b := h.file(dsr.Erasure, "ada@example.com"), h.file(dsr.Erasure, "bob@example.com")
	h.drain()
	require.NotEmpty(t, poor)
	require.Equal(t, "odd", h.wants(a.ID, dsr.NeedsAttention).Reason)
	h.wants(b.ID, dsr.Completed)
}

func TestResidueIsErasedAgainThenNeedsAttention(t *testing.T) {
	t.Parallel()
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		h, x := shop(t, auto)
		n := 0
		h.hooks.before = func(_ context.Context, _, v string, _ *connectors.Job) error {
			if v == "verify" {
				if n++; n == 1 {
					x.exec("INSERT INTO customers VALUES (1, 'aDa@example.com', 'Ada')")
				}
			}
			return nil
		}
		r := h.file(dsr.Erasure, "ada@example.com")
		h.drain()
		h.wants(r.ID, dsr.Completed)
		require.Zero(t, x.count("SELECT count(*) FROM customers WHERE id = 1"))
		require.EqualValues(t, 2, h.receipts(r.ID)["shop.customers.delete"])
	})
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		h, x := shop(t, auto)
		h.hooks.before = func(_ context.Context, _, v string, _ *connectors.Job) error {
			if v == "verify" {
				x.exec("INSERT OR IGNORE INTO customers VALUES (1, 'ada@example.com', 'Ada')")
			}
			return nil
		}
		r := h.file(dsr.Erasure, "ada@example.com")
		h.drain()
		r = h.wants(r.ID, dsr.NeedsAttention)
		require.Equal(t, "residue", r.Reason)
		h.hooks.before = nil
		_, err := h.Retry(t.Context(), operator, r.ID, r.Version)
		require.NoError(t, err)
		h.drain()
		h.wants(r.ID, dsr.Completed)
	})
}

func TestAGracefulStopHandsTheRunOn(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, auto)
	r := h.file(dsr.Erasure, "ada@example.com")
	ctx, stop := context.WithCancel(t.Context())
	h.hooks.before = func(_ context.Context, _, v string, _ *connectors.Job) error {
		if v == "erase" {
			stop()
			return ctx.Err()
		}
		return nil
	}
	for ctx.Err() == nil {
		s, ok := h.store.next()
		require.True(t, ok)
		g, isGather := s.work.(engine.Gather)
		require.True(t, isGather)
		require.NoError(t, h.Gather(ctx, g))
	}
	h.hooks.before = nil
	h.drain() // no upkeep needed
	h.wants(r.ID, dsr.Completed)
}

// A worker dies right after a commit and the system stays away until Lethe gives up: the retry still counts the rows.
func TestARetryResolvesAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	h.hooks.step = func(_, name string) {
		if name == sqldb.StepCommitted {
			h.hooks.mu.Lock()
			h.hooks.before = func(_ context.Context, _, verb string, _ *connectors.Job) error {
				if verb == "erase" {
					return errors.New("connection refused")
				}
				return nil
			}
			h.hooks.step = nil
			h.hooks.mu.Unlock()
			die()
		}
	}
	r := h.file(dsr.Erasure, "ada@example.com")
	require.Equal(t, 1, h.drainDying())
	r = h.wants(r.ID, dsr.NeedsAttention)
	require.Equal(t, "unavailable", r.Reason)
	h.hooks.before = nil
	_, err := h.Retry(t.Context(), operator, r.ID, r.Version)
	require.NoError(t, err)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.Zero(t, x.count("SELECT count(*) FROM customers WHERE id = 1"))
	require.Equal(t, map[string]int64{
		"shop.customers.delete": 1, "shop.carts.delete": 2, "shop.messages.delete": 1, "shop.messages.release": 1,
	}, h.receipts(r.ID))
	ts, err := h.Tasks(t.Context(), officer, r.ID)
	require.NoError(t, err)
	var resolved int64
	for _, l := range ts[0].Receipt.Lines {
		resolved += l.Resolved
	}
	require.Positive(t, resolved)
}
