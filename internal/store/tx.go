package store

import (
	"context"
	"reflect"
	"time"

	"github.com/riverqueue/river"
	"gorm.io/gorm"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// tx implements [engine.Tx] on both databases.
type tx struct {
	ctx      context.Context
	db       *gorm.DB
	postgres bool
	jobs     []job
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

// exec runs one statement and returns how many rows it changed.
func (t *tx) exec(sql string, args ...any) (int64, error) {
	r := t.db.Exec(sql, args...)
	return r.RowsAffected, typed(r.Error)
}

// create inserts rows in as few statements as the databases' limits on parameters allow.
func create[R any](db *gorm.DB, rows []R) error {
	if len(rows) == 0 {
		return nil
	}
	return typed(db.CreateInBatches(rows, batchSize).Error)
}

// batchSize keeps a statement of the widest table (28 columns) below SQLite's 32,766 parameters.
const batchSize = 1000

// find returns the rows that a query selects.
func find[R any](db *gorm.DB) ([]R, error) {
	var rows []R
	return rows, typed(db.Find(&rows).Error)
}

// take returns the one row that a query selects; CodeNotFound when there is none.
func take[R any](db *gorm.DB, what string) (*R, error) {
	var rows []R
	if err := db.Limit(1).Find(&rows).Error; err != nil {
		return nil, typed(err)
	}
	if len(rows) == 0 {
		return nil, notFound(what)
	}
	return &rows[0], nil
}

func notFound(what string) error {
	return &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such " + what}
}
