// Package app wires a process of Lethe: control database, keys, engine, workers and API. It is the only place that
// knows them all; cmd/lethe and tests start it.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lethe-gdpr/lethe/api"
	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/cloudwatchlogs"
	"github.com/lethe-gdpr/lethe/connectors/logfiles"
	"github.com/lethe-gdpr/lethe/connectors/s3"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/accesspackage"
	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/config"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/keys"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/internal/telemetry"
	"github.com/lethe-gdpr/lethe/jobs"
)

// Kinds are the connectors that this binary has.
func Kinds() []connectors.Kind {
	return slices.Concat(sqldb.Kinds(), s3.Kinds(), logfiles.Kinds(), cloudwatchlogs.Kinds())
}

// Options are what an App is made of. Config is required.
type Options struct {
	Config config.Config
	Env    config.Env   // nil is the process's environment
	Logger *slog.Logger // nil logs nothing
	Time   engine.Time  // nil is the machine's clock
	// Notice takes what the operator must read at the first start; nil discards it.
	Notice io.Writer
	// Step is called at every named step of a Journal; tests count and interrupt it. Nil in production.
	Step func(run, name string)
	// Limits overrides the API's rate limit and lockout; the zero value takes the defaults.
	Limits auth.Config
}

// App is one process of Lethe. Call Start once, then Stop once.
type App struct {
	o       Options
	log     *slog.Logger
	unlock  func() error // of the embedded database; nil on PostgreSQL
	store   *store.Store
	engine  *engine.Engine
	guard   *auth.Guard
	metrics *telemetry.Metrics
	runner  *jobs.Runner // nil in the role api
	server  *http.Server
	address net.Addr

	background sync.WaitGroup
	cancel     context.CancelFunc // ends background
	failed     chan error
}

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

// New opens the control database and the keys and wires everything. It starts nothing.
func New(ctx context.Context, o Options) (*App, error) {
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	if o.Time == nil {
		o.Time = machineClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Notice == nil {
		o.Notice = io.Discard
	}
	a := &App{o: o, log: o.Logger, failed: make(chan error, 1)}
	if err := a.wire(ctx); err != nil {
		return nil, errors.Join(err, a.release())
	}
	return a, nil
}

func (a *App) wire(ctx context.Context) error {
	c := &a.o.Config
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("create the data folder: %w", err)
	}
	var err error
	if c.Embedded() {
		if a.unlock, err = lock(filepath.Join(c.Data, "lethe.lock")); err != nil {
			return err
		}
	}
	if a.store, err = OpenStore(ctx, c, a.log); err != nil {
		return err
	}
	held, err := openKeys(ctx, c)
	if err != nil {
		return err
	}
	env := config.Secrets(a.o.Env)
	packages, err := accesspackage.New(filepath.Join(c.Data, "packages"), func(yaml []byte) (*datamap.Map, error) {
		return datamap.Load(yaml, env, Kinds())
	})
	if err != nil {
		return fmt.Errorf("open the folder of packages: %w", err)
	}
	a.metrics = telemetry.New(a.o.Time.Now, a.snapshot)
	rules, err := policy(&c.Policy)
	if err != nil {
		return err
	}
	a.engine, err = engine.New(engine.Config{
		Store: a.store, Cipher: held, Committer: held, Pseudonyms: held, Packager: packages,
		Kinds: Kinds(), Getenv: env, Time: a.o.Time, Logger: a.log, Policy: rules,
		Metrics: engineMetrics{a.metrics}, Step: a.o.Step,
		Decorate: func(s *connectors.System, c connectors.Connector) connectors.Connector {
			return connectors.Limit(connectors.Retry(c, connectors.DefaultBackoff), cmp.Or(s.Limits.Connections, 4))
		},
	})
	if err != nil {
		return err
	}
	limits := a.o.Limits
	limits.Store, limits.Now = a.store, a.o.Time.Now
	a.guard = auth.New(limits)
	if c.Role != config.RoleAPI {
		a.runner, err = jobs.New(jobs.Config{
			Engine: a.engine, Store: a.store, Pool: a.store.Pool(), SQLite: a.store.SQLite(), Time: a.o.Time,
			Logger: slog.New(stopping{a.log.Handler()}), Workers: c.Workers,
		})
	}
	return err
}

