package store

import (
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

type sweepRow struct {
	ID          string `gorm:"primaryKey"`
	Rule        string
	System      string
	Entity      string
	Action      retention.Action
	RuleHash    string
	MapVersion  int
	State       retention.SweepState
	StartedBy   string
	AtOnce      bool
	CutOff      time.Time
	Due         *int64
	Held        int64
	Blocked     int64
	Total       int64
	BlockedBy   []string `gorm:"serializer:json"`
	ApprovedBy  string
	Approved    int64
	Remaining   *int64
	Measures    retention.SweepMeasures `gorm:"serializer:json"`
	Reason      string
	Hint        string
	CreatedAt   time.Time `gorm:"autoCreateTime:false"`
	UpdatedAt   time.Time `gorm:"autoUpdateTime:false"`
	FinishedAt  *time.Time
	Fence       int64
	LeaseUntil  time.Time
	Failures    int
	Checkpoint  []byte
	Interrupted bool
	Works       bool
	Version     int64
}

func (sweepRow) TableName() string { return "sweeps" }

type sweepTallyRow struct {
	Sweep    string     `gorm:"primaryKey"`
	Entity   string     `gorm:"primaryKey"`
	Method   dsr.Method `gorm:"primaryKey"`
	Resolved bool       `gorm:"primaryKey"`
	Rows     int64
}

func (sweepTallyRow) TableName() string { return "sweep_tallies" }

func rowOfSweep(s *retention.Sweep) sweepRow {
	return sweepRow{
		ID: s.ID, Rule: s.Rule, System: s.System, Entity: s.Entity, Action: s.Action, RuleHash: s.RuleHash,
		MapVersion: s.MapVersion, State: s.State, StartedBy: s.StartedBy, AtOnce: s.Now, CutOff: stamp(s.Before), Due: s.Due,
		Held: s.Held, Blocked: s.Blocked, Total: s.Total, BlockedBy: s.BlockedBy, ApprovedBy: s.ApprovedBy,
		Approved: s.Approved, Remaining: s.Left, Measures: s.Measures, Reason: s.Reason, Hint: s.Hint,
		CreatedAt: stamp(s.CreatedAt), UpdatedAt: stamp(s.UpdatedAt), FinishedAt: stampPtr(s.FinishedAt), Fence: s.Fence,
		LeaseUntil: stamp(s.LeaseUntil), Failures: s.Failures, Checkpoint: s.Checkpoint, Works: s.Works, Version: s.Version,
	}
}

func (w *sweepRow) sweep() *retention.Sweep {
	return &retention.Sweep{
		ID: w.ID, Rule: w.Rule, System: w.System, Entity: w.Entity, Action: w.Action, RuleHash: w.RuleHash,
		MapVersion: w.MapVersion, State: w.State, StartedBy: w.StartedBy, Now: w.AtOnce, Before: utc(w.CutOff), Due: w.Due,
		Held: w.Held, Blocked: w.Blocked, Total: w.Total, BlockedBy: w.BlockedBy, ApprovedBy: w.ApprovedBy,
		Approved: w.Approved, Left: w.Remaining, Measures: w.Measures, Reason: w.Reason, Hint: w.Hint,
		CreatedAt: utc(w.CreatedAt), UpdatedAt: utc(w.UpdatedAt), FinishedAt: utcPtr(w.FinishedAt), Fence: w.Fence,
		LeaseUntil: utc(w.LeaseUntil), Failures: w.Failures, Checkpoint: w.Checkpoint, Works: w.Works, Version: w.Version,
	}
}

func (t *tx) InsertSweep(s *retention.Sweep) error {
	s.Version = max(s.Version, 1)
	if err := create(t, []sweepRow{rowOfSweep(s)}); err != nil {
		return err
	}
	return t.flush() // whoever comes second must learn it here
}

func (t *tx) Sweep(id string) (*retention.Sweep, error) { return t.oneSweep(t.db.Where("id = ?", id)) }

func (t *tx) LockSweep(id string) (*retention.Sweep, error) {
	q := t.db.Where("id = ?", id)
	if t.postgres {
		q = q.Clauses(clause.Locking{Strength: "NO KEY UPDATE"})
	}
	return t.oneSweep(q)
}

func (t *tx) oneSweep(q *gorm.DB) (*retention.Sweep, error) {
	row, err := take[sweepRow](t, q, "sweep")
	if err != nil {
		return nil, err
	}
	ss, err := t.withResults([]sweepRow{*row})
	if err != nil {
		return nil, err
	}
	return ss[0], nil
}

// withResults adds up what was saved with the checkpoints.
func (t *tx) withResults(rows []sweepRow) ([]*retention.Sweep, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]string, len(rows))
	ss := make([]*retention.Sweep, len(rows))
	by := make(map[string]*retention.Sweep, len(rows))
	for i := range rows {
		ss[i], ids[i] = rows[i].sweep(), rows[i].ID
		by[ids[i]] = ss[i]
	}
	tallies, err := find[sweepTallyRow](t, t.db.Where(t.in("sweep", ids)).Order("sweep, entity, method, resolved"))
	if err != nil {
		return nil, err
	}
	for _, y := range tallies {
		s := by[y.Sweep]
		n := len(s.Results)
		if n == 0 || s.Results[n-1].Entity != y.Entity || s.Results[n-1].Method != y.Method {
			s.Results = append(s.Results, dsr.ReceiptLine{Entity: y.Entity, Method: y.Method})
			n++
		}
		s.Results[n-1].Count += y.Rows
		if y.Resolved {
			s.Results[n-1].Resolved += y.Rows
		}
	}
	return ss, nil
}

