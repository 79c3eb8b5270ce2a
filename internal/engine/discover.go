package engine

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/identifier"
)

// Rounds of discovery: in the first four only entities that teach are asked, and only while something new is
// learned; then everything is located once.
const (
	maxRounds = 4
	fullRound = maxRounds + 1
)

// Reasons why a Request needs attention or waits. They are stable codes.
const (
	reasonAmbiguous     = "ambiguous"              // one identifier matches several subject rows
	reasonStillLearning = "still-learning"         // the fourth round taught something new
	reasonRows          = "over-rows-per-request"  // a cap of limits
	reasonShare         = "over-share-of-table"    // a cap of limits
	reasonRate          = "over-requests-per-hour" // a cap of policy
	reasonDrift         = "drift"                  // more was found than was approved
	reasonResidue       = "residue"                // still found after the last round of erasure
	reasonUnsupported   = "unsupported"            // the connector cannot do what the Plan asks
	reasonUnavailable   = "unavailable"            // transient faults did not end
	reasonFault         = "fault"                  // a permanent fault without a code of its own
	reasonExport        = "waits-for-export"       // the subject's copy comes first
	reasonTaught        = "taught"                 // of a Task whose round learned something
	reasonPackage       = "package-not-assembled"  // see Hint
)

// begin starts a Request's work once instruction and identity are settled: discovery, or manual Tasks for the kinds
// that people carry out. tasks are those it has already.
func (c *changes) begin(r *dsr.Request, m *atlas, tasks []*dsr.Task, event string) {
	if !r.Kind.Automatic() {
		c.beginManual(r, m, tasks)
		return
	}
	r.MapVersion, r.Round, r.PlanHash, r.ApprovedHash, r.ApprovedBy = m.version, 1, "", "", ""
	teachers := m.teachers()
	if len(teachers) == 0 {
		r.Round = fullRound
	}
	c.to(r, dsr.Discovering, event, detail{"map": count(int64(m.version))})
	have := map[string]*dsr.Task{}
	for _, t := range tasks {
		have[t.System] = t
	}
	for _, s := range m.Systems {
		teaches := slices.Contains(teachers, s.Name)
		if !teaches && !inScope(r, s) {
			continue
		}
		t := have[s.Name]
		if t == nil {
			t = &dsr.Task{ID: c.e.newID("task_"), Request: r.ID, System: s.Name, Attempt: 1}
			c.fresh = append(c.fresh, t)
		}
		delete(have, s.Name)
		t.Attempt, t.Residue, t.Receipt = 1, nil, nil
		if teaches || r.Round == fullRound {
			c.pend(t, dsr.PhaseLocate, c.now)
		} else {
			t.Phase, t.State, t.Run, t.Reason, t.Hint, t.NotBefore = dsr.PhaseLocate, dsr.TaskDone, "", "", "", c.now
			c.task(t)
		}
	}
	for _, t := range have {
		t.State, t.Reason, t.Hint = dsr.TaskCancelled, "", ""
		c.task(t)
	}
}

// finding is what one Locate found of one member.
type finding struct {
	learned   []dsr.Identifier
	round     int // in which the member's Request is now
	receipt   *dsr.Receipt
	ambiguous []connectors.Ambiguity
	share     string // entity above ShareOfTable
	err       error
}

