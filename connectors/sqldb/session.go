package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// call is one statement on its way to the database.
type call struct {
	text string
	args []any
	// row takes one row; nil values are NULL and the bytes are valid during the call only. nil for commands.
	row func(values [][]byte) error
	// affected is set for commands.
	affected int64
	// skipped is set when the call has nothing to ask.
	skipped bool
}

func (s *statement) call(row func(values [][]byte) error) *call {
	return &call{text: s.sb.String(), args: s.args, row: row}
}

const rollbackTime = 5 * time.Second

// errAnswer says that the server answered with more or fewer results than there were statements.
var errAnswer = errors.New("unexpected answer")

// session runs statements on one connection, in order and in as few round trips as the database takes.
type session interface {
	run(ctx context.Context, calls ...*call) error
}

// transaction is a session that ends.
type transaction interface {
	session
	commit(ctx context.Context) error
	// rollback is harmless after commit. It uses a context of its own.
	rollback()
}

// errCall wraps what a row function returned, so that it is not taken for the driver's error.
type errCall struct{ err error }

func (e *errCall) Error() string { return e.err.Error() }
func (e *errCall) Unwrap() error { return e.err }

// called returns what a row function returned as it is, and everything else classified.
func called(d *dialect, err error) error {
	var own *errCall
	if errors.As(err, &own) {
		return own.err
	}
	return classify(d, err)
}

