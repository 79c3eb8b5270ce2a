package cloudwatchlogs

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Steps of a Run, as the Journal names them.
const (
	StepIntent  = "intent"  // the streams that are deleted next are durable
	StepDeleted = "deleted" // one of them is gone
	StepCounted = "counted" // a page of what stays was counted
)

// progress is the checkpoint of Erase, Export and Sweep.
type progress struct {
	Entity string   `json:"entity,omitempty"` // entities before it, by name, are done
	List   listing  `json:"list,omitzero"`
	Intent []doomed `json:"intent,omitempty"` // streams that were to be deleted when the checkpoint was saved
	Stream string   `json:"stream,omitempty"` // being exported
	Events cursor   `json:"events,omitzero"`
	Over   bool     `json:"over,omitempty"`   // Entity is done too
	Done   bool     `json:"done,omitempty"`   // everything is
	Capped []string `json:"capped,omitempty"` // subjects above a cap, of whom nothing is changed
}

type doomed struct {
	Stream  string `json:"stream"`
	Subject string `json:"subject,omitempty"` // who is credited; empty in a Sweep
}

func load(ctx context.Context, j connectors.Journal) (*progress, error) {
	raw, err := j.Load(ctx)
	p := &progress{}
	if err != nil || raw == nil {
		return p, err
	}
	if json.Unmarshal(raw, p) != nil {
		return nil, connectors.Permanent(dsr.CodeInvalid, "the checkpoint cannot be read", "Retry the request.", nil)
	}
	return p, nil
}

func save(ctx context.Context, j connectors.Journal, p *progress, done []connectors.Tally) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return j.Save(ctx, b, done)
}

// Erase deletes the subjects' streams and counts their events that expire; what the map keeps is counted too. See
// [connectors.Eraser].
func (l *Logs) Erase(ctx context.Context, j connectors.Job) error {
	return l.work(ctx, j, l.overCap, func(e *entity, g *group, b connectors.Batch) (step, error) {
		switch {
		case e.pattern == nil:
			find := e.layout.Find(b, j.Held)
			return func(p *progress) error { return l.countEvents(ctx, e, g, find, j.Journal, p) }, e.unending(g)
		case e.Erase == dsr.Delete:
			who, kept := newPeople(l.sys, b), l.held(e, j.Held)
			return func(p *progress) error { return l.eraseStreams(ctx, e, who, kept, j.Journal, p) }, nil
		}
		who, kept := newPeople(l.sys, b), l.held(e, j.Held)
		return func(p *progress) error { return l.countStreams(ctx, e, who, kept, j.Journal, p) }, nil
	})
}

// step works one chunk of an entity and saves the checkpoint; after the last one the entity is over.
type step func(p *progress) error

// work takes the steps of every entity from the checkpoint on, and yields between them. begin is called once for each
// entity. Before the first step capped names the subjects who are left out; nil leaves out nobody. The result is their
// errors, when all else is done.
func (l *Logs) work(
	ctx context.Context, j connectors.Job, capped func(context.Context, connectors.Job) ([]string, error),
	begin func(*entity, *group, connectors.Batch) (step, error),
) error {
	if err := l.checkTenants(j.Batch); err != nil {
		return err
	}
	p, err := load(ctx, j.Journal)
	if err != nil {
		return err
	}
	if p.Entity == "" && !p.Done && capped != nil {
		if p.Capped, err = capped(ctx, j); err != nil {
			return err
		}
	}
	for i := range l.entities {
		e := &l.entities[i]
		b := slices.DeleteFunc(scoped(j.Batch, e), func(s connectors.Subject) bool { return slices.Contains(p.Capped, s.Ref) })
		if p.Done || e.Name < p.Entity || len(b) == 0 {
			continue
		}
		if e.Name != p.Entity {
			*p = progress{Entity: e.Name, Capped: p.Capped}
		}
		if p.Over {
			continue
		}
		if err := l.workEntity(ctx, j, e, b, p, begin); err != nil {
			if gone, goneErr := l.gone(ctx, e, b, j.Journal, err); goneErr != nil {
				return goneErr
			} else if !gone {
				return ofSubjects(b, e, err)
			}
			if err := l.settleGone(ctx, e, j.Journal, p); err != nil {
				return err
			}
		}
	}
	if !p.Done {
		if err := save(ctx, j.Journal, &progress{Done: true, Capped: p.Capped}, nil); err != nil {
			return err
		}
	}
	var errs []error
	for _, ref := range p.Capped {
		errs = append(errs, &connectors.SubjectError{Subject: ref, Err: connectors.Permanent(dsr.CodeOverCap,
			"more log streams than a request may delete; nothing was changed", "Look at the plan; raise the limit if it is right.", nil)})
	}
	return errors.Join(errs...)
}

