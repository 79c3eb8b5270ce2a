package cloudwatchlogs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// allowed are the days of retention that a log group can have (API_PutRetentionPolicy).
var allowed = []int{
	1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
}

// days is the retention that a class means for a log group: the longest that the service has within the regular
// deletion period, on whatever day that begins, and never one that ends before the statutory minimum does. 0 when the
// service has none between the two.
func days(c retention.Class) int {
	for _, n := range slices.Backward(allowed) {
		p := retention.Period{Days: n}
		if c.Period.Covers(p) && p.Covers(c.Minimum) {
			return n
		}
	}
	return 0
}

// ruleHolds refuses rules that a log group cannot keep.
func (e *entity) ruleHolds(r connectors.Rule) error {
	at := "entities." + e.Name + ".retention." + r.Name
	switch {
	case len(r.When) > 0:
		return refused(at+".when", "neither a log group's retention nor the age of a stream knows conditions", "remove when")
	case r.Start.Kind == retention.StartField || len(r.Start.Latest) > 0:
		return refused(at+".start", "counts from a field", "write start: event_time")
	case e.pattern != nil && r.Action != retention.Delete && r.Action != retention.Next:
		return refused(at+".action", "is nothing that can be done to a log stream", "write action: delete")
	case e.pattern == nil && r.Action != retention.Expire:
		return refused(at+".action", "is nothing that can be done to single events", "write action: expire")
	case r.Action == retention.Expire && days(r.Class) == 0:
		return refused(at+".class", "no retention of CloudWatch Logs lies within the period and above the minimum",
			fmt.Sprint("days of retention are one of ", allowed))
	}
	return nil
}

// expires is the entity's rule that sets its group's retention; nil when it has none.
func (e *entity) expires() *connectors.Rule {
	for i := range e.Rules {
		if e.Rules[i].Action == retention.Expire {
			return &e.Rules[i]
		}
	}
	return nil
}

// conflicts refuses two rules that want one group's retention to be two.
func (l *Logs) conflicts() error {
	wanted := map[string]int{}
	for i := range l.entities {
		e := &l.entities[i]
		for _, r := range e.Rules {
			if r.Action != retention.Expire {
				continue
			}
			n := days(r.Class)
			if was, ok := wanted[e.group]; ok && was != n {
				return refused("entities."+e.Name+".retention", "wants another retention of the log group "+e.group+" than another rule does",
					"a log group has one retention: use the same class")
			}
			wanted[e.group] = n
		}
	}
	return nil
}

// Due counts streams that have had no event since the cut-off. Of a rule that expires the row is the log group: it is due
// while its retention is not the rule's, at every cut-off, and its bytes are all that it stores. See
// [connectors.Sweeper].
func (l *Logs) Due(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
	e, err := l.swept(q.Entity, q.Rule)
	if err != nil {
		return nil, err
	}
	out := make([]connectors.Due, len(q.Cuts))
	if q.Rule.Action == retention.Expire {
		due, err := l.dueGroup(ctx, e, q.Rule, q.Held)
		for i := range out {
			out[i] = due
		}
		return out, err
	}
	kept := l.held(e, q.Held)
	return out, l.eachStream(ctx, e, func(page []stream) error {
		for i, cut := range q.Cuts {
			old, err := l.older(ctx, e, page, before(cut))
			if err != nil {
				return err
			}
			out[i].Total += int64(len(page))
			out[i].Rows += int64(len(old))
			for n := range old {
				if kept.covers(e, &old[n]) {
					out[i].Held++
				}
			}
		}
		return nil
	})
}

func (l *Logs) swept(name string, r connectors.Rule) (*entity, error) {
	e := l.entity(name)
	if e == nil {
		return nil, connectors.Permanent(dsr.CodeInvalid, "the map has no such entity", "", nil)
	}
	if err := e.ruleHolds(r); err != nil {
		return nil, connectors.Permanent(dsr.CodeInvalid, "the rule cannot be kept in CloudWatch Logs", "", err)
	}
	return e, nil
}

// before is the cut-off of a rule and of those before it in the list.
func before(c connectors.Cut) time.Time {
	at := c.Before
	for _, b := range c.After {
		if b.Before.Before(at) {
			at = b.Before
		}
	}
	return at
}

