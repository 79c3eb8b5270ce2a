package engine

import (
	"context"
	"slices"

	"github.com/lethe-gdpr/lethe/dsr"
)

// beginManual makes one Task a System for the rights that people carry out: rectification, restriction, portability
// and objection. Lethe times them and keeps their evidence.
func (c *changes) beginManual(r *dsr.Request, m *atlas, tasks []*dsr.Task) {
	r.MapVersion = m.version
	c.to(r, dsr.Manual, "started", detail{"map": count(int64(m.version))})
	for _, s := range m.Systems {
		if !inScope(r, s) || slices.ContainsFunc(tasks, func(t *dsr.Task) bool { return t.System == s.Name }) {
			continue
		}
		c.fresh = append(c.fresh, &dsr.Task{
			ID: c.e.newID("task_"), Request: r.ID, System: s.Name, Phase: dsr.PhaseManual, State: dsr.TaskPending,
			Attempt: 1, NotBefore: c.now, Updated: c.now,
		})
	}
}

// CompleteTask ends one manual Task. With the last of them the Request is completed.
func (e *Engine) CompleteTask(
	ctx context.Context, a dsr.Actor, id string, version int64, task string, records int64,
) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, m *atlas) error {
		if err := inState(r, "complete a task of", dsr.Manual); err != nil {
			return err
		}
		if records < 0 {
			return invalid("records", "is negative", "how many records were handled")
		}
		t := f.task(id, task)
		if t == nil {
			return &dsr.Error{Code: dsr.CodeNotFound, Field: "task", Msg: "no such task"}
		}
		if t.State != dsr.TaskPending {
			return &dsr.Error{Code: dsr.CodeWrongState, Msg: "the task is " + string(t.State) + " already"}
		}
		t.State = dsr.TaskDone
		t.Receipt = &dsr.Receipt{Request: r.ID, System: t.System, Started: r.CreatedAt, Finished: f.c.now}
		if records > 0 {
			t.Receipt.Lines = []dsr.ReceiptLine{{Method: dsr.Method(r.Kind), Count: records}}
		}
		f.c.task(t)
		f.c.note(r, "task.done", detail{"system": t.System, "records": count(records)})
		for _, t := range f.tasks[id] {
			if t.State == dsr.TaskPending {
				return nil
			}
		}
		if err := f.restrict(ctx, r); err != nil { // should its Hold have been lifted meanwhile
			return err
		}
		return f.c.end(f, r, dsr.Completed, "completed", nil)
	})
}
