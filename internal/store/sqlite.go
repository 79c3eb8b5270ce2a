package store

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"

	gormsqlite "github.com/glebarez/sqlite"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"gorm.io/gorm"

	"github.com/lethe-gdpr/lethe/dsr"
)

// lite is the embedded backend: one file, one process, one open connection.
type lite struct {
	sql   *sql.DB
	gorm  *gorm.DB
	river *river.Client[*sql.Tx] // inserts only
}

func openSQLite(path string, o Options) (*Store, error) {
	if err := private(path); err != nil {
		return nil, &dsr.Error{
			Code: dsr.CodeInvalid, Field: "database", Msg: "cannot be opened or created",
			Hint: "its folder must exist and be writable", Err: errors.Unwrap(err),
		}
	}
	q := url.Values{
		"_txlock": {"immediate"}, // a transaction that reads first could not become a writer later
		"_pragma": {
			"journal_mode(WAL)",
			"synchronous(FULL)", // an intent must be on disk before the chunk that it announces commits
			"foreign_keys(1)",
			"secure_delete(1)", // what is forgotten is overwritten, not only unlinked
			"busy_timeout(10000)",
		},
	}
	db, err := sql.Open(gormsqlite.DriverName, "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, typed(err)
	}
	db.SetMaxOpenConns(1)
	l := &lite{sql: db}
	l.gorm, err = gorm.Open(gormsqlite.Dialector{Conn: db}, gormConfig(o))
	if err != nil {
		_ = db.Close()
		return nil, typed(err)
	}
	l.river, err = river.NewClient(riversqlite.New(db), insertOnly())
	if err != nil {
		_ = db.Close()
		return nil, typed(err)
	}
	return &Store{gorm: l.gorm, sql: db, backend: l, log: o.Logger}, nil
}

// private creates the file for its owner only; SQLite gives its WAL the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func (l *lite) close() error { return l.sql.Close() }

func (l *lite) begin(ctx context.Context) (transaction, error) {
	db := l.gorm.WithContext(ctx).Begin()
	if db.Error != nil {
		return nil, db.Error
	}
	return &liteTx{gorm: db, tx: db.Statement.ConnPool.(*sql.Tx), river: l.river}, nil
}

type liteTx struct {
	gorm  *gorm.DB
	tx    *sql.Tx
	river *river.Client[*sql.Tx]
}

func (t *liteTx) db() *gorm.DB { return t.gorm }

func (t *liteTx) run(ctx context.Context, ss []statement) error {
	for _, s := range ss {
		done, err := t.tx.ExecContext(ctx, s.sql, s.args...)
		if err != nil {
			return err
		}
		changed, err := done.RowsAffected()
		if err == nil && s.check != nil {
			err = s.check(changed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *liteTx) insert(ctx context.Context, jobs []job) error {
	_, err := t.river.InsertManyTx(ctx, t.tx, params(jobs))
	return err
}

func (t *liteTx) commit(context.Context) error { return t.tx.Commit() }
func (t *liteTx) rollback()                    { _ = t.tx.Rollback() }