// take reads the result of a call: of a command that is the number of rows that it affected.
func (c *call) take(rows *sql.Rows) error {
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	raw := make([]sql.RawBytes, len(columns))
	into := make([]any, len(columns))
	values := make([][]byte, len(columns))
	for i := range raw {
		into[i] = &raw[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, r := range raw {
			values[i] = r
		}
		if c.row == nil {
			c.affected, err = strconv.ParseInt(string(values[0]), 10, 64)
		} else if err = c.row(values); err != nil {
			err = &errCall{err}
		}
		if err != nil {
			return err
		}
	}
	return rows.Err()
}

// reader returns a session outside any transaction and what gives its connection back.
func (d *DB) reader(ctx context.Context) (session, func(), error) {
	if d.Pool != nil {
		conn, err := d.Pool.Acquire(ctx)
		if err != nil {
			return nil, nil, classify(d.dialect, err)
		}
		return &pgSession{d: d, conn: conn.Conn()}, conn.Release, nil
	}
	conn, err := d.SQL.Conn(ctx)
	if err != nil {
		return nil, nil, classify(d.dialect, err)
	}
	release := func() { _ = conn.Close() }
	if d.dialect.name == mariadb {
		return &mariaSession{d: d, conn: conn}, release, nil
	}
	return &sqliteSession{d: d, q: conn}, release, nil
}

// begin starts a READ COMMITTED transaction: a locking read must see what the transaction that it waited for wrote.
func (d *DB) begin(ctx context.Context) (transaction, error) {
	if d.Pool != nil {
		conn, err := d.Pool.Acquire(ctx)
		if err != nil {
			return nil, classify(d.dialect, err)
		}
		return &pgTx{pgSession: pgSession{d: d, conn: conn.Conn(), first: "BEGIN ISOLATION LEVEL READ COMMITTED"}, release: conn.Release}, nil
	}
	if d.dialect.name == mariadb {
		conn, err := d.SQL.Conn(ctx)
		if err != nil {
			return nil, classify(d.dialect, err)
		}
		tx := mariaSession{d: d, conn: conn, first: "START TRANSACTION"} // its connections have the level from their start
		return &mariaTx{tx}, nil
	}
	tx, err := d.SQL.BeginTx(ctx, nil)
	if err != nil {
		return nil, classify(d.dialect, err)
	}
	return &sqliteTx{sqliteSession: sqliteSession{d: d, q: tx}, tx: tx}, nil
}

type pgSession struct {
	d     *DB
	conn  *pgx.Conn
	first string // sent before the next calls, in the same round trip
}

// preparedStatements is the cache of one connection, kept among its custom data.
type preparedStatements struct {
	names map[string]string
	next  int
}

const (
	preparedKey   = "lethe"
	maxPrepared   = 256
	maxPipelined  = 64
	maxPreparable = 8 << 10 // bytes of text; longer statements are rarely repeated
)

func (s *pgSession) run(ctx context.Context, calls ...*call) error {
	for start := 0; start < len(calls); start += maxPipelined {
		if err := s.pipeline(ctx, calls[start:min(start+maxPipelined, len(calls))]); err != nil {
			return called(s.d.dialect, err)
		}
	}
	return nil
}

func (s *pgSession) pipeline(ctx context.Context, calls []*call) (err error) {
	conn := s.conn.PgConn()
	cache, ok := conn.CustomData()[preparedKey].(*preparedStatements)
	if !ok {
		cache = &preparedStatements{names: map[string]string{}}
		conn.CustomData()[preparedKey] = cache
	}
	p := conn.StartPipeline(ctx)
	defer func() {
		if cerr := p.Close(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	if s.first != "" {
		p.SendQueryParams(s.first, nil, nil, nil, nil)
	}
	fresh := map[string]string{}
	prepares := make([]bool, len(calls))
	for i, c := range calls {
		if c.skipped {
			continue
		}
		params := make([][]byte, len(c.args))
		for j, a := range c.args {
			if params[j], err = pgText(a); err != nil {
				return err
			}
		}
		name, prepared := cache.names[c.text]
		if !prepared {
			name, prepared = fresh[c.text]
		}
		if !prepared && len(cache.names)+len(fresh) < maxPrepared && len(c.text) <= maxPreparable {
			cache.next++ // never used again, even when this pipeline fails half-way
			name, prepared = "lethe_"+strconv.Itoa(cache.next), true
			fresh[c.text] = name
			p.SendPrepare(name, c.text, nil)
			prepares[i] = true
		}
		if prepared {
			p.SendQueryPrepared(name, params, nil, nil)
		} else {
			p.SendQueryParams(c.text, params, nil, nil, nil)
		}
	}
	if err := p.Sync(); err != nil {
		return err
	}
	if s.first != "" {
		if err := s.command(p, nil); err != nil {
			return err
		}
		s.first = ""
	}
	for i, c := range calls {
		if c.skipped {
			continue
		}
		if prepares[i] {
			if _, err := p.GetResults(); err != nil {
				return err
			}
		}
		if err := s.command(p, c); err != nil {
			return err
		}
	}
	for text, name := range fresh {
		cache.names[text] = name
	}
	return nil
}

// command reads the results of one statement.
func (s *pgSession) command(p *pgconn.Pipeline, c *call) error {
	results, err := p.GetResults()
	if err != nil {
		return err
	}
	r, ok := results.(*pgconn.ResultReader)
	if !ok {
		return errAnswer
	}
	for r.NextRow() {
		if c == nil || c.row == nil {
			continue
		}
		if err := c.row(r.Values()); err != nil {
			_, _ = r.Close()
			return &errCall{err}
		}
	}
	tag, err := r.Close()
	if c != nil && err == nil {
		c.affected = tag.RowsAffected()
	}
	return err
}

type pgTx struct {
	pgSession
	release func()
	ended   bool
}

func (t *pgTx) commit(ctx context.Context) error {
	if t.first != "" { // nothing was run
		t.rollback()
		return nil
	}
	err := t.run(ctx, &call{text: "COMMIT"})
	if err == nil && t.conn.PgConn().TxStatus() != 'I' {
		err = transient("the transaction was not committed", nil)
	}
	if err == nil {
		t.ended = true
		t.release()
	}
	return err
}

// rollback has its own short deadline: the context that failed the transaction may be over. A connection that cannot
// roll back is closed by the pool.
func (t *pgTx) rollback() {
	if t.ended {
		return
	}
	t.ended = true
	if t.first == "" && !t.conn.IsClosed() && t.conn.PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), rollbackTime)
		defer cancel()
		if r := t.conn.PgConn().Exec(ctx, "ROLLBACK"); r != nil {
			_ = r.Close()
		}
	}
	t.release()
}

// retryable reports whether a whole transaction may be tried again at once: it lost a deadlock or a race.
func retryable(err error) bool {
	var n number
	if connectors.IsPermanent(err) || dsr.CodeOf(err) != dsr.CodeUnavailable || !errors.As(err, &n) {
		return false
	}
	switch n.code {
	case "40001", "40P01", "55P03", "0A000", "1205", "1213", "1020":
		return true
	}
	return n.system == "SQLite" && strings.TrimSpace(n.code) != "14"
}

// tookTooLong reports whether a statement passed its limit: a smaller one may not.
func tookTooLong(err error) bool {
	var n number
	if !errors.As(err, &n) {
		return false
	}
	return n.code == "57014" || n.code == "1969" || n.code == "3024"
}

// cells copies the values of a row.
func cells(values [][]byte) []cell {
	out := make([]cell, len(values))
	for i, v := range values {
		if v != nil {
			out[i] = cell{string(v), true}
		}
	}
	return out
}