// locate works a slice of a locate Run: it reads the System outside any transaction and returns what each Task found.
func (e *Engine) locate(ctx context.Context, w *workload) (map[string]*finding, error) {
	if err := e.sound(ctx, w.conn, ""); err != nil {
		return nil, err
	}
	found := make(map[string]*finding, len(w.members))
	var teaching, full []*member
	for _, m := range w.members {
		found[m.task.ID] = &finding{round: m.request.Round}
		if m.request.Round < fullRound {
			teaching = append(teaching, m)
		} else {
			full = append(full, m)
		}
	}
	teachers := w.atlas.teachers()
	alone := len(teachers) == 1 && teachers[0] == w.conn.system.Name
	for len(teaching) > 0 {
		located, err := e.ask(ctx, w, connectors.Query{Batch: batch(teaching, w.conn.system), Teaching: true}, found)
		if err != nil {
			return nil, err
		}
		var again []*member
		for _, m := range teaching {
			f := found[m.task.ID]
			if f.err != nil || !alone {
				continue
			}
			// Nobody else teaches: the next round can follow at once.
			news := newTo(m.ids, located[m.task.ID])
			m.ids = append(m.ids, news...)
			switch {
			case len(news) == 0:
				f.round = fullRound
				if inScope(m.request, w.conn.system) {
					full = append(full, m)
				}
			case f.round == maxRounds:
				f.err = stillLearning()
			default:
				f.round++
				again = append(again, m)
			}
		}
		teaching = again
	}
	for kind, ms := range byKind(full) {
		q := connectors.Query{Batch: batch(ms, w.conn.system), Export: kind == dsr.Access}
		if _, err := e.ask(ctx, w, q, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func byKind(ms []*member) map[dsr.Kind][]*member {
	out := map[dsr.Kind][]*member{}
	for _, m := range ms {
		out[m.request.Kind] = append(out[m.request.Kind], m)
	}
	return out
}

func stillLearning() error {
	return connectors.Permanent(reasonStillLearning, "the fourth round of discovery still learned identifiers",
		"see whether an entity that teaches joins people who are not one; then retry", nil)
}

// ask calls Locate and adds what it says to found. It returns what this call taught about each Task.
func (e *Engine) ask(
	ctx context.Context, w *workload, q connectors.Query, found map[string]*finding,
) (map[string][]dsr.Identifier, error) {
	located, err := w.conn.connector.Locate(ctx, q)
	if err = splitErrors(err, func(task string, err error) {
		if f := found[task]; f != nil {
			f.err = err
		}
	}); err != nil {
		return nil, err
	}
	taught := map[string][]dsr.Identifier{}
	for _, l := range located.Learned {
		f := found[l.Subject]
		if f == nil {
			continue
		}
		id, ok := e.normaliseLearned(w.atlas, l.Identifier)
		if !ok {
			continue
		}
		taught[l.Subject] = append(taught[l.Subject], id)
		f.learned = append(f.learned, id)
	}
	for _, a := range located.Ambiguous {
		if f := found[a.Subject]; f != nil {
			f.ambiguous = append(f.ambiguous, a)
		}
	}
	if q.Teaching {
		return taught, nil
	}
	limits := w.conn.system.Limits
	for _, s := range q.Batch {
		found[s.Ref].receipt = &dsr.Receipt{
			System: w.conn.system.Name, Unsearched: qualify(w.conn.system.Name, located.Unsearched), Copies: located.Copies,
		}
	}
	for _, n := range located.Counts {
		f := found[n.Subject]
		if f == nil || n.Rows == 0 {
			continue
		}
		f.receipt.Lines = append(f.receipt.Lines, dsr.ReceiptLine{
			Entity: n.Entity, Method: n.Method, Count: n.Rows, Exception: n.Exception, Others: n.Others,
		})
		if !q.Export && destructive(n.Method) && limits.ShareOfTable > 0 && n.TableRows >= smallTable &&
			float64(n.Rows) > limits.ShareOfTable*float64(n.TableRows) {
			f.share = n.Entity
		}
	}
	return taught, nil
}

// smallTable is the size below which the share of a table says nothing.
const smallTable = 1000

func destructive(m dsr.Method) bool {
	switch m {
	case dsr.Delete, dsr.Mask, dsr.Redact, dsr.Release, dsr.Anchor:
		return true
	}
	return false
}

func qualify(system string, fields []string) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = system + "." + f
	}
	return out
}

// batch is the contract's view of members, in the order of their Tasks.
func batch(ms []*member, s *connectors.System) connectors.Batch {
	b := make(connectors.Batch, len(ms))
	for i, m := range ms {
		b[i] = connectors.Subject{
			Ref: m.task.ID, Tenant: m.request.Tenant, Identifiers: m.ids, Entities: scopedEntities(m.request, s),
		}
	}
	return b
}

// newTo returns those of learned that are not among known, without repeats.
func newTo(known, learned []dsr.Identifier) []dsr.Identifier {
	var news []dsr.Identifier
	for _, l := range learned {
		same := func(o dsr.Identifier) bool { return o.Name == l.Name && o.Value == l.Value }
		if !slices.ContainsFunc(known, same) && !slices.ContainsFunc(news, same) {
			news = append(news, l)
		}
	}
	return news
}

// normalise brings an identifier into the form that is compared; see identifier.Normalise.
func (e *Engine) normalise(m *atlas, name string, raw dsr.Secret) (dsr.Identifier, error) {
	v, err := identifier.Normalise(m.Identifiers[name], raw.Reveal(), m.Controller.Country)
	return dsr.Identifier{Name: name, Value: v}, err
}

// normaliseLearned is normalise for what a row holds. A value that is not valid for its kind is still what the
// System calls the subject, so it is kept as it is; an empty one teaches nothing.
func (e *Engine) normaliseLearned(m *atlas, id dsr.Identifier) (dsr.Identifier, bool) {
	if _, ok := m.Identifiers[id.Name]; !ok || id.Name == m.Tenants {
		return id, false
	}
	out, err := e.normalise(m, id.Name, id.Value)
	if err != nil {
		out = dsr.Identifier{Name: id.Name, Value: dsr.NewSecret(strings.TrimSpace(id.Value.Reveal()))}
	}
	out.Origin, out.Source = dsr.Learned, id.Source
	return out, !out.Value.IsZero()
}

// splitErrors hands every SubjectError in err to fn and returns what is left: the fault of the whole batch.
func splitErrors(err error, fn func(task string, err error)) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var rest []error
		for _, one := range joined.Unwrap() {
			if left := splitErrors(one, fn); left != nil {
				rest = append(rest, left)
			}
		}
		return errors.Join(rest...)
	}
	var s *connectors.SubjectError
	if errors.As(err, &s) {
		fn(s.Subject, s)
		return nil
	}
	return err
}

