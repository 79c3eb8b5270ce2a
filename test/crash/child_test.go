package crash

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/accesspackage"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/keys"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/jobs"
)

// Variables by which the test speaks to the process that it is about to lose.
const (
	envControl = "LETHE_CRASH_CONTROL" // URL of the control database
	envTarget  = "LETHE_CRASH_TARGET"  // URL of the system
	envDir     = "LETHE_CRASH_DIR"
	envStep    = "LETHE_CRASH_STEP" // step to die at; empty is never
	envCount   = "LETHE_CRASH_COUNT"
	envSignal  = "LETHE_CRASH_SIGNAL" // what happens at the step: KILL, or STOP, from which the test wakes it
)

// Steps of the control database's transactions, beside those that connectors name.
const (
	stepBeforeCommit = "store.before_commit"
	stepAfterCommit  = "store.after_commit"
)

// house is a whole Lethe without its API.
type house struct {
	store  *store.Store
	engine *engine.Engine
	runner *jobs.Runner
}

// build wires a house. Leases are short, so that what a killed process held is taken over within the test's patience.
// Its clock is behind by so much.
func build(ctx context.Context, control, target, dir string, behind time.Duration, step func(name string)) (*house, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	s, err := store.Open(ctx, control, store.Options{Logger: log})
	if err != nil {
		return nil, err
	}
	held, err := keys.Open(ctx, filepath.Join(dir, "keys"), nil)
	if err != nil {
		return nil, err
	}
	env := func(name string) (string, bool) { return target, name == "TARGET" }
	packages, err := accesspackage.New(filepath.Join(dir, "packages"), func(yaml []byte) (*datamap.Map, error) {
		return datamap.Load(yaml, env, sqldb.Kinds())
	})
	if err != nil {
		return nil, err
	}
	h := &house{store: s}
	h.engine, err = engine.New(engine.Config{
		Store: stepping{s, step}, Cipher: held, Committer: held, Pseudonyms: held, Packager: packages, Kinds: sqldb.Kinds(),
		Getenv: env, Time: wall{behind}, Logger: log, Step: func(_, name string) { step(name) },
		Policy: engine.Policy{
			Lease: time.Second, Backoff: 50 * time.Millisecond,
			AutoApprove: []engine.AutoApproval{{Name: "test", Kinds: []dsr.Kind{dsr.Access, dsr.Erasure}}},
			Retention:   engine.RetentionPolicy{Schedule: "* * * * *"},
		},
	})
	if err != nil {
		return nil, err
	}
	h.runner, err = jobs.New(jobs.Config{
		Engine: h.engine, Store: s, Pool: s.Pool(), SQLite: s.SQLite(), Logger: log, Grace: 5 * time.Second,
	})
	return h, err
}

type wall struct{ behind time.Duration }

func (w wall) Now() time.Time { return time.Now().Add(-w.behind) }

// stepping names the moments around each commit of the control database.
type stepping struct {
	*store.Store
	step func(name string)
}

func (s stepping) InTx(ctx context.Context, fn func(tx engine.Tx) error) error {
	err := s.Store.InTx(ctx, func(tx engine.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		s.step(stepBeforeCommit)
		return nil
	})
	s.step(stepAfterCommit)
	return err
}

// child works until its standard input ends, or dies at its step.
func child() error {
	ctx := context.Background()
	name := os.Getenv(envStep)
	left := &atomic.Int64{}
	n, _ := strconv.Atoi(os.Getenv(envCount))
	left.Store(int64(n))
	armed := &atomic.Bool{}
	h, err := build(ctx, os.Getenv(envControl), os.Getenv(envTarget), os.Getenv(envDir), 0, func(at string) {
		if at != name || !armed.Load() || left.Add(-1) != 0 {
			return
		}
		if os.Getenv(envSignal) == "STOP" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			return
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	})
	if err != nil {
		return err
	}
	if err := h.runner.Start(ctx); err != nil {
		return err
	}
	armed.Store(true)
	// River's own schedule waits for the dead leader's term to end; the test does not.
	stop := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString(0)
		close(stop)
	}()
	for {
		for _, tick := range []string{engine.TickLeases, engine.TickNudges, engine.TickSweeps} {
			if err := h.engine.Tick(ctx, engine.Tick{Name: tick}); err != nil {
				return err
			}
		}
		select {
		case <-stop:
			stopCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			return errors.Join(h.runner.Stop(stopCtx), h.store.Close())
		case <-time.After(300 * time.Millisecond):
		}
	}
}