// workEntity takes the steps of one entity.
func (l *Logs) workEntity(
	ctx context.Context, j connectors.Job, e *entity, b connectors.Batch, p *progress, begin func(*entity, *group, connectors.Batch) (step, error),
) error {
	g, err := l.group(ctx, e.group)
	if err != nil {
		return err
	}
	next, err := begin(e, g, b)
	if err != nil {
		return err
	}
	if err := see(ctx, e, g, b, j.Journal); err != nil {
		return err
	}
	for !p.Over {
		if err := next(p); err != nil {
			return err
		}
		if late(j.Deadline, l.now()) {
			return connectors.ErrYield
		}
	}
	return nil
}

// settleGone ends the work on an entity whose group was deleted meanwhile. What it meant to delete is not there.
func (l *Logs) settleGone(ctx context.Context, e *entity, j connectors.Journal, p *progress) error {
	var tallies []connectors.Tally
	for _, d := range p.Intent {
		tallies = add(tallies, connectors.Tally{Subject: d.Subject, Entity: e.Name, Method: dsr.Delete, Rows: 1, Resolved: true})
	}
	p.Intent, p.Over = nil, true
	return save(ctx, j, p, tallies)
}

// ofSubjects makes a permanent fault of an entity one of everybody whose it may be.
func ofSubjects(b connectors.Batch, e *entity, err error) error {
	if !connectors.IsPermanent(err) {
		return err
	}
	var errs []error
	for _, s := range b {
		errs = append(errs, &connectors.SubjectError{Subject: s.Ref, Entity: e.Name, Err: err})
	}
	return errors.Join(errs...)
}