// located writes what a locate Run found and moves on the Requests whose round it ended. It runs in the Run's
// closing transaction; ms are re-read under lock.
func (c *changes) located(ms []*member, found map[string]*finding) error {
	for _, m := range ms {
		t, f, r := m.task, found[m.task.ID], m.request
		if f == nil || r.State != dsr.Discovering {
			t.State = dsr.TaskCancelled
			c.task(t)
			continue
		}
		known, err := c.known(m)
		if err != nil {
			return err
		}
		news, taught := newTo(known, f.learned), false
		if len(news) > 0 && f.err == nil {
			sealed, err := c.e.seal(r.ID, r.Tenant, m.key, news)
			if err != nil {
				return err
			}
			c.learned = append(c.learned, sealed...)
			taught = true
			c.note(r, "learned", detail{"system": t.System, "identifiers": count(int64(len(news))), "round": count(int64(r.Round))})
		}
		if f.err == nil {
			r.Round = max(r.Round, f.round)
		}
		switch {
		case f.err != nil:
			c.fault(t, f.err)
		case len(f.ambiguous) > 0:
			a := f.ambiguous[0]
			c.fail(t, reasonAmbiguous, "identifier "+a.Identifier+" matches "+count(a.Rows)+" rows of "+t.System+"."+a.Entity+
				"; cancel this request and file it with an identifier that is one person's")
		case f.share != "":
			c.fail(t, reasonShare, t.System+"."+f.share+" would lose more than its share_of_table; raise the limit or look closer, then retry")
		default:
			t.State = dsr.TaskDone
			if taught && f.round < fullRound {
				t.Reason = reasonTaught
			}
			c.task(t)
		}
		if f.receipt != nil {
			f.receipt.Request = r.ID
			f.receipt.Finished = c.now
			t.Receipt = f.receipt
		}
	}
	return nil
}

// known are a member's identifiers as they stand under lock: another System may have taught some meanwhile.
func (c *changes) known(m *member) ([]dsr.Identifier, error) {
	return unseal(m.request.ID, m.key, m.sealed)
}

// roundDone moves a Request on whose locate Tasks are all finished: another round, everything once, or the Plan.
func (f *flow) roundDone(r *dsr.Request, m *atlas, tasks []*dsr.Task) error {
	c := f.c
	for _, t := range tasks {
		if t.State == dsr.TaskFailed {
			c.attention(r, t.Reason, t.Hint, detail{"system": t.System})
			return nil
		}
	}
	if r.Round < fullRound {
		switch {
		case !slices.ContainsFunc(tasks, func(t *dsr.Task) bool { return t.Reason == reasonTaught }):
			r.Round = fullRound
		case r.Round == maxRounds:
			c.attention(r, reasonStillLearning,
				"see whether an entity that teaches joins people who are not one; then retry", nil)
			return nil
		default:
			r.Round++
		}
	}
	var pending []*dsr.Task
	teachers := m.teachers()
	for _, t := range tasks {
		s := m.System(t.System)
		if s == nil || t.State == dsr.TaskCancelled {
			continue
		}
		if r.Round == fullRound && inScope(r, s) && t.Receipt == nil {
			pending = append(pending, t)
		}
		if r.Round < fullRound && slices.Contains(teachers, t.System) {
			pending = append(pending, t)
		}
	}
	if len(pending) == 0 {
		return f.plan(r, m, tasks)
	}
	round := "all"
	if r.Round < fullRound {
		round = count(int64(r.Round))
	}
	c.note(r, "round", detail{"round": round, "systems": count(int64(len(pending)))})
	for _, t := range pending {
		c.pend(t, dsr.PhaseLocate, c.now)
	}
	return nil
}
