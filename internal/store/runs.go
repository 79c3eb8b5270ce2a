package store

import (
	"cmp"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

type runRow struct {
	ID         string `gorm:"primaryKey"`
	System     string
	Phase      dsr.Phase
	MapVersion int
	Fence      int64
	LeaseUntil time.Time
	Checkpoint []byte
	Done       bool
}

func (runRow) TableName() string { return "runs" }

func (w *runRow) run() *dsr.Run {
	return &dsr.Run{
		ID: w.ID, System: w.System, Phase: w.Phase, MapVersion: w.MapVersion, Fence: w.Fence,
		LeaseUntil: utc(w.LeaseUntil), Checkpoint: w.Checkpoint, Done: w.Done,
	}
}

type tallyRow struct {
	Task     string     `gorm:"primaryKey"`
	Entity   string     `gorm:"primaryKey"`
	Method   dsr.Method `gorm:"primaryKey"`
	Resolved bool       `gorm:"primaryKey"`
	Rows     int64
}

func (tallyRow) TableName() string { return "tallies" }

func (t *tx) InsertRun(r *dsr.Run) error {
	return create(t, []runRow{{
		ID: r.ID, System: r.System, Phase: r.Phase, MapVersion: r.MapVersion, Fence: r.Fence,
		LeaseUntil: stamp(r.LeaseUntil), Checkpoint: r.Checkpoint, Done: r.Done,
	}})
}

func (t *tx) Run(id string) (*dsr.Run, error) {
	row, err := take[runRow](t, t.db.Where("id = ?", id), "run")
	if err != nil {
		return nil, err
	}
	return row.run(), nil
}

// AcquireRun answers CodeWrongState for a Run that is done.
func (t *tx) AcquireRun(id string, fence int64, now time.Time, lease time.Duration) (*dsr.Run, error) {
	var rows []runRow
	err := t.scan(&rows, `UPDATE runs SET fence = fence + 1, lease_until = ?
		WHERE id = ? AND NOT done AND (lease_until <= ? OR fence = ?) RETURNING *`,
		stamp(now.Add(lease)), id, stamp(now), fence)
	if err != nil {
		return nil, err
	}
	if len(rows) == 1 {
		return rows[0].run(), nil
	}
	row, err := take[runRow](t, t.db.Where("id = ?", id), "run")
	switch {
	case err != nil:
		return nil, err
	case row.Done:
		return nil, &dsr.Error{Code: dsr.CodeWrongState, Msg: "the run is done"}
	}
	return nil, &dsr.Error{Code: dsr.CodeConflict, Msg: "another worker holds the run"}
}

func (t *tx) SaveRun(id string, fence int64, until time.Time, checkpoint []byte, done []connectors.Tally) error {
	err := t.write(all(1, connectors.ErrFenced),
		"UPDATE runs SET checkpoint = ?, lease_until = ? WHERE id = ? AND fence = ? AND NOT done",
		checkpoint, stamp(until), id, fence)
	if err != nil {
		return err
	}
	rows := sumTallies(done)
	add := clause.OnConflict{
		Columns: []clause.Column{{Name: "task"}, {Name: "entity"}, {Name: "method"}, {Name: "resolved"}},
		DoUpdates: clause.Set{{
			Column: clause.Column{Name: "rows"},
			Value:  gorm.Expr(`tallies."rows" + excluded."rows"`),
		}},
	}
	return create(t, rows, add)
}

func (t *tx) KeepRun(id string, fence int64, until time.Time) error {
	return t.write(all(1, connectors.ErrFenced),
		"UPDATE runs SET lease_until = ? WHERE id = ? AND fence = ? AND NOT done", stamp(until), id, fence)
}

// sumTallies adds tallies of the same key, which one INSERT could not touch twice, in a fixed order of locks.
func sumTallies(done []connectors.Tally) []tallyRow {
	sums := make(map[tallyRow]int64, len(done))
	for _, d := range done {
		sums[tallyRow{Task: d.Subject, Entity: d.Entity, Method: d.Method, Resolved: d.Resolved}] += d.Rows
	}
	rows := make([]tallyRow, 0, len(sums))
	for key, n := range sums {
		key.Rows = n
		rows = append(rows, key)
	}
	slices.SortFunc(rows, func(a, b tallyRow) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Method, b.Method))
	})
	return rows
}

// FinishRun also drops the checkpoint.
func (t *tx) FinishRun(id string, fence int64) error {
	return t.write(all(1, connectors.ErrFenced),
		"UPDATE runs SET done = ?, checkpoint = NULL WHERE id = ? AND fence = ? AND NOT done", true, id, fence)
}

func (t *tx) ExpiredRuns(now time.Time, limit int) ([]*dsr.Run, error) {
	rows, err := find[runRow](t, t.db.Where("NOT done AND lease_until <= ?", stamp(now)).Order("lease_until, id").Limit(limit))
	rs := make([]*dsr.Run, len(rows))
	for i := range rows {
		rs[i] = rows[i].run()
	}
	return rs, err
}

func (t *tx) TalliesOf(tasks ...string) ([]connectors.Tally, error) {
	if len(tasks) == 0 {
		return nil, nil
	}
	rows, err := find[tallyRow](t, t.db.Where(t.in("task", tasks)).Order("task, entity, method, resolved"))
	ts := make([]connectors.Tally, len(rows))
	for i, w := range rows {
		ts[i] = connectors.Tally{Subject: w.Task, Entity: w.Entity, Method: w.Method, Rows: w.Rows, Resolved: w.Resolved}
	}
	return ts, err
}
