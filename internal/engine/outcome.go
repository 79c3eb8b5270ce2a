package engine

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// fault records why a Task stopped. A transient fault of one subject is tried again a bounded number of times; the
// others wait for a person.
func (c *changes) fault(t *dsr.Task, err error) {
	tried := 0
	if n, ok := strings.CutPrefix(t.Reason, "retry-"); ok {
		tried, _ = strconv.Atoi(n)
	}
	var one *connectors.SubjectError
	if errors.As(err, &one) && !connectors.IsPermanent(err) && tried+1 < c.e.c.Policy.Attempts {
		c.pend(t, t.Phase, c.now.Add(min(c.e.c.Policy.Backoff<<min(tried, 10), 5*time.Minute)))
		t.Reason = "retry-" + strconv.Itoa(tried+1)
		return
	}
	reason, hint := explain(err)
	if one != nil && one.Entity != "" {
		hint = t.System + "." + one.Entity + ": " + hint
	}
	c.fail(t, reason, hint)
}

// explain turns an error into a stable code and a sentence for a person. Only typed errors speak: the text of any
// other may repeat what a driver was given.
func explain(err error) (reason, hint string) {
	var own *dsr.Error
	if !errors.As(err, &own) {
		if connectors.IsPermanent(err) {
			return reasonFault, "see the log of the worker, then retry"
		}
		return reasonUnavailable, "the system did not answer; when it does, retry"
	}
	reason = string(own.Code)
	if own.Code == dsr.CodeUnavailable || reason == "" {
		reason = reasonUnavailable
	}
	hint = own.Msg
	if own.Hint != "" {
		hint += "; " + own.Hint
	}
	if reason == reasonUnavailable { // it was tried again as often as it may be
		hint = strings.TrimSuffix(hint, ".") + "; then retry"
	}
	return reason, hint
}

// receipts sets the Receipts of Tasks from the tallies that were saved with the checkpoints: never
// from what a verb says that it did.
func (c *changes) receipts(w *workload, ms []*member) error {
	ids := make([]string, len(ms))
	for i, m := range ms {
		ids[i] = m.task.ID
	}
	tallies, err := c.tx.TalliesOf(ids...)
	if err != nil {
		return err
	}
	byTask := map[string][]connectors.Tally{}
	for _, t := range tallies {
		byTask[t.Subject] = append(byTask[t.Subject], t)
	}
	for _, m := range ms {
		rc := &dsr.Receipt{
			Request: m.request.ID, System: w.run.System, Started: w.started, Finished: c.now, Residue: residueOf(m.task),
		}
		if old := m.task.Receipt; old != nil && !old.Started.IsZero() {
			rc.Started = old.Started
			if w.run.Phase == dsr.PhaseVerify {
				rc.Finished = old.Finished
			}
		}
		at := map[string]int{}
		for _, t := range byTask[m.task.ID] {
			k := t.Entity + "\x00" + string(t.Method)
			i, ok := at[k]
			if !ok {
				i = len(rc.Lines)
				at[k] = i
				rc.Lines = append(rc.Lines, dsr.ReceiptLine{Entity: t.Entity, Method: t.Method})
			}
			rc.Lines[i].Count += t.Rows
			if t.Resolved {
				rc.Lines[i].Resolved += t.Rows
			}
		}
		m.task.Receipt = rc
		c.task(m.task)
		if m.task.State == dsr.TaskDone && w.run.Phase != dsr.PhaseVerify {
			d := detail{"system": w.run.System, "phase": string(w.run.Phase)}
			for _, l := range rc.Lines {
				d[l.Entity+"."+string(l.Method)] = count(l.Count)
			}
			c.note(m.request, "task.done", d)
		}
	}
	return nil
}