// OpenStore opens the control database that the configuration names; it does not migrate.
func OpenStore(ctx context.Context, c *config.Config, log *slog.Logger) (*store.Store, error) {
	url, err := c.DatabaseURL()
	if err != nil {
		return nil, err
	}
	if c.Embedded() {
		if err := os.MkdirAll(c.Data, 0o700); err != nil {
			return nil, fmt.Errorf("create the data folder: %w", err)
		}
	}
	return store.Open(ctx, url, store.Options{Logger: log})
}

func openKeys(ctx context.Context, c *config.Config) (*keys.Keys, error) {
	folder := filepath.Join(c.Data, "keys")
	if c.Keys.KMSKey == "" {
		return keys.Open(ctx, folder, nil)
	}
	kek, err := keys.OpenAWSKMS(ctx, c.Keys.KMSKey, c.Keys.Region)
	if err != nil {
		return nil, err
	}
	return keys.Open(ctx, folder, kek)
}

func policy(p *config.Policy) (engine.Policy, error) {
	out := engine.Policy{
		PackageTTL: time.Duration(p.PackageTTL), FinishedTTL: time.Duration(p.FinishedTTL), LinkTTL: time.Duration(p.LinkTTL),
		RequestsPerHour: map[dsr.Kind]int64{},
	}
	for kind, n := range p.RequestsPerHour {
		out.RequestsPerHour[dsr.Kind(kind)] = n
	}
	for _, a := range p.AutoApprove {
		auto := engine.AutoApproval{Name: a.Name, FiledBy: a.FiledBy, Verified: a.Verified, MaxRows: a.MaxRows}
		for _, kind := range a.Kinds {
			auto.Kinds = append(auto.Kinds, dsr.Kind(kind))
		}
		out.AutoApprove = append(out.AutoApprove, auto)
	}
	r := &p.Retention
	window, err := engine.ParseWindow(r.Window)
	out.Retention = engine.RetentionPolicy{
		Schedule: r.Schedule, Window: window, Pace: paceOf(&p.Retention.Pace), Together: p.Retention.Together,
	}
	return out, err
}

// paceOf reads how gently sweeps work.
func paceOf(p *config.Pace) connectors.Pace {
	return connectors.Pace{
		Transaction: time.Duration(p.Transaction), Duty: p.Duty, Connections: p.Connections, Lag: time.Duration(p.Lag),
		Sessions: p.Sessions, LockWaits: p.LockWaits,
	}
}

// Start migrates the embedded database, activates the data map, makes the bootstrap key at the first start, and begins
// to listen and to work. After an error Stop must still be called.
func (a *App) Start(ctx context.Context) error {
	c := &a.o.Config
	if c.Embedded() {
		if err := a.store.Migrate(ctx); err != nil {
			return fmt.Errorf("migrate the control database: %w", err)
		}
	}
	if _, err := a.engine.Stats(ctx); err != nil {
		return err // says what to do: not reachable, or not migrated
	}
	if c.Role != config.RoleWorker { // a worker with an older file must not bring the older map back
		if err := a.activateMap(ctx); err != nil {
			return err
		}
		if err := a.bootstrap(ctx); err != nil {
			return err
		}
	}
	handler, err := a.handler()
	if err != nil {
		return err
	}
	if err := a.listen(ctx, handler); err != nil {
		return err
	}
	var background context.Context
	background, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	a.background.Go(func() { a.purge(background) })
	if a.runner != nil {
		return a.runner.Start(ctx)
	}
	return nil
}

