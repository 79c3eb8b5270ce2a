package cloudwatchlogs

import (
	"context"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// StepExported is passed when a page was written and is not yet saved.
const StepExported = "exported"

// Export writes each subject's events, with where they stand and their time, and all events of streams that are theirs.
// See [connectors.Exporter].
func (l *Logs) Export(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
	return l.work(ctx, j, nil, func(e *entity, g *group, b connectors.Batch) (step, error) {
		var chunk func(p *progress) ([]connectors.Tally, error)
		if e.pattern != nil {
			who := newPeople(l.sys, b)
			chunk = func(p *progress) ([]connectors.Tally, error) { return l.exportStreams(ctx, e, g, b, who, p, sinks) }
		} else {
			find := e.layout.Find(b, connectors.Holds{})
			chunk = func(p *progress) ([]connectors.Tally, error) { return l.exportEvents(ctx, e, g, b, find, p, sinks) }
		}
		return func(p *progress) error {
			done, err := chunk(p)
			if err != nil {
				return err
			}
			j.Journal.Step(StepExported)
			return save(ctx, j.Journal, p, done)
		}, nil
	})
}

// origin is what an exported event says of where it stands, before its own fields.
func (l *Logs) origin(e *entity, ev *event, s connectors.Subject) []records.Origin {
	stream := ""
	if e.pattern != nil {
		stream = e.pattern.Shown(ev.stream, s, l.sys)
	} else {
		stream = records.Shown(ev.stream, s, l.sys)
	}
	return []records.Origin{
		{Name: "from_group", Value: e.group},
		{Name: "from_stream", Value: stream},
		{Name: "from_event", Value: ev.id},
		{Name: "from_time", Value: ev.at.Format(time.RFC3339Nano)},
	}
}

// named is the member of a batch with a ref.
func named(b connectors.Batch, ref string) connectors.Subject {
	return b[slices.IndexFunc(b, func(s connectors.Subject) bool { return s.Ref == ref })]
}

// exportEvents writes one page.
func (l *Logs) exportEvents(
	ctx context.Context, e *entity, g *group, b connectors.Batch, find *records.Finder, p *progress, sinks connectors.SinkFor,
) ([]connectors.Tally, error) {
	page, last, err := l.next(ctx, e.reading(g), &p.Events)
	if err != nil {
		return nil, err
	}
	p.Over = last
	var done []connectors.Tally
	_, err = scan(ctx, find, page, func(ev *event, h *records.Hit) error {
		for _, ref := range h.Subjects {
			names, values, err := h.Record(ref)
			if err != nil {
				return err
			}
			sink, err := sinks(ref)
			if err != nil {
				return err
			}
			names, values = records.From(names, values, l.origin(e, ev, named(b, ref))...)
			if err := sink.Record(e.Name, names, values); err != nil {
				return err
			}
			done = add(done, connectors.Tally{Subject: ref, Entity: e.Name, Method: dsr.Export, Rows: 1})
		}
		return nil
	})
	return done, err
}

// exportStreams writes one page of the events of the stream that is at hand, or finds the next streams. A stream is
// tallied when its last event was written. Streams are taken one at a time from the list: the cursor of the list stays
// before the one that is at hand, so that the next call finds it again.
func (l *Logs) exportStreams(
	ctx context.Context, e *entity, g *group, b connectors.Batch, who *people, p *progress, sinks connectors.SinkFor,
) ([]connectors.Tally, error) {
	if p.Stream == "" {
		return nil, l.findStream(ctx, e, who, p)
	}
	values, _ := e.pattern.Match(p.Stream)
	refs := who.of(e, &stream{name: p.Stream, values: values})
	r := e.reading(g)
	r.stream = p.Stream
	page, last, err := l.next(ctx, r, &p.Events)
	switch {
	case dsr.CodeOf(err) == CodeNoGroup: // the stream went while it was read
		page, last = nil, true
	case err != nil:
		return nil, err
	}
	var done []connectors.Tally
	for _, ref := range refs {
		sink, err := sinks(ref)
		if err != nil {
			return nil, err
		}
		for i := range page {
			ev := &page[i]
			names, values := records.From([]string{"message"}, []any{ev.message}, l.origin(e, ev, named(b, ref))...)
			if err := sink.Record(e.Name, names, values); err != nil {
				return nil, err
			}
		}
		if last {
			done = add(done, connectors.Tally{Subject: ref, Entity: e.Name, Method: dsr.Export, Rows: 1})
		}
	}
	if last {
		p.Stream, p.Events = "", cursor{}
	}
	return done, nil
}

// findStream moves on to the next stream that is somebody's, or to the end of one page of the list.
func (l *Logs) findStream(ctx context.Context, e *entity, who *people, p *progress) error {
	at := p.List
	page, last, err := l.nextStreams(ctx, e, &at)
	if err != nil {
		return err
	}
	for i := range page {
		if len(who.of(e, &page[i])) > 0 {
			// the page is read again for the streams behind this one
			p.Stream, p.List.After = page[i].name, page[i].name
			return nil
		}
	}
	p.List, p.Over = at, last
	return nil
}
