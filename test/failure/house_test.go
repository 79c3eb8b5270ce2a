// Package failure breaks what Lethe depends on, on real databases, and asks every time for the same three things: the
// work ends in a state that a person understands, with a hint; nothing is lost or done twice; and once the cause is
// mended, a retry finishes it.
package failure

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/accesspackage"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/keys"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/jobs"
	"github.com/lethe-gdpr/lethe/retention"
)

// TestMain lets more tests run at once than there are cores: most of the time they wait for a pause between two
// attempts to end.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for a state.
const patience = 50 * time.Second

// tries is how often a system may fail in a row before a person is asked.
const tries = 3

var (
	alice = dsr.Actor{ID: "alice", Roles: []string{dsr.RoleOperator}}
	bob   = dsr.Actor{ID: "bob", Roles: []string{dsr.RoleDPO, dsr.RoleOperator}}
)

// options say how a house differs from the usual one.
type options struct {
	control  string // URL of the control database
	dir      string
	target   string
	attempts int
	lease    time.Duration
	slice    time.Duration
	pace     connectors.Pace
	clock    *clock
	auto     bool // erasures are approved by policy
	step     func(run, name string)
	moved    func(from, to dsr.State) // after a Request's change of state is committed
	worked   func(done dsr.Phase)     // after a run is committed
	retries  *atomic.Int64            // counts pauses after a fault
}

// house is a whole Lethe without its API.
type house struct {
	store  *store.Store
	engine *engine.Engine
	stop   func()
}

func open(t *testing.T, o options) *house {
	t.Helper()
	if o.attempts == 0 {
		o.attempts = tries
	}
	if o.lease == 0 {
		o.lease = 30 * time.Second
	}
	if o.clock == nil {
		o.clock = &clock{}
	}
	if o.retries == nil {
		o.retries = &atomic.Int64{}
	}
	ctx := context.WithoutCancel(t.Context())
	log := slog.New(counting{slog.DiscardHandler, o.retries})
	s, err := store.Open(ctx, o.control, store.Options{Logger: log})
	require.NoError(t, err)
	require.NoError(t, s.Migrate(ctx))
	held, err := keys.Open(ctx, filepath.Join(o.dir, "keys"), nil)
	require.NoError(t, err)
	env := func(name string) (string, bool) { return o.target, name == "TARGET" }
	packages, err := accesspackage.New(filepath.Join(o.dir, "packages"), func(yaml []byte) (*datamap.Map, error) {
		return datamap.Load(yaml, env, sqldb.Kinds())
	})
	require.NoError(t, err)
	policy := engine.Policy{Attempts: o.attempts, Backoff: 20 * time.Millisecond, Lease: o.lease, Slice: o.slice}
	policy.Retention = engine.RetentionPolicy{Schedule: "30 2 * * *", Pace: o.pace}
	if o.auto {
		policy.AutoApprove = []engine.AutoApproval{{Name: "test", Kinds: []dsr.Kind{dsr.Access, dsr.Erasure}}}
	}
	h := &house{store: s}
	h.engine, err = engine.New(engine.Config{
		Store: s, Cipher: held, Committer: held, Pseudonyms: held, Packager: packages, Kinds: sqldb.Kinds(), Getenv: env,
		Time: o.clock, Logger: log, Policy: policy, Step: o.step, Metrics: reports{o.moved, o.worked},
		Decorate: func(_ *connectors.System, c connectors.Connector) connectors.Connector {
			return connectors.Retry(c, connectors.DefaultBackoff)
		},
	})
	require.NoError(t, err)
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			require.NoError(t, h.engine.Close())
			require.NoError(t, s.Close())
		})
	}
	t.Cleanup(func() { h.stop() })
	h.work(t, o, log)
	return h
}

// work starts the workers, and the upkeep more often than River would.
func (h *house) work(t *testing.T, o options, log *slog.Logger) {
	t.Helper()
	runner, err := jobs.New(jobs.Config{
		Engine: h.engine, Store: h.store, Pool: h.store.Pool(), SQLite: h.store.SQLite(), Logger: log, Time: o.clock,
		Grace: 5 * time.Second,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	require.NoError(t, runner.Start(ctx))
	var upkeep sync.WaitGroup
	upkeep.Go(func() {
		every := time.NewTicker(300 * time.Millisecond)
		defer every.Stop()
		for {
			for _, tick := range []string{engine.TickLeases, engine.TickNudges} {
				_ = h.engine.Tick(ctx, engine.Tick{Name: tick}) // the next one comes by itself
			}
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
		}
	})
	closed := h.stop
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			upkeep.Wait()
			within, end := context.WithTimeout(context.Background(), 20*time.Second)
			defer end()
			_ = runner.Stop(within) // a control database that was cut off may answer with an error
			closed()
		})
	}
}

// clock is the machine's, moved by an offset.
type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time       { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) set(by time.Duration) { c.offset.Store(int64(by)) }

// counting counts the engine's notices that work goes on later.
type counting struct {
	slog.Handler
	retries *atomic.Int64
}

func (c counting) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (c counting) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "a system failed; its work goes on later" {
		c.retries.Add(1)
	}
	return nil
}

func (c counting) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c counting) WithGroup(string) slog.Handler      { return c }

// reports tells a test of every change of state and of every run that is done.
type reports struct {
	moved  func(from, to dsr.State)
	worked func(done dsr.Phase)
}

func (m reports) Transition(_ dsr.Kind, from, to dsr.State) {
	if m.moved != nil {
		m.moved(from, to)
	}
}

func (m reports) RunDone(_ string, phase dsr.Phase, _ int, _ time.Duration) {
	if m.worked != nil {
		m.worked(phase)
	}
}
func (reports) Finished(dsr.Kind, dsr.State, time.Duration) {}
func (reports) TaskFailed(string, dsr.Phase, string)        {}
func (reports) SweepEnded(*retention.Sweep)                 {}