// older are the streams of a page whose newest event lies before a time. What the service says of a stream's newest
// event is up to an hour old or more (API_LogStream), so events since then are looked for; a page is at most 50 streams,
// and a question may name 100.
func (l *Logs) older(ctx context.Context, e *entity, page []stream, before time.Time) ([]stream, error) {
	var old []stream
	for _, s := range page {
		if s.last.Before(before) {
			old = append(old, s)
		}
	}
	for {
		if len(old) == 0 {
			return nil, nil
		}
		names := make([]string, len(old))
		for i := range old {
			names[i] = old[i].name
		}
		fresh, err := l.haveSince(ctx, e, names, before)
		if err != nil {
			return nil, err
		}
		if len(fresh) == 0 {
			return old, nil
		}
		old = slices.DeleteFunc(old, func(s stream) bool { return fresh[s.name] })
	}
}

// haveSince returns streams among names that have an event at or after a time; not all of them, but none only when
// there are none.
func (l *Logs) haveSince(ctx context.Context, e *entity, names []string, since time.Time) (map[string]bool, error) {
	in := &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &e.group, LogStreamNames: names, StartTime: aws.Int64(since.UnixMilli())}
	fresh := map[string]bool{}
	for {
		out, err := l.client.FilterLogEvents(ctx, in)
		if err != nil {
			return nil, classify("FilterLogEvents", err)
		}
		for i := range out.Events {
			fresh[str(out.Events[i].LogStreamName)] = true
		}
		if in.NextToken = out.NextToken; str(in.NextToken) == "" || len(fresh) > 0 {
			return fresh, nil
		}
	}
}

// dueGroup tells whether a group's retention has to be set, and whether a hold keeps that from being done, or what was set
// from staying.
func (l *Logs) dueGroup(ctx context.Context, e *entity, r connectors.Rule, holds connectors.Holds) (connectors.Due, error) {
	g, err := l.group(ctx, e.group)
	if err != nil {
		return connectors.Due{}, err
	}
	due := connectors.Due{Total: 1}
	kept, err := l.reached(ctx, g, holds)
	if err != nil || !kept && g.retention == days(r.Class) {
		return due, err
	}
	due.Rows, due.Bytes = 1, g.bytes
	if kept {
		due.Held = 1
	}
	return due, nil
}

// reached reports whether a hold covers something in a group, or may: where events are not of the format that the map says
// nobody can tell. A group's retention cannot tell events apart, so one held event, or a hold on a part of any entity in the
// group, holds all of it.
func (l *Logs) reached(ctx context.Context, g *group, holds connectors.Holds) (bool, error) {
	for i := range l.entities {
		e := &l.entities[i]
		if e.group != g.name {
			continue
		}
		if slices.ContainsFunc(holds.Entities, func(f connectors.Frozen) bool { return f.Entity == e.Name }) {
			return true, nil
		}
		b := scoped(holds.Subjects, e)
		if len(b) == 0 {
			continue
		}
		var err error
		if e.pattern != nil {
			who := newPeople(l.sys, b)
			err = l.eachStream(ctx, e, func(page []stream) error {
				for i := range page {
					if len(who.of(e, &page[i])) > 0 {
						return errHeld
					}
				}
				return nil
			})
		} else {
			_, err = l.search(ctx, e, g, e.layout.Find(b, connectors.Holds{}), func(*event, *records.Hit) error { return errHeld })
		}
		switch {
		case errors.Is(err, errHeld), dsr.CodeOf(err) == dsr.CodeUnreadable:
			return true, nil
		case err != nil:
			return false, err
		}
	}
	return false, nil
}

