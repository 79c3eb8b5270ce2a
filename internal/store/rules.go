package store

import (
	"maps"
	"slices"
	"time"

	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

type ruleStateRow struct {
	Rule         string `gorm:"primaryKey"`
	ApprovedHash string
	ApprovedBy   string
	ApprovedAt   *time.Time
	PausedBy     string
	PausedAt     *time.Time
	Counted      *time.Time
	Due          int64
	Held         int64
	Blocked      int64
	Backlog      int64
	LastSuccess  *time.Time
}

func (ruleStateRow) TableName() string { return "rule_states" }

func (w *ruleStateRow) state() *retention.RuleState {
	return &retention.RuleState{
		Rule: w.Rule, ApprovedHash: w.ApprovedHash, ApprovedBy: w.ApprovedBy, ApprovedAt: utcPtr(w.ApprovedAt),
		PausedBy: w.PausedBy, PausedAt: utcPtr(w.PausedAt), Counted: utcPtr(w.Counted), Due: w.Due, Held: w.Held,
		Blocked: w.Blocked, Backlog: w.Backlog, LastSuccess: utcPtr(w.LastSuccess),
	}
}

func (t *tx) RuleStates() (map[string]*retention.RuleState, error) {
	rows, err := find[ruleStateRow](t, t.db)
	by := make(map[string]*retention.RuleState, len(rows))
	for i := range rows {
		by[rows[i].Rule] = rows[i].state()
	}
	return by, err
}

func (t *tx) PutRuleState(s *retention.RuleState) error {
	row := ruleStateRow{
		Rule: s.Rule, ApprovedHash: s.ApprovedHash, ApprovedBy: s.ApprovedBy, ApprovedAt: stampPtr(s.ApprovedAt),
		PausedBy: s.PausedBy, PausedAt: stampPtr(s.PausedAt), Counted: stampPtr(s.Counted), Due: s.Due, Held: s.Held,
		Blocked: s.Blocked, Backlog: s.Backlog, LastSuccess: stampPtr(s.LastSuccess),
	}
	return create(t, []ruleStateRow{row}, clause.OnConflict{Columns: []clause.Column{{Name: "rule"}}, UpdateAll: true})
}

type stopRow struct {
	Name      string `gorm:"primaryKey"`
	StoppedBy string
	StoppedAt time.Time
	Reason    string
}

func (stopRow) TableName() string { return "stops" }

func (t *tx) Stopped(name string) (*engine.Stop, error) {
	rows, err := find[stopRow](t, t.db.Where("name = ?", name).Limit(1))
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &engine.Stop{By: rows[0].StoppedBy, At: utc(rows[0].StoppedAt), Reason: rows[0].Reason}, nil
}

// PutStop keeps the first of several.
func (t *tx) PutStop(name string, s engine.Stop) error {
	row := stopRow{Name: name, StoppedBy: s.By, StoppedAt: stamp(s.At), Reason: s.Reason}
	return create(t, []stopRow{row}, clause.OnConflict{DoNothing: true})
}

func (t *tx) DropStop(name string) error {
	return t.write(nil, "DELETE FROM stops WHERE name = ?", name)
}

// retentionStats adds what there is to say of rules, Sweeps and Holds.
func (t *tx) retentionStats(s *engine.Stats, now time.Time) error {
	var sweeps []struct {
		State retention.SweepState
		N     int64
	}
	err := t.scan(&sweeps, "SELECT state, count(*) AS n FROM sweeps WHERE finished_at IS NULL GROUP BY state")
	if err != nil {
		return err
	}
	s.Sweeps = make(map[retention.SweepState]int64, len(sweeps))
	for _, w := range sweeps {
		s.Sweeps[w.State] = w.N
	}
	stop, err := t.Stopped(engine.StopOfSweeps)
	if err != nil {
		return err
	}
	s.SweepsHalted = stop != nil
	states, err := t.RuleStates()
	if err != nil {
		return err
	}
	for _, rule := range slices.Sorted(maps.Keys(states)) {
		s.Rules = append(s.Rules, *states[rule])
	}
	var holds []struct {
		Restriction bool
		Overdue     bool
		N           int64
	}
	err = t.scan(&holds, `SELECT restriction, COALESCE(review < ?, ?) AS overdue, count(*) AS n FROM holds
		WHERE lifted_at IS NULL GROUP BY 1, 2`, stamp(now), false)
	for _, h := range holds {
		if h.Restriction {
			s.Restrictions += h.N
		} else {
			s.LegalHolds += h.N
		}
		if h.Overdue {
			s.OverdueHolds += h.N
		}
	}
	return err
}