// activateMap stores the map of the file as the newest version when it has changed.
func (a *App) activateMap(ctx context.Context) error {
	path := a.o.Config.Map
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && path == config.Default().Map {
		if _, err := a.engine.CurrentMap(ctx); err != nil {
			a.log.WarnContext(ctx, "there is no data map yet: requests are refused until there is one",
				"file", path, "hint", "lethe init --from URL drafts one")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the data map: %w", err)
	}
	version, err := a.engine.ActivateMap(ctx, dsr.Engine, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	a.log.InfoContext(ctx, "data map is active", "file", path, "version", version)
	return nil
}

// ReloadMap reads the file of the data map again and makes it the newest version when it has changed. Requests that are
// under way go on under the version of their Plan. A faulty map changes nothing.
func (a *App) ReloadMap(ctx context.Context) error {
	if a.o.Config.Role == config.RoleWorker {
		return nil // the API's process stores it for all
	}
	return a.activateMap(ctx)
}

// BootstrapFile is the name, in the data folder, of the file that holds the first API key.
const BootstrapFile = "bootstrap-key"

// bootstrap writes the first API key to a file of its owner's: a log would keep it.
func (a *App) bootstrap(ctx context.Context) error {
	token, made, err := a.guard.Bootstrap(ctx, "bootstrap")
	if err != nil || !made {
		return err
	}
	path := filepath.Join(a.o.Config.Data, BootstrapFile)
	if err := os.WriteFile(path, []byte(token.Reveal()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the bootstrap key: %w", err)
	}
	fmt.Fprintf(a.o.Notice, "The first API key (roles operator and dpo) is in %s.\n"+
		"Make a key for each person with `lethe api-key new`, then revoke it and delete the file.\n", path)
	return nil
}

func (a *App) listen(ctx context.Context, handler http.Handler) error {
	c := &a.o.Config
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", c.Listen, err)
	}
	a.address = l.Addr()
	a.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	serve := func() error { return a.server.Serve(l) }
	if c.TLS.Certificate != "" {
		if a.server.TLSConfig, err = api.TLS(c.TLS.Certificate, c.TLS.Key); err != nil {
			return errors.Join(fmt.Errorf("tls: %w", err), l.Close())
		}
		serve = func() error { return a.server.ServeTLS(l, "", "") }
	}
	a.background.Go(func() {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- err
		}
	})
	a.log.InfoContext(ctx, "listening", "address", a.address.String(), "role", c.Role, "tls", c.TLS.Certificate != "")
	return nil
}

// purgeEvery is how often what the API remembers for a while is cleaned up; the engine's own retention is a Tick.
const purgeEvery = 10 * time.Minute

func (a *App) purge(ctx context.Context) {
	t := time.NewTicker(purgeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := a.o.Time.Now()
		if err := errors.Join(a.store.PurgeFailures(ctx, now.Add(-time.Hour)), a.store.PurgeIdempotency(ctx, now)); err != nil {
			a.log.WarnContext(ctx, "what the API remembers was not cleaned up", "cause", err)
		}
	}
}

// URL is where the API listens.
func (a *App) URL() string {
	scheme := "http://"
	if a.o.Config.TLS.Certificate != "" {
		scheme = "https://"
	}
	return scheme + a.address.String()
}

// Failed yields the error of a listener that ended by itself.
func (a *App) Failed() <-chan error { return a.failed }

// Engine carries out the use cases.
func (a *App) Engine() *engine.Engine { return a.engine }

// Stop takes no new work, lets running calls and slices end side by side, and releases everything. It returns early
// when ctx ends.
func (a *App) Stop(ctx context.Context) error {
	var calls, work error
	var both sync.WaitGroup
	if a.server != nil {
		both.Go(func() { calls = a.server.Shutdown(ctx) })
	}
	if a.runner != nil {
		both.Go(func() { work = a.runner.Stop(ctx) })
	}
	both.Wait()
	if a.cancel != nil {
		a.cancel()
	}
	a.background.Wait()
	return errors.Join(calls, work, a.release())
}

func (a *App) release() error {
	var errs []error
	if a.engine != nil {
		errs = append(errs, a.engine.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	if a.unlock != nil {
		errs = append(errs, a.unlock())
	}
	return errors.Join(errs...)
}
