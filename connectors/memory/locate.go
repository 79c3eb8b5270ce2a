package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Locate counts and learns. See [connectors.Connector].
func (db *DB) Locate(ctx context.Context, q connectors.Query) (connectors.Located, error) {
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	var out connectors.Located
	if err := db.checkTenants(q.Batch); err != nil {
		return out, err
	}
	for _, s := range q.Batch {
		if err := ctx.Err(); err != nil {
			return connectors.Located{}, err
		}
		if err := db.locate(&out, s, q); err != nil {
			return connectors.Located{}, err
		}
	}
	out.Unsearched = db.unsearched()
	return out, nil
}

// locate asks what would be done for one subject alone.
func (db *DB) locate(out *connectors.Located, s connectors.Subject, q connectors.Query) error {
	var only func(e *connectors.Entity) bool
	if q.Teaching {
		only = func(e *connectors.Entity) bool { return e.Teaches }
	}
	c, err := db.load(only, nil, s.Tenant)
	if err != nil {
		return err
	}
	c.any = q.Export
	erases := !q.Export && !q.Teaching
	if erases {
		if err := c.minima(true); err != nil {
			return err
		}
	}
	c.spread(connectors.Batch{s})
	var waiting map[*item]bool
	switch {
	case q.Export:
		for _, i := range c.shown(s) {
			i.action = dsr.Export
		}
	default:
		if err := c.decide(); err != nil {
			return err
		}
		if erases {
			free, err := db.wanted(s, connectors.Batch{s}, nil, nil, false)
			if err != nil {
				return err
			}
			waiting = unfinished(c, free)
		}
	}
	type line struct {
		entity string
		method dsr.Method
	}
	counts, size := map[line]int64{}, map[string]int64{}
	days := map[string]map[time.Time]int64{}
	for _, i := range c.items {
		size[i.e.Name] = int64(len(i.t.Rows))
		switch {
		case waiting[i]:
			counts[line{i.e.Name, dsr.Wait}]++
			if days[i.e.Name] == nil {
				days[i.e.Name] = map[time.Time]int64{}
			}
			days[i.e.Name][day(i, c)]++
		case i.action != "":
			counts[line{i.e.Name, i.action}]++
		}
	}
	var lines []connectors.Count
	for l, n := range counts {
		line := connectors.Count{Subject: s.Ref, Entity: l.entity, Method: l.method, Rows: n, TableRows: size[l.entity]}
		switch l.method {
		case dsr.Expire:
			line.Exception = &dsr.Exception{Cause: dsr.CauseRetention} // nobody knows until when
		case dsr.Wait:
			line.Exception = &dsr.Exception{Cause: dsr.CauseMinimum, Ends: connectors.LastDay(days[l.entity])}
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b connectors.Count) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Method, b.Method))
	})
	out.Counts = append(out.Counts, lines...)
	db.learn(out, c, s)
	return nil
}

// learn reads the identifiers of rows that are wholly the subject's: a row that others own too would teach theirs.
func (db *DB) learn(out *connectors.Located, c *closure, s connectors.Subject) {
	known := func(id dsr.Identifier) bool {
		kind := db.sys.Identifiers[id.Name]
		same := func(o dsr.Identifier) bool {
			return o.Name == id.Name && normalise(kind, o.Value.Reveal()) == normalise(kind, id.Value.Reveal())
		}
		return slices.ContainsFunc(s.Identifiers, same) || slices.ContainsFunc(out.Learned, func(l connectors.Learned) bool {
			return l.Subject == s.Ref && same(l.Identifier)
		})
	}
	matches := map[[2]string]int64{} // entity and identifier
	for _, i := range c.items {
		if i.e.Subject {
			for _, f := range i.e.Fields {
				if slices.Contains(i.matched, f.Name) {
					matches[[2]string{i.e.Name, f.Identifier}]++
				}
			}
		}
		if !i.e.Teaches || !i.doomed {
			continue
		}
		for _, f := range i.e.Fields {
			if f.Identifier == "" || i.row[f.Name] == nil {
				continue
			}
			v := text(i.row[f.Name])
			if db.sys.Identifiers[f.Identifier] == dsr.KindEmail {
				v = normalise(dsr.KindEmail, v)
			}
			id := dsr.Identifier{
				Name: f.Identifier, Value: dsr.NewSecret(v), Origin: dsr.Learned, Source: db.sys.Name + "." + i.e.Name,
			}
			if !known(id) {
				out.Learned = append(out.Learned, connectors.Learned{Subject: s.Ref, Identifier: id})
			}
		}
	}
	for _, i := range c.items { // in the items' order
		for _, f := range i.e.Fields {
			at := [2]string{i.e.Name, f.Identifier}
			if matches[at] > 1 {
				out.Ambiguous = append(out.Ambiguous, connectors.Ambiguity{
					Subject: s.Ref, Entity: i.e.Name, Identifier: f.Identifier, Rows: matches[at],
				})
				delete(matches, at)
			}
		}
	}
}

// unsearched lists free text that nobody declared.
func (db *DB) unsearched() []string {
	var out []string
	for i := range db.sys.Entities {
		e := &db.sys.Entities[i]
		t := db.store.tables[e.From()]
		known := named(e)
		for _, c := range t.Columns {
			if c.HasText && !slices.Contains(known, c.Name) {
				out = append(out, e.Name+"."+c.Name)
			}
		}
	}
	slices.Sort(out)
	return out
}
