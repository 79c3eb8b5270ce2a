// Package store keeps the control plane in PostgreSQL or SQLite. Rows are unexported GORM types that are mapped to
// domain types at its edge; one transaction type serves GORM and River, so that a state change and the job that
// follows it commit together. It sees ciphertext only, and no error that leaves it carries a value of a row.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"gorm.io/gorm"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// Options tune a Store. The zero value works.
type Options struct {
	Logger   *slog.Logger  // nil logs nothing
	MaxConns int32         // of PostgreSQL; 0 is pgx's default
	Slow     time.Duration // statements that take longer are logged, without parameters; 0 is one second
}

// Store is the control plane's database. It is safe for concurrent use.
type Store struct {
	gorm    *gorm.DB
	sql     *sql.DB
	backend backend
	nesting nesting
	log     *slog.Logger
}

var _ engine.Store = (*Store)(nil)

// backend is what differs between the two databases.
type backend interface {
	// begin opens a transaction that GORM and River share.
	begin(ctx context.Context) (transaction, error)
	migrate(ctx context.Context) error
	close() error
}

// transaction is one open transaction of a backend.
type transaction interface {
	db() *gorm.DB
	// run executes statements in order and stops at the first error, its own or a check's.
	run(ctx context.Context, ss []statement) error
	// insert adds jobs.
	insert(ctx context.Context, jobs []job) error
	commit(ctx context.Context) error
	// rollback is harmless after commit.
	rollback()
}

// Open connects to postgres://… or sqlite:///path; it does not migrate. On SQLite the file is created, readable by
// its owner only.
func Open(ctx context.Context, database string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Slow == 0 {
		o.Slow = time.Second
	}
	u, err := url.Parse(database)
	if err != nil {
		// url.Error repeats the URL, and with it the password.
		return nil, &dsr.Error{
			Code: dsr.CodeInvalid, Field: "database", Msg: "is not a URL",
			Hint: "postgres://user@host/name or sqlite:///path/to/file",
		}
	}
	switch u.Scheme {
	case "postgres", "postgresql":
		return openPostgres(ctx, database, o)
	case "sqlite":
		return openSQLite(strings.TrimPrefix(database, "sqlite://"), o)
	}
	return nil, &dsr.Error{
		Code: dsr.CodeInvalid, Field: "database", Msg: fmt.Sprintf("scheme %q is not known", u.Scheme),
		Hint: "postgres://user@host/name or sqlite:///path/to/file",
	}
}

// Migrate brings the schema up to date: Lethe's own tables, then River's. Several processes may call it at once.
func (s *Store) Migrate(ctx context.Context) error { return typed(s.backend.migrate(ctx)) }

// Ping reports whether the database answers. It waits for an open transaction on SQLite.
func (s *Store) Ping(ctx context.Context) error { return typed(s.sql.PingContext(ctx)) }

// Close releases every connection.
func (s *Store) Close() error { return typed(s.backend.close()) }

// Pool is PostgreSQL's connection pool, which River's workers share; nil on SQLite.
func (s *Store) Pool() *pgxpool.Pool {
	if p, ok := s.backend.(*postgres); ok {
		return p.pool
	}
	return nil
}

// SQLite is the one connection of the embedded database, which River's workers share; nil on PostgreSQL.
func (s *Store) SQLite() *sql.DB {
	if s.Pool() != nil {
		return nil
	}
	return s.sql
}

// retries bounds how often a transaction runs again after a conflict with another one.
const retries = 8

// InTx implements [engine.Store].
func (s *Store) InTx(ctx context.Context, fn func(engine.Tx) error) error {
	return s.inTx(ctx, func(t *tx) error { return fn(t) })
}

func (s *Store) inTx(ctx context.Context, fn func(*tx) error) error {
	leave, err := s.nesting.enter()
	if err != nil {
		return err
	}
	defer leave()
	for attempt := 1; ; attempt++ {
		err := s.once(ctx, fn)
		var fault *Fault
		if ctx.Err() != nil && errors.As(err, &fault) {
			return ctx.Err() // the connection was closed under the statement; drivers name that in many ways
		}
		if err == nil || attempt == retries || !retryable(err) {
			return err
		}
		s.log.DebugContext(ctx, "transaction runs again", "attempt", attempt, "cause", err)
		pause := time.NewTimer(rand.N(time.Millisecond << attempt * 2)) //nolint:gosec // jitter needs no secrecy
		select {
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-pause.C:
		}
	}
}

func (s *Store) once(ctx context.Context, fn func(*tx) error) error {
	open, err := s.backend.begin(ctx)
	if err != nil {
		err = typed(err)
		var fault *Fault
		if errors.As(err, &fault) {
			fault.retry = true // nothing was done yet; the database may have been restarted under an idle connection
		}
		return err
	}
	defer open.rollback()
	t := &tx{ctx: ctx, db: open.db(), open: open, postgres: s.Pool() != nil}
	if err := fn(t); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(t.jobs) > 0 {
		if err := open.insert(ctx, t.jobs); err != nil {
			return typed(err)
		}
	}
	return typed(open.commit(ctx))
}
