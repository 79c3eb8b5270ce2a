package sqldb

import (
	"context"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
)

// findGone finds what the whole batch erases, before its first transaction when that is not its only one: a row that
// several of its subjects share is worked with the first of them who can, and counted once. The keys go to the journal,
// so that a later slice decides as the first one did.
func (e *erasure) findGone(ctx context.Context, s session) error {
	if len(e.gone) > 0 {
		return nil
	}
	if e.cp.Gone {
		return e.loadGone(ctx)
	}
	base := 0
	for _, part := range byTenant(e.batch) {
		var batch connectors.Batch
		var index []int
		for i, sub := range part {
			if !e.hasFailed(sub.Ref) {
				batch, index = append(batch, sub), append(index, base+i)
			}
		}
		base += len(part)
		if len(batch) == 0 {
			continue
		}
		tenant := part[0].Tenant
		held, err := e.m.heldRows(ctx, s, e.job.Held, tenant, nil)
		if err != nil {
			return err
		}
		c := &closure{
			m: e.m, s: s, merged: true, tenant: tenant, batch: batch, held: held, marks: e.marks, minima: true,
			terms: newTerms(batch, e.d.System.Identifiers, e.d.pseudonyms), anchors: e.anchors,
		}
		if err := c.run(ctx); err != nil {
			return err
		}
		turns := c.turns()
		e.gone[tenant] = map[refset]map[string]int{}
		for set, nodes := range c.byDoom {
			bySubject := map[int][]connectors.Key{}
			pos := positions(set.e, set.e.named(strings.Split(set.cols, "\x00")))
			ids := map[string]int{}
			for id, n := range nodes {
				ids[id.id] = index[turns[n]]
				bySubject[turns[n]] = append(bySubject[turns[n]], spoolKey(n.at(pos)))
			}
			e.gone[tenant][set] = ids
			for i, keys := range bySubject {
				slices.Sort(keys)
				for page := range slices.Chunk(keys, 1000) {
					if err := e.job.Journal.Spool(ctx, batch[i].Ref, set.spoolName(), page); err != nil {
						return err
					}
				}
			}
		}
	}
	e.cp.Gone, e.dirty = true, true
	return e.save(ctx)
}

// spoolName is what the journal calls the values that references point at.
func (r refset) spoolName() string { return r.e.Name + "#" + strings.ReplaceAll(r.cols, "\x00", ",") }

func (e *erasure) loadGone(ctx context.Context) error {
	index, tenant := map[string]int{}, map[string]string{}
	for i, s := range e.batch {
		index[s.Ref], tenant[s.Ref] = i, s.Tenant
		if e.gone[s.Tenant] == nil {
			e.gone[s.Tenant] = map[refset]map[string]int{}
		}
	}
	seen := map[refset]bool{}
	for _, t := range e.m.ties {
		set := t.refset()
		if seen[set] {
			continue
		}
		seen[set] = true
		err := e.job.Journal.Each(ctx, set.spoolName(), func(subject string, keys []connectors.Key) error {
			at, ours := index[subject]
			if !ours || e.hasFailed(subject) {
				return nil
			}
			g := e.gone[tenant[subject]]
			if g[set] == nil {
				g[set] = map[string]int{}
			}
			for _, k := range keys {
				if parsed, ok := parseKey(k); ok && len(parsed) == len(t.refs) {
					g[set][refID(t.refs, parsed)] = at
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
