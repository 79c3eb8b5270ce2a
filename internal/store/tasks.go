package store

import (
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

type taskRow struct {
	ID        string `gorm:"primaryKey"`
	Request   string
	System    string
	Phase     dsr.Phase
	State     dsr.TaskState
	Run       string
	Attempt   int
	Reason    string
	Hint      string
	Receipt   *dsr.Receipt  `gorm:"serializer:json"`
	Residue   []dsr.Residue `gorm:"serializer:json"`
	NotBefore time.Time
	Updated   time.Time
}

func (taskRow) TableName() string { return "tasks" }

func rowOfTask(k *dsr.Task) taskRow {
	return taskRow{
		ID: k.ID, Request: k.Request, System: k.System, Phase: k.Phase, State: k.State, Run: k.Run, Attempt: k.Attempt,
		Reason: k.Reason, Hint: k.Hint, Receipt: k.Receipt, Residue: k.Residue, NotBefore: stamp(k.NotBefore),
		Updated: stamp(k.Updated),
	}
}

func (w *taskRow) task() *dsr.Task {
	return &dsr.Task{
		ID: w.ID, Request: w.Request, System: w.System, Phase: w.Phase, State: w.State, Run: w.Run, Attempt: w.Attempt,
		Reason: w.Reason, Hint: w.Hint, Receipt: w.Receipt, Residue: w.Residue, NotBefore: utc(w.NotBefore),
		Updated: utc(w.Updated),
	}
}

func tasksOf(rows []taskRow) []*dsr.Task {
	ts := make([]*dsr.Task, len(rows))
	for i := range rows {
		ts[i] = rows[i].task()
	}
	return ts
}

func (t *tx) InsertTasks(ts ...*dsr.Task) error {
	rows := make([]taskRow, len(ts))
	for i, k := range ts {
		rows[i] = rowOfTask(k)
	}
	return create(t, rows)
}

func (t *tx) TasksOf(requests ...string) ([]*dsr.Task, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	rows, err := find[taskRow](t, t.db.Where(t.in("request", requests)).Order("request, system"))
	return tasksOf(rows), err
}

// UpdateTasks answers CodeNotFound when one of them is gone.
func (t *tx) UpdateTasks(ts ...*dsr.Task) error {
	if len(ts) == 0 {
		return nil
	}
	rows := make([]taskRow, len(ts))
	for i, k := range ts {
		rows[i] = rowOfTask(k)
	}
	// Rows are locked in the order in which they are met.
	slices.SortFunc(rows, func(a, b taskRow) int { return strings.Compare(a.ID, b.ID) })
	return updateBatch(t, rows, "id", []string{
		"phase", "state", "run", "attempt", "reason", "hint", "receipt", "residue", "not_before", "updated",
	}, "", all(len(ts), notFound("task")))
}

func (t *tx) ClaimTasks(
	run, system string, phase dsr.Phase, mapVersion int, now time.Time, limit int,
) ([]*dsr.Task, error) {
	lock := ""
	if t.postgres {
		lock = "FOR UPDATE OF k SKIP LOCKED"
	}
	var rows []taskRow
	err := t.scan(&rows, `UPDATE tasks SET state = ?, run = ?, updated = ? WHERE id IN (
			SELECT k.id FROM tasks k JOIN requests r ON r.id = k.request
			WHERE k.state = 'pending' AND k.system = ? AND k.phase = ? AND k.not_before <= ? AND r.map_version = ?
			ORDER BY k.not_before, k.id LIMIT ? `+lock+`) RETURNING *`,
		dsr.TaskClaimed, run, stamp(now), system, phase, stamp(now), mapVersion, limit)
	slices.SortFunc(rows, func(a, b taskRow) int { return strings.Compare(a.ID, b.ID) })
	return tasksOf(rows), err
}

func (t *tx) PendingMapVersions(system string, phase dsr.Phase, now time.Time) ([]int, error) {
	var versions []int
	err := t.scan(&versions, `SELECT DISTINCT r.map_version FROM tasks k JOIN requests r ON r.id = k.request
		WHERE k.state = 'pending' AND k.system = ? AND k.phase = ? AND k.not_before <= ? ORDER BY r.map_version`,
		system, phase, stamp(now))
	return versions, err
}

func (t *tx) RunTasks(run string) ([]*dsr.Task, error) {
	if run == "" {
		return nil, nil
	}
	rows, err := find[taskRow](t, t.db.Where("run = ? AND run <> ''", run).Order("id"))
	return tasksOf(rows), err
}
