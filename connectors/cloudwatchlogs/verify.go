package cloudwatchlogs

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Verify searches again. A stream that is there is residue. An event that is there waits for its group's retention; once
// its date has passed it is plain residue: the service did not keep to its word, and a person must see that. A group that
// was deleted since the erasure saw it has nothing left. See [connectors.Connector].
func (l *Logs) Verify(ctx context.Context, s connectors.Search) ([]dsr.Residue, error) {
	if err := l.checkTenants(s.Batch); err != nil {
		return nil, err
	}
	var out []dsr.Residue
	for i := range l.entities {
		e := &l.entities[i]
		b := scoped(s.Batch, e)
		if len(b) == 0 || e.Erase == dsr.Keep {
			continue
		}
		found := left{}
		var err error
		if e.pattern != nil {
			err = l.verifyStreams(ctx, e, b, s.Held, found)
		} else {
			err = l.verifyEvents(ctx, e, b, s.Held, found)
		}
		if gone, goneErr := l.gone(ctx, e, b, s.Keys, err); goneErr != nil {
			return nil, goneErr
		} else if gone {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, subject := range b {
			out = append(out, found.residues(subject.Ref, l.sys.Name, e.Name)...)
		}
	}
	return out, nil
}

// left is what a search found, by subject and by why it may be there.
type left map[string]map[dsr.Cause]*remains

type remains struct {
	rows int64
	ends *time.Time
}

// add notes one row; no cause is residue.
func (f left) add(ref string, why dsr.Cause, ends *time.Time) {
	if f[ref] == nil {
		f[ref] = map[dsr.Cause]*remains{}
	}
	r := f[ref][why]
	if r == nil {
		r = &remains{}
		f[ref][why] = r
	}
	r.rows++
	if ends != nil && (r.ends == nil || ends.After(*r.ends)) {
		r.ends = ends
	}
}

func (f left) residues(ref, system, entity string) []dsr.Residue {
	var out []dsr.Residue
	for _, why := range []dsr.Cause{"", dsr.CauseRetention, dsr.CauseHold} {
		r := f[ref][why]
		if r == nil {
			continue
		}
		residue := dsr.Residue{Subject: ref, System: system, Entity: entity, Count: r.rows}
		if why != "" {
			residue.Waits = &dsr.Exception{Cause: why, Ends: r.ends}
		}
		out = append(out, residue)
	}
	return out
}

func (l *Logs) verifyStreams(ctx context.Context, e *entity, b connectors.Batch, holds connectors.Holds, found left) error {
	who, kept := newPeople(l.sys, b), l.held(e, holds)
	return l.eachStream(ctx, e, func(page []stream) error {
		for i := range page {
			why := dsr.Cause("")
			if kept.covers(e, &page[i]) {
				why = dsr.CauseHold
			}
			for _, ref := range who.of(e, &page[i]) {
				found.add(ref, why, nil)
			}
		}
		return nil
	})
}

func (l *Logs) verifyEvents(ctx context.Context, e *entity, b connectors.Batch, holds connectors.Holds, found left) error {
	g, err := l.group(ctx, e.group)
	if err != nil {
		return err
	}
	_, err = l.search(ctx, e, g, e.layout.Find(b, holds), func(ev *event, h *records.Hit) error {
		ends, why := g.ends(ev.at), dsr.CauseRetention
		switch {
		case h.Method == dsr.Held:
			ends, why = nil, dsr.CauseHold
		case ends != nil && !ends.After(l.now()):
			ends, why = nil, ""
		}
		for _, ref := range h.Subjects {
			found.add(ref, why, ends)
		}
		return nil
	})
	return err
}