// overCap names the subjects of whom more streams would be deleted than the limits allow.
func (l *Logs) overCap(ctx context.Context, j connectors.Job) ([]string, error) {
	rows := map[string]int64{}
	var over []string
	for i := range l.entities {
		e := &l.entities[i]
		b := scoped(j.Batch, e)
		if len(b) == 0 || e.pattern == nil || e.Erase != dsr.Delete || j.Limits.RowsPerRequest == 0 && j.Limits.ShareOfTable == 0 {
			continue
		}
		who, kept := newPeople(l.sys, b), l.held(e, j.Held)
		here, total := map[string]int64{}, int64(0)
		err := l.eachStream(ctx, e, func(page []stream) error {
			total += int64(len(page))
			for i := range page {
				for _, ref := range who.of(e, &page[i]) {
					if !kept.covers(e, &page[i]) {
						here[ref]++
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for ref, n := range here {
			rows[ref] += n
			share := j.Limits.ShareOfTable > 0 && total >= 1000 && float64(n) > j.Limits.ShareOfTable*float64(total)
			if share || j.Limits.RowsPerRequest > 0 && rows[ref] > j.Limits.RowsPerRequest {
				over = append(over, ref)
			}
		}
	}
	slices.Sort(over)
	return slices.Compact(over), nil
}

func late(deadline, now time.Time) bool { return !deadline.IsZero() && !now.Before(deadline) }

// eraseStreams deletes the streams of one page of the list.
func (l *Logs) eraseStreams(ctx context.Context, e *entity, who *people, kept *held, j connectors.Journal, p *progress) error {
	settled, err := l.resume(ctx, e, kept, j, p)
	if err != nil {
		return err
	}
	page, last, err := l.nextStreams(ctx, e, &p.List)
	if err != nil {
		return err
	}
	for i := range page {
		if refs := who.of(e, &page[i]); len(refs) > 0 && !kept.covers(e, &page[i]) {
			p.Intent = append(p.Intent, doomed{page[i].name, refs[0]})
		}
	}
	tallies, err := l.carryOut(ctx, e, j, p, settled)
	if err != nil {
		return err
	}
	p.Over = last
	return save(ctx, j, p, tallies)
}

// carryOut makes the intent and the tallies so far durable and deletes; without an intent there is nothing to do. It
// returns the tallies that are to be saved next.
func (l *Logs) carryOut(ctx context.Context, e *entity, j connectors.Journal, p *progress, tallies []connectors.Tally) ([]connectors.Tally, error) {
	if len(p.Intent) == 0 {
		return tallies, nil
	}
	if err := save(ctx, j, p, tallies); err != nil {
		return nil, err
	}
	j.Step(StepIntent)
	return l.deleteAll(ctx, e, j, p, false)
}

// resume settles what an interrupted call meant to delete: what is gone was deleted by it, what is still there is
// deleted now, unless a hold covers it by now.
func (l *Logs) resume(ctx context.Context, e *entity, kept *held, j connectors.Journal, p *progress) ([]connectors.Tally, error) {
	if len(p.Intent) == 0 {
		return nil, nil
	}
	free := p.Intent[:0]
	for _, d := range p.Intent {
		values, _ := e.pattern.Match(d.Stream)
		if kept.covers(e, &stream{name: d.Stream, values: values}) {
			there, err := l.exists(ctx, e, d.Stream)
			if err != nil {
				return nil, err
			}
			if there {
				continue
			}
		}
		free = append(free, d)
	}
	p.Intent = free
	return l.deleteAll(ctx, e, j, p, true)
}

// deleteAll carries out the intent, and empties it. Resumed says that a stream which is not there was deleted by an
// earlier call; otherwise somebody else did.
func (l *Logs) deleteAll(ctx context.Context, e *entity, j connectors.Journal, p *progress, resumed bool) ([]connectors.Tally, error) {
	var tallies []connectors.Tally
	for _, d := range p.Intent {
		_, err := l.client.DeleteLogStream(ctx, &cloudwatchlogs.DeleteLogStreamInput{LogGroupName: &e.group, LogStreamName: &d.Stream})
		gone := isNotFound(err)
		if err != nil && !gone {
			return nil, classify("DeleteLogStream", err)
		}
		if !gone || resumed {
			tallies = add(tallies, connectors.Tally{Subject: d.Subject, Entity: e.Name, Method: dsr.Delete, Rows: 1, Resolved: gone})
		}
		j.Step(StepDeleted)
	}
	p.Intent = nil
	return tallies, nil
}

func (l *Logs) exists(ctx context.Context, e *entity, name string) (bool, error) {
	one := int32(1)
	out, err := l.client.DescribeLogStreams(ctx, &cloudwatchlogs.DescribeLogStreamsInput{
		LogGroupName: &e.group, LogStreamNamePrefix: &name, Limit: &one, // the shortest name comes first
	})
	if err != nil {
		return false, classify("DescribeLogStreams", err)
	}
	return len(out.LogStreams) > 0 && str(out.LogStreams[0].LogStreamName) == name, nil
}

// countEvents counts one page of events, which stay: those that expire, and those that the map keeps.
func (l *Logs) countEvents(ctx context.Context, e *entity, g *group, find *records.Finder, j connectors.Journal, p *progress) error {
	page, last, err := l.next(ctx, e.reading(g), &p.Events)
	if err != nil {
		return err
	}
	var tallies []connectors.Tally
	if _, err := scan(ctx, find, page, func(_ *event, h *records.Hit) error {
		if h.Method != dsr.Held {
			tallies = add(tallies, connectors.Tally{Subject: h.Subjects[0], Entity: e.Name, Method: e.Erase, Rows: 1})
		}
		return nil
	}); err != nil {
		return err
	}
	p.Over = last
	j.Step(StepCounted)
	return save(ctx, j, p, tallies)
}

// countStreams counts one page of streams that the map keeps.
func (l *Logs) countStreams(ctx context.Context, e *entity, who *people, kept *held, j connectors.Journal, p *progress) error {
	page, last, err := l.nextStreams(ctx, e, &p.List)
	if err != nil {
		return err
	}
	var tallies []connectors.Tally
	for i := range page {
		if refs := who.of(e, &page[i]); len(refs) > 0 && !kept.covers(e, &page[i]) {
			tallies = add(tallies, connectors.Tally{Subject: refs[0], Entity: e.Name, Method: e.Erase, Rows: 1})
		}
	}
	p.Over = last
	j.Step(StepCounted)
	return save(ctx, j, p, tallies)
}

// unending refuses to call events erased that would never go.
func (e *entity) unending(g *group) error {
	if e.Erase != dsr.Expire || g.retention > 0 || e.expires() != nil {
		return nil
	}
	return connectors.Permanent(CodeNoRetention, "the log group "+g.name+" keeps its events for ever",
		"set its retention, or give the entity a rule with action: expire", nil)
}

// add merges a tally into those that differ in rows only.
func add(all []connectors.Tally, t connectors.Tally) []connectors.Tally {
	for i := range all {
		o := &all[i]
		if o.Subject == t.Subject && o.Entity == t.Entity && o.Method == t.Method && o.Resolved == t.Resolved {
			o.Rows += t.Rows
			return all
		}
	}
	return append(all, t)
}
