package store

import (
	"context"
	"database/sql/driver"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// tx implements [engine.Tx] on both databases. Writes whose result nobody waits for are kept back and go to
// PostgreSQL together, before the next read and before the commit: round trips are most of what a transaction costs.
// Their errors come then, so a caller may not go on as if nothing had happened after one.
type tx struct {
	ctx      context.Context
	db       *gorm.DB
	postgres bool
	open     transaction
	pending  []statement
	jobs     []job
}

// statement is a write that was kept back.
type statement struct {
	sql   string
	args  []any
	check func(changed int64) error // nil is satisfied with any number of rows
}

var _ engine.Tx = (*tx)(nil)

type job struct {
	work engine.Work
	at   time.Time
}

// Enqueue remembers the job; all of a transaction's are inserted in one statement before it commits. A job that
// equals one before it adds nothing: work finds out itself what is due.
func (t *tx) Enqueue(w engine.Work, at time.Time) error {
	j := job{work: w, at: at}
	if reflect.TypeOf(w).Comparable() {
		for _, other := range t.jobs {
			if reflect.TypeOf(other.work) == reflect.TypeOf(w) && other.work == w && other.at.Equal(at) {
				return nil
			}
		}
	}
	t.jobs = append(t.jobs, j)
	return nil
}

// queued is a Work that names its queue; the others go to River's default queue.
type queued interface{ Queue() string }

func params(jobs []job) []river.InsertManyParams {
	ps := make([]river.InsertManyParams, len(jobs))
	for i, j := range jobs {
		o := &river.InsertOpts{}
		if j.at.After(time.Now()) {
			o.ScheduledAt = j.at // River looks at scheduled jobs every few seconds only, even when they are due
		}
		if q, ok := j.work.(queued); ok {
			o.Queue = q.Queue()
		}
		ps[i] = river.InsertManyParams{Args: j.work, InsertOpts: o}
	}
	return ps
}

// stamp is how a time is stored: UTC, to the microsecond, which is what PostgreSQL keeps and what makes SQLite's
// text order the order of time.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func stampPtr(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	s := stamp(*t)
	return &s
}

// utc brings a time that was read into the form that [stamp] stored.
func utc(t time.Time) time.Time { return t.UTC() }

func utcPtr(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// write keeps a statement back; check is given the number of rows that it changed.
func (t *tx) write(check func(changed int64) error, sql string, args ...any) error {
	return t.keep(t.dry().Exec(sql, args...), check)
}

// dry builds statements without running them.
func (t *tx) dry() *gorm.DB { return t.db.Session(&gorm.Session{DryRun: true}) }

func (t *tx) keep(built *gorm.DB, check func(changed int64) error) error {
	if built.Error != nil {
		return typed(built.Error)
	}
	t.pending = append(t.pending, statement{sql: built.Statement.SQL.String(), args: built.Statement.Vars, check: check})
	if t.postgres {
		return nil
	}
	return t.flush()
}

// flush runs what was kept back.
func (t *tx) flush() error {
	if len(t.pending) == 0 {
		return nil
	}
	pending := t.pending
	t.pending = nil
	return typed(t.open.run(t.ctx, pending))
}

// exec runs one statement at once and returns how many rows it changed.
func (t *tx) exec(sql string, args ...any) (int64, error) {
	if err := t.flush(); err != nil {
		return 0, err
	}
	r := t.db.Exec(sql, args...)
	return r.RowsAffected, typed(r.Error)
}

// scan reads what a statement returns.
func (t *tx) scan(dest any, sql string, args ...any) error {
	if err := t.flush(); err != nil {
		return err
	}
	return typed(t.db.Raw(sql, args...).Scan(dest).Error)
}

// in selects the rows whose column has one of the values. On PostgreSQL they are one parameter, so that the statement
// is the same for any number of them and is prepared once.
func (t *tx) in(column string, values []string) clause.Expr {
	if t.postgres {
		return clause.Expr{SQL: column + " = ANY(?)", Vars: []any{textArray(values)}}
	}
	return clause.Expr{SQL: column + " IN ?", Vars: []any{values}}
}

// textArray is PostgreSQL's text form of an array. Being a Valuer it is bound as it is: GORM would take a slice apart.
type textArray []string

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func (a textArray) Value() (driver.Value, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, s := range a {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + escape.Replace(s) + `"`)
	}
	b.WriteByte('}')
	return b.String(), nil
}

// create inserts rows in as few statements as the databases' limits on parameters allow.
func create[R any](t *tx, rows []R, conflict ...clause.Expression) error {
	for chunk := range slices.Chunk(rows, batchSize) {
		if err := t.keep(t.dry().Clauses(conflict...).Create(&chunk), nil); err != nil {
			return err
		}
	}
	return nil
}

// batchSize keeps a statement of the widest table (28 columns) below SQLite's 32,766 parameters.
const batchSize = 1000

// find returns the rows that a query selects.
func find[R any](t *tx, q *gorm.DB) ([]R, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	var rows []R
	return rows, typed(q.Find(&rows).Error)
}

// take returns the one row that a query selects; CodeNotFound when there is none.
func take[R any](t *tx, q *gorm.DB, what string) (*R, error) {
	rows, err := find[R](t, q.Limit(1))
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, notFound(what)
	}
	return &rows[0], nil
}

func notFound(what string) error {
	return &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such " + what}
}
