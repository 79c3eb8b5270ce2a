package sqldb

import (
	"context"
	"database/sql"
)

// sqliteSession runs on a connection or in a transaction.
type sqliteSession struct {
	d *DB
	q interface {
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	}
}

func (s *sqliteSession) run(ctx context.Context, calls ...*call) error {
	for _, c := range calls {
		if c.skipped {
			continue
		}
		if err := s.one(ctx, c); err != nil {
			return called(s.d.dialect, err)
		}
	}
	return nil
}

func (s *sqliteSession) one(ctx context.Context, c *call) error {
	ctx, cancel := context.WithTimeout(ctx, s.d.statementTimeout()) // the others' servers keep the limit themselves
	defer cancel()
	if c.row == nil {
		r, err := s.q.ExecContext(ctx, c.text, c.args...)
		if err != nil {
			return err
		}
		c.affected, err = r.RowsAffected()
		return err
	}
	rows, err := s.q.QueryContext(ctx, c.text, c.args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	return c.take(rows)
}

type sqliteTx struct {
	sqliteSession
	tx *sql.Tx
}

func (t *sqliteTx) commit(context.Context) error { return classify(t.d.dialect, t.tx.Commit()) }
func (t *sqliteTx) rollback()                    { _ = t.tx.Rollback() }
