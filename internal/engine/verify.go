package engine

import (
	"context"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// verify works a slice of a verify Run: the System is searched again by the same identifiers, and by the keys that
// were spooled before the first delete.
func (e *Engine) verify(ctx context.Context, w *workload) (func(*changes, []*member) error, error) {
	if err := e.sound(ctx, w.conn, ""); err != nil {
		return nil, err
	}
	j, err := e.journal(ctx, w)
	if err != nil {
		return nil, err
	}
	held, err := e.holdsFor(ctx, w.atlas, w.run.System)
	if err != nil {
		return nil, err
	}
	failed := map[string]error{}
	residues, err := w.conn.connector.Verify(ctx, connectors.Search{Batch: batch(w.members, w.conn.system), Held: held, Keys: j})
	if err = splitErrors(err, func(task string, err error) { failed[task] = err }); err != nil {
		return nil, err
	}
	byTask := map[string][]dsr.Residue{}
	for _, r := range residues {
		r.System = w.run.System
		byTask[r.Subject] = append(byTask[r.Subject], r)
	}
	return func(c *changes, ms []*member) error {
		for _, m := range ms {
			t := m.task
			if err := failed[t.ID]; err != nil {
				c.fault(t, err)
				continue
			}
			t.State, t.Reason, t.Hint, t.Residue = dsr.TaskDone, "", "", byTask[t.ID]
			n := residueOf(t)
			c.task(t)
			c.note(m.request, "verified", detail{"system": t.System, "residue": count(n)})
		}
		return nil
	}, nil
}