func (t *tx) sweeps(q *gorm.DB) ([]*retention.Sweep, error) {
	rows, err := find[sweepRow](t, q)
	if err != nil {
		return nil, err
	}
	return t.withResults(rows)
}

func (t *tx) OpenSweeps(rule string) ([]*retention.Sweep, error) {
	q := t.db.Where("finished_at IS NULL")
	if rule != "" {
		q = q.Where("rule = ?", rule)
	}
	return t.sweeps(q.Order("id"))
}

// changing are the columns of a Sweep that UpdateSweep writes.
var changing = []string{
	"map_version", "state", "at_once", "due", "held", "blocked", "total", "blocked_by", "approved_by", "approved",
	"remaining", "measures", "reason", "hint", "updated_at", "finished_at", "failures", "works", "version",
}

func (t *tx) UpdateSweep(s *retention.Sweep) error {
	s.Version++
	err := updateBatch(t, []sweepRow{rowOfSweep(s)}, "id", changing, "", all(1, notFound("sweep")))
	if err != nil || s.State.Open() {
		return err
	}
	return t.write(nil, "UPDATE sweeps SET checkpoint = NULL WHERE id = ?", s.ID)
}

func (t *tx) DoneSweeps(rule string, limit int) ([]*retention.Sweep, error) {
	return t.sweeps(t.db.Where("rule = ? AND state = ?", rule, retention.SweepDone).Order("id DESC").Limit(limit))
}

func (t *tx) LastSweeps() (map[string]*retention.Sweep, error) {
	ss, err := t.sweeps(t.db.Where("id IN (SELECT max(id) FROM sweeps GROUP BY rule)"))
	by := make(map[string]*retention.Sweep, len(ss))
	for _, s := range ss {
		by[s.Rule] = s
	}
	return by, err
}

// ListSweeps returns at most 500 a page, 50 when f.Limit is zero.
func (t *tx) ListSweeps(f engine.SweepFilter) ([]*retention.Sweep, string, error) {
	limit := pageOf(f.Limit)
	q := t.db.Order("id DESC").Limit(limit + 1)
	if f.Rule != "" {
		q = q.Where("rule = ?", f.Rule)
	}
	if f.System != "" {
		q = q.Where("system = ?", f.System)
	}
	if len(f.States) > 0 {
		q = q.Where("state IN ?", f.States)
	}
	if f.Cursor != "" {
		q = q.Where("id < ?", f.Cursor)
	}
	ss, err := t.sweeps(q)
	if err != nil || len(ss) <= limit {
		return ss, "", err
	}
	return ss[:limit], ss[limit-1].ID, nil
}

func (t *tx) AcquireSweep(id string, fence int64, now time.Time, lease time.Duration) (*retention.Sweep, error) {
	n, err := t.exec(`UPDATE sweeps SET fence = fence + 1, lease_until = ?, interrupted = ?, works = ?
		WHERE id = ? AND state = 'running' AND (lease_until <= ? OR fence = ?)`,
		stamp(now.Add(lease)), false, true, id, stamp(now), fence)
	if err != nil {
		return nil, err
	}
	s, err := t.Sweep(id)
	switch {
	case err != nil:
		return nil, err
	case n == 1:
		return s, nil
	case s.State != retention.SweepRunning:
		return nil, &dsr.Error{Code: dsr.CodeWrongState, Msg: "the sweep is " + string(s.State)}
	}
	return nil, &dsr.Error{Code: dsr.CodeConflict, Msg: "another worker holds the sweep"}
}

func (t *tx) SaveSweep(id string, fence int64, until time.Time, checkpoint []byte, done []connectors.Tally) (bool, error) {
	var rows []sweepRow
	err := t.scan(&rows, `UPDATE sweeps SET checkpoint = ?, lease_until = ?
		WHERE id = ? AND fence = ? AND state = 'running' RETURNING interrupted`, checkpoint, stamp(until), id, fence)
	if err != nil {
		return false, err
	}
	if len(rows) == 0 {
		return false, connectors.ErrFenced
	}
	var tallies []sweepTallyRow
	for _, y := range sumTallies(done) {
		tallies = append(tallies, sweepTallyRow{Sweep: id, Entity: y.Entity, Method: y.Method, Resolved: y.Resolved, Rows: y.Rows})
	}
	return rows[0].Interrupted, create(t, tallies, clause.OnConflict{
		Columns: []clause.Column{{Name: "sweep"}, {Name: "entity"}, {Name: "method"}, {Name: "resolved"}},
		DoUpdates: clause.Set{{
			Column: clause.Column{Name: "rows"},
			Value:  gorm.Expr(`sweep_tallies."rows" + excluded."rows"`),
		}},
	})
}

func (t *tx) BeatSweep(id string, fence int64, until time.Time) (bool, error) {
	var rows []sweepRow
	err := t.scan(&rows, `UPDATE sweeps SET lease_until = ? WHERE id = ? AND fence = ? AND state = 'running'
		RETURNING interrupted`, stamp(until), id, fence)
	if err != nil {
		return false, err
	}
	if len(rows) == 0 {
		return false, connectors.ErrFenced
	}
	return rows[0].Interrupted, nil
}

func (t *tx) InterruptSweeps(rule string) error {
	return t.write(nil, "UPDATE sweeps SET interrupted = ? WHERE finished_at IS NULL AND (? = '' OR rule = ?)", true, rule, rule)
}

func (t *tx) ExpiredSweeps(now time.Time, limit int) ([]*retention.Sweep, error) {
	return t.sweeps(t.db.Where("state = 'running' AND lease_until <= ?", stamp(now)).Order("lease_until, id").Limit(limit))
}