// Sweep deletes streams that have had no event since the cut-off, or sets a group's retention. See
// [connectors.Sweeper].
func (l *Logs) Sweep(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
	var m connectors.SweepMeasures
	e, err := l.swept(j.Entity, j.Rule)
	if err != nil {
		return m, err
	}
	p, err := load(ctx, j.Journal)
	if err != nil || p.Done {
		return m, err
	}
	if j.Rule.Action == retention.Expire {
		return m, l.setRetention(ctx, e, j, p, &m)
	}
	kept := l.held(e, j.Held)
	for !p.Over {
		if j.Pace.Stop != nil && j.Pace.Stop() {
			return m, connectors.ErrYield
		}
		began := l.now()
		if err := l.sweepStreams(ctx, e, j, kept, p); err != nil {
			return m, err
		}
		worked := l.now().Sub(began)
		m.Transactions++
		m.Longest = max(m.Longest, worked)
		if late(j.Deadline, l.now()) {
			return m, connectors.ErrYield
		}
		if !p.Over {
			if err := m.Pauses.Rest(ctx, j.Pace, worked); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

// sweepStreams deletes what is due in one page of the list.
func (l *Logs) sweepStreams(ctx context.Context, e *entity, j connectors.SweepJob, kept *held, p *progress) error {
	tallies, err := l.resume(ctx, e, kept, j.Journal, p)
	if err != nil {
		return err
	}
	page, last, err := l.nextStreams(ctx, e, &p.List)
	if err != nil {
		return err
	}
	old, err := l.older(ctx, e, page, before(j.Cut))
	if err != nil {
		return err
	}
	for i := range old {
		if kept.covers(e, &old[i]) {
			tallies = add(tallies, connectors.Tally{Entity: e.Name, Method: dsr.Held, Rows: 1})
			continue
		}
		p.Intent = append(p.Intent, doomed{Stream: old[i].name})
	}
	if tallies, err = l.carryOut(ctx, e, j.Journal, p, tallies); err != nil {
		return err
	}
	p.Over = last
	return save(ctx, j.Journal, p, tallies)
}

// retain sets how many days a group keeps its events; 0 is for ever.
func (l *Logs) retain(ctx context.Context, g *group, days int) error {
	if days == 0 {
		_, err := l.client.DeleteRetentionPolicy(ctx, &cloudwatchlogs.DeleteRetentionPolicyInput{LogGroupName: &g.name})
		return classify("DeleteRetentionPolicy", err)
	}
	_, err := l.client.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{
		LogGroupName: &g.name, RetentionInDays: aws.Int32(int32(days)),
	})
	return classify("PutRetentionPolicy", err)
}

// Heed lifts the retention of an entity's group while a hold may cover something in it. See [connectors.Heeder].
func (l *Logs) Heed(ctx context.Context, j connectors.HeedJob) (connectors.Heeded, error) {
	e := l.entity(j.Entity)
	if e == nil {
		return connectors.Heeded{}, nil
	}
	g, err := l.group(ctx, e.group)
	if err != nil || g.retention == 0 {
		return connectors.Heeded{}, err
	}
	held, err := j.MayHold(ctx, func(ctx context.Context) (bool, error) { return l.reached(ctx, g, j.Held) })
	if err != nil || !held {
		return connectors.Heeded{}, err
	}
	if j.Rule != nil {
		if err := l.retain(ctx, g, 0); err != nil {
			return connectors.Heeded{}, err
		}
		if g, err = l.group(ctx, e.group); err != nil || g.retention == 0 {
			return connectors.Heeded{Lifted: err == nil}, err
		}
	}
	stays := fmt.Sprintf("the retention of the log group %s, %d days", g.name, g.retention)
	if g.policy != "" {
		stays += ", by the account-level policy " + g.policy
	}
	return connectors.Heeded{Stay: []string{stays}}, nil
}

// StepSet is passed when a group's retention was set and that is not yet saved.
const StepSet = "set"

// setRetention gives the group the rule's retention, or none while a hold reaches it, and looks whether it took.
func (l *Logs) setRetention(ctx context.Context, e *entity, j connectors.SweepJob, p *progress, m *connectors.SweepMeasures) error {
	g, err := l.group(ctx, e.group)
	if err != nil {
		return err
	}
	want := days(j.Rule.Class)
	end := &progress{Over: true, Done: true}
	tally := connectors.Tally{Entity: e.Name, Method: dsr.Expire, Rows: 1}
	kept, err := l.reached(ctx, g, j.Held)
	if err != nil {
		return err
	}
	switch {
	case kept:
		tally.Method, want = dsr.Held, 0
		if g.retention == 0 {
			return save(ctx, j.Journal, end, []connectors.Tally{tally})
		}
	case g.retention == want:
		if tally.Resolved = p.Entity != ""; tally.Resolved { // an earlier call set it and could not say so
			return save(ctx, j.Journal, end, []connectors.Tally{tally})
		}
		return save(ctx, j.Journal, end, nil)
	}
	if j.Pace.Stop != nil && j.Pace.Stop() {
		return connectors.ErrYield
	}
	if err := save(ctx, j.Journal, &progress{Entity: e.Name}, nil); err != nil {
		return err
	}
	j.Journal.Step(StepIntent)
	began := l.now()
	if err := l.retain(ctx, g, want); err != nil {
		return err
	}
	m.Transactions, m.Longest = 1, l.now().Sub(began)
	j.Journal.Step(StepSet)
	if g, err = l.group(ctx, e.group); err != nil {
		return err
	}
	if g.retention != want {
		return connectors.Permanent(CodeNoRetention, "the retention of the log group "+g.name+" does not follow what was set",
			"an account-level retention policy overrides it: change that", nil)
	}
	return save(ctx, j.Journal, end, []connectors.Tally{tally})
}
