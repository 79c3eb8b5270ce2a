package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/lethe-gdpr/lethe/dsr"
)

// postgres is the backend for production: one pgxpool under GORM and River.
type postgres struct {
	pool  *pgxpool.Pool
	sql   *sql.DB // over pool
	gorm  *gorm.DB
	river *river.Client[pgx.Tx] // inserts only
}

func openPostgres(ctx context.Context, database string, o Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, &dsr.Error{
			Code: dsr.CodeInvalid, Field: "database", Msg: "is not a PostgreSQL URL",
			Hint: "postgres://user@host:5432/name?sslmode=verify-full",
		}
	}
	if o.MaxConns > 0 {
		cfg.MaxConns = o.MaxConns
	}
	cfg.MaxConns = max(cfg.MaxConns, minConns)
	for name, value := range sessionSettings {
		if _, set := cfg.ConnConfig.RuntimeParams[name]; !set {
			cfg.ConnConfig.RuntimeParams[name] = value
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, typed(err)
	}
	p := &postgres{pool: pool, sql: stdlib.OpenDBFromPool(pool)}
	p.gorm, err = gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: p.sql}), gormConfig(o))
	if err != nil {
		_ = p.close()
		return nil, typed(err)
	}
	p.river, err = river.NewClient(riverpgxv5.New(pool), insertOnly())
	if err != nil {
		_ = p.close()
		return nil, typed(err)
	}
	return &Store{gorm: p.gorm, sql: p.sql, backend: p, log: o.Logger}, nil
}

// minConns is the least that works: River listens and elects beside the transactions, migrations hold a lock.
const minConns = 4

// sessionSettings hold unless the URL says otherwise. Every statement of the control plane has an index. Prepared
// statements keep the plan of a moment when a table was all but empty and a scan was cheapest, until statistics are
// gathered again; meanwhile thousands of rows are scanned each time. Compiling such small queries never pays. A process
// that stands still in the middle of a transaction, because its machine is paused, must not keep others from taking its
// work over: no transaction here waits for anything but the database.
var sessionSettings = map[string]string{
	"application_name": "lethe", "enable_seqscan": "off", "jit": "off", "idle_in_transaction_session_timeout": "20s",
}

func gormConfig(o Options) *gorm.Config {
	return &gorm.Config{
		SkipDefaultTransaction: true, // every statement runs in a transaction of ours
		TranslateError:         true,
		DisableAutomaticPing:   true,
		Logger:                 slowLog{log: o.Logger, slow: o.Slow},
	}
}

// insertOnly is River's client without workers. It announces every insert at once: by default it keeps quiet for
// 100 ms after an announcement, and a job of that time would wait for the workers' next poll.
func insertOnly() *river.Config {
	return &river.Config{Logger: slog.New(slog.DiscardHandler), FetchCooldown: time.Millisecond}
}

func (p *postgres) close() error {
	err := p.sql.Close()
	p.pool.Close()
	return err
}

// begin pins a connection, begins a pgx transaction on it, which River needs, and runs GORM on the same connection.
func (p *postgres) begin(ctx context.Context) (transaction, error) {
	conn, err := p.sql.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var open pgx.Tx
	err = conn.Raw(func(driver any) error {
		var err error
		open, err = driver.(*stdlib.Conn).Conn().Begin(ctx)
		return err
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	db := p.gorm.Session(&gorm.Session{NewDB: true, Context: ctx})
	db.Statement.ConnPool = pinned{conn}
	return &postgresTx{conn: conn, tx: open, gorm: db, river: p.river}, nil
}

// pinned has only the methods of [gorm.ConnPool]. A bare *sql.Conn has BeginTx as well, and a nested
// db.Transaction on it would COMMIT the transaction that is open.
type pinned struct{ conn *sql.Conn }

var _ gorm.ConnPool = pinned{}

func (p pinned) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return p.conn.PrepareContext(ctx, query)
}

func (p pinned) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return p.conn.ExecContext(ctx, query, args...)
}

func (p pinned) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return p.conn.QueryContext(ctx, query, args...)
}

func (p pinned) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return p.conn.QueryRowContext(ctx, query, args...)
}

type postgresTx struct {
	conn  *sql.Conn
	tx    pgx.Tx
	gorm  *gorm.DB
	river *river.Client[pgx.Tx]
}

func (t *postgresTx) db() *gorm.DB { return t.gorm }

// manyArgs is where a statement stops being worth preparing for ever: its shape depends on the number of its rows.
const manyArgs = 256

// run sends everything in one round trip, but for statements of many rows, which go by themselves.
func (t *postgresTx) run(ctx context.Context, ss []statement) error {
	for len(ss) > 0 {
		n := slices.IndexFunc(ss, func(s statement) bool { return len(s.args) > manyArgs })
		if n == 0 {
			args := append([]any{pgx.QueryExecModeDescribeExec}, ss[0].args...)
			done, err := t.tx.Exec(ctx, ss[0].sql, args...)
			if err == nil && ss[0].check != nil {
				err = ss[0].check(done.RowsAffected())
			}
			if err != nil {
				return err
			}
			ss = ss[1:]
			continue
		}
		if n < 0 {
			n = len(ss)
		}
		if err := t.batch(ctx, ss[:n]); err != nil {
			return err
		}
		ss = ss[n:]
	}
	return nil
}

func (t *postgresTx) batch(ctx context.Context, ss []statement) (err error) {
	var batch pgx.Batch
	for _, s := range ss {
		batch.Queue(s.sql, s.args...)
	}
	results := t.tx.SendBatch(ctx, &batch)
	defer func() {
		if closed := results.Close(); err == nil {
			err = closed
		}
	}()
	for _, s := range ss {
		done, err := results.Exec()
		if err == nil && s.check != nil {
			err = s.check(done.RowsAffected())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *postgresTx) insert(ctx context.Context, jobs []job) error {
	_, err := t.river.InsertManyTx(ctx, t.tx, params(jobs))
	return err
}

func (t *postgresTx) commit(ctx context.Context) error { return t.tx.Commit(ctx) }

// rollbackWithin bounds how long a rollback may take once its caller has given up.
const rollbackWithin = 5 * time.Second

func (t *postgresTx) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), rollbackWithin)
	defer cancel()
	if err := t.tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		// The connection's state is unknown: it must not go back to the pool with a transaction open.
		_ = t.conn.Raw(func(driver any) error { return driver.(*stdlib.Conn).Conn().Close(ctx) })
	}
	_ = t.conn.Close()
}
