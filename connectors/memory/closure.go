package memory

import (
	"cmp"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// item is one row as a closure sees it.
type item struct {
	e   *connectors.Entity
	t   *Table
	row Row
	key connectors.Key

	matched  []string        // columns that hold an identifier of the subjects
	touched  bool            // the subjects, or rows of theirs, own it
	doomed   bool            // nobody else does
	seed     bool            // doomed whoever else owns it: the subject's own row, or a row that nobody owns
	accessed bool            // reached by an accessor's tie only
	subjects map[string]bool // whose rows reached it
	held     bool
	young    bool      // a statutory minimum of its own has not ended
	ends     time.Time // when that ends; zero where nobody knows
	stays    bool      // for that reason
	gone     bool      // goes with somebody else of the batch, so that it owns nothing
	pinned   bool      // stays because a row that stays refers to it, or is owned through it
	action   dsr.Method
	nulls    []string // references to rows that go
}

// closure is the least fixed point of ownership from the rows of some subjects of one tenant.
//
//   - A row that holds an identifier is touched. It is doomed if it is a person, or if nobody owns such rows.
//   - Every row that a doomed row owns is touched, through its own reference or through a membership.
//   - A touched row is doomed when all its owners are: one that is NULL, does not exist or was erased and anchored counts
//     as doomed, and so does a membership that is doomed or that nobody living owns.
//
// With any, one owner is enough and accessors count: that is what an export shows.
type closure struct {
	db    *DB
	batch connectors.Batch
	any   bool
	items []*item
	// matchers find each subject in free text
	matchers map[string]*mask.Matcher
	by       map[string][]*item // rows of an entity by the values of some columns
}

// close computes the closure over the rows that one tenant's statements may reach.
func (db *DB) close(batch connectors.Batch, only func(e *connectors.Entity) bool, held map[string]bool, any bool) (*closure, error) {
	c, err := db.load(only, held, batch[0].Tenant)
	if err != nil {
		return nil, err
	}
	c.any = any
	c.spread(batch)
	return c, nil
}

// spread follows ownership from the rows of some subjects.
func (c *closure) spread(batch connectors.Batch) {
	c.batch = batch
	c.match()
	for c.step() {
	}
}

// load reads the rows of a tenant; without one, of all.
func (db *DB) load(only func(e *connectors.Entity) bool, held map[string]bool, tenant string) (*closure, error) {
	c := &closure{db: db, by: map[string][]*item{}}
	for i := range db.sys.Entities {
		e := &db.sys.Entities[i]
		if only != nil && !only(e) {
			continue
		}
		t, err := db.table(e)
		if err != nil {
			return nil, err
		}
		for _, r := range t.Rows {
			if e.Tenant != "" && tenant != "" && text(r[e.Tenant]) != tenant {
				continue
			}
			k := t.key(r)
			c.items = append(c.items, &item{
				e: e, t: t, row: r, key: k, held: held[e.Name+string(k)], subjects: map[string]bool{},
			})
		}
	}
	slices.SortFunc(c.items, func(a, b *item) int {
		return cmp.Or(cmp.Compare(a.e.Name, b.e.Name), cmp.Compare(len(a.key), len(b.key)), cmp.Compare(a.key, b.key))
	})
	return c, nil
}

// match finds the rows that hold an identifier.
func (c *closure) match() {
	for _, i := range c.items {
		for _, f := range i.e.Fields {
			for _, s := range c.batch {
				if slices.ContainsFunc(s.Identifiers, func(id dsr.Identifier) bool {
					return c.db.holds(i.e, i.t, i.row, f.Name, id)
				}) {
					i.touched = true
					i.subjects[s.Ref] = true
					if !slices.Contains(i.matched, f.Name) {
						i.matched = append(i.matched, f.Name)
					}
				}
			}
		}
		i.seed = i.seed || len(i.matched) > 0 && (i.e.Subject || len(i.e.OwnedBy)+len(c.memberTies(i.e)) == 0)
	}
}

// step dooms what can be doomed and touches what follows from it, and reports whether anything changed.
func (c *closure) step() bool {
	changed := false
	touch := func(to, from *item) {
		if to == from {
			return
		}
		for ref := range from.subjects {
			if !to.subjects[ref] {
				to.subjects[ref], changed = true, true
			}
		}
		if !to.touched || to.accessed {
			to.touched, to.accessed, changed = true, false, true
		}
	}
	for _, i := range c.items {
		if i.touched && !i.accessed && !i.doomed && c.isDoomed(i) {
			i.doomed, changed = true, true
		}
		if !i.doomed {
			continue
		}
		for _, tie := range i.e.Owns {
			for _, target := range c.parents(i, tie) {
				touch(target, i)
			}
		}
		for _, m := range c.memberships(i) { // those that nobody living has go with their target
			if !m.held && !c.hasLivingOwner(m) {
				touch(m, i)
			}
		}
	}
	for _, i := range c.items {
		for _, tie := range i.e.OwnedBy {
			for _, p := range c.parents(i, tie) {
				if p.doomed {
					touch(i, p)
				}
			}
		}
		for _, tie := range i.e.AccessedBy {
			for _, p := range c.parents(i, tie) {
				if c.any && p.doomed && !i.touched {
					i.touched, i.accessed, changed = true, true, true
					for ref := range p.subjects {
						i.subjects[ref] = true
					}
				}
			}
		}
	}
	return changed
}

func (c *closure) isDoomed(i *item) bool {
	switch {
	case i.held:
		return false
	case c.any || i.seed:
		return true
	case c.hasLivingOwner(i):
		return false
	}
	return !slices.ContainsFunc(c.memberships(i), func(m *item) bool { return !m.doomed && c.hasLivingOwner(m) })
}

func (c *closure) hasLivingOwner(i *item) bool {
	if i.held {
		return true
	}
	for _, tie := range i.e.OwnedBy {
		if slices.ContainsFunc(c.parents(i, tie), func(p *item) bool {
			return !p.doomed && !p.gone && !c.db.anchored(p.e, p.t, p.row, p.matched)
		}) {
			return true
		}
	}
	return false
}

// anchored reports whether a row is what an erasure left of a person for a kept row's sake. They own nothing any more.
// A row that was found by a field which the anchor masks is none, and masks that leave no trace are no proof.
func (db *DB) anchored(e *connectors.Entity, t *Table, r Row, matched []string) bool {
	certain := false
	for name, spec := range e.Anchor {
		if slices.Contains(matched, name) {
			return false
		}
		format := db.target(e, t, name).Format
		switch {
		case spec.Kind == mask.Null && r[name] == nil, spec.Kind == mask.Random && format == mask.Free:
			continue
		case spec.Kind == mask.Constant && text(r[name]) == spec.Value, spec.Kind == mask.Redact && text(r[name]) == mask.Redacted,
			spec.Kind == mask.Random && mask.Made(text(r[name]), format):
			certain = true
		default:
			return false
		}
	}
	return certain
}

// parents are the rows that a row refers to by a tie: one, or none.
func (c *closure) parents(i *item, tie connectors.Owner) []*item {
	if tie.When != nil && text(i.row[tie.When.Column]) != tie.When.Value {
		return nil
	}
	v, ok := values(i.row, tie.Columns)
	if !ok {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(c.find(tie.Entity, c.references(tie), v)), func(p *item) bool {
		return apart(i.e, i.row, p.e, p.row)
	})
}

// apart reports whether two rows are different tenants': then neither refers to the other, whatever their columns hold.
func apart(a *connectors.Entity, r Row, b *connectors.Entity, other Row) bool {
	return a.Tenant != "" && b.Tenant != "" && text(r[a.Tenant]) != text(other[b.Tenant])
}

func (c *closure) references(tie connectors.Owner) []string {
	if len(tie.References) > 0 {
		return tie.References
	}
	if e := c.db.sys.Entity(tie.Entity); e != nil {
		if t := c.db.store.tables[e.From()]; t != nil {
			return t.PrimaryKey
		}
	}
	return nil
}

// find looks rows of an entity up by the values of columns.
func (c *closure) find(entity string, columns []string, joined string) []*item {
	name := entity + "\x00" + joinNames(columns)
	if _, built := c.by[name]; !built {
		c.by[name] = nil
		for _, i := range c.items {
			if v, ok := values(i.row, columns); ok && i.e.Name == entity {
				c.by[name+"\x00"+v] = append(c.by[name+"\x00"+v], i)
			}
		}
	}
	return c.by[name+"\x00"+joined]
}

func joinNames(names []string) string {
	out := ""
	for _, n := range names {
		out += n + "\x00"
	}
	return out
}

// memberTies are the memberships' ties that own rows of an entity.
func (c *closure) memberTies(e *connectors.Entity) []connectors.Owner {
	var out []connectors.Owner
	for i := range c.db.sys.Entities {
		for _, tie := range c.db.sys.Entities[i].Owns {
			if tie.Entity == e.Name {
				out = append(out, tie)
			}
		}
	}
	return out
}

// memberships are the rows that own a row in the name of their own owners.
func (c *closure) memberships(target *item) []*item {
	var out []*item
	for n := range c.db.sys.Entities {
		e := &c.db.sys.Entities[n]
		for _, tie := range e.Owns {
			if tie.Entity != target.e.Name {
				continue
			}
			v, ok := values(target.row, c.references(tie))
			if !ok {
				continue
			}
			for _, m := range c.find(e.Name, tie.Columns, v) {
				if (tie.When == nil || text(m.row[tie.When.Column]) == tie.When.Value) && !apart(m.e, m.row, target.e, target.row) {
					out = append(out, m)
				}
			}
		}
	}
	return out
}

// allowed reports whether the approved Plan of one of the row's subjects covers its entity, and names the first.
func (c *closure) allowed(i *item) (string, bool) {
	for _, s := range c.batch {
		if i.subjects[s.Ref] && (s.Entities == nil || s.Entities[i.e.Name]) {
			return s.Ref, true
		}
	}
	return "", false
}

// decide gives every row its one action:
//
//   - a doomed row is deleted, masked or kept, as its entity says;
//   - a touched row with a living owner is released: the fields declared for the owners that go are changed;
//   - a row of others that holds or mentions an identifier loses it: redact;
//   - a row to which a row that stays still refers is anchored instead of deleted; where there is no anchor, it stays
//     with a row that is held or whose statutory minimum has not ended, and otherwise the reference is emptied if it can be.
func (c *closure) decide() error {
	c.matchers = map[string]*mask.Matcher{}
	for _, s := range c.batch {
		c.matchers[s.Ref] = mask.NewMatcher(s.Identifiers, c.db.sys.Identifiers)
	}
	for _, i := range c.items {
		if _, ok := c.allowed(i); ok && !i.held && !i.stays {
			switch {
			case i.doomed:
				i.action = method(i.e)
			case len(c.leaving(i)) > 0:
				i.action = dsr.Release
			case len(i.matched) > 0:
				i.action = redact(i.e)
			}
		}
		if i.action != "" || i.held || i.stays {
			continue
		}
		for _, s := range c.batch {
			if (s.Entities == nil || s.Entities[i.e.Name]) && len(mentions(i.e, i.t, i.row, c.matchers[s.Ref])) > 0 {
				i.action = redact(i.e)
				i.subjects[s.Ref] = true
			}
		}
	}
	return c.anchor()
}

// anchor looks at the references of the rows that stay.
func (c *closure) anchor() error {
	for _, i := range c.items { // others' rows let go of what goes, though it may have to wait for something else
		for _, tie := range i.e.OwnedBy {
			for _, p := range c.parents(i, tie) {
				nullable := slices.IndexFunc(tie.Columns, func(name string) bool { return i.t.column(name).Nullable })
				if i.action == dsr.Release && p != i && p.action == dsr.Delete && len(p.e.Anchor) == 0 && !c.rewrites(i, tie) && nullable >= 0 {
					i.nulls = append(i.nulls, tie.Columns[nullable])
				}
			}
		}
	}
	for again := true; again; {
		again = false
		for _, i := range c.items {
			if i.action == dsr.Delete && c.leadsToHeld(i) {
				c.pin(i)
				again = true
			}
			if i.action == dsr.Delete {
				continue
			}
			for _, tie := range slices.Concat(i.e.OwnedBy, i.e.Owns) {
				for _, p := range c.parents(i, tie) {
					if p == i || p.action != dsr.Delete || c.rewrites(i, tie) {
						continue
					}
					nullable := slices.IndexFunc(tie.Columns, func(name string) bool { return i.t.column(name).Nullable })
					switch {
					case c.db.anchored(p.e, p.t, p.row, p.matched):
						p.action, again = "", true
					case len(p.e.Anchor) > 0:
						p.action, again = dsr.Anchor, true
					case i.held || i.stays || i.pinned:
						c.pin(p)
						again = true
					case i.action == dsr.Release && nullable >= 0:
						i.nulls = append(i.nulls, tie.Columns[nullable])
					default:
						ref, _ := c.allowed(p)
						return &connectors.SubjectError{Subject: ref, Entity: i.e.Name, Err: connectors.Permanent(dsr.CodeInvalid,
							"a row that stays would refer to a row of "+p.e.Name+" that goes",
							"Give "+p.e.Name+" an anchor, or let "+i.e.Name+" mask the reference.", nil)}
					}
				}
			}
		}
	}
	return nil
}

// leadsToHeld reports whether a membership is one by which a row that is held will be reached when it no longer is.
func (c *closure) leadsToHeld(m *item) bool {
	return slices.ContainsFunc(m.e.Owns, func(tie connectors.Owner) bool {
		return slices.ContainsFunc(c.parents(m, tie), func(target *item) bool { return target.held || target.stays || target.pinned })
	})
}

// pin lets a row stay for the sake of one that is held. It loses what a row of others would lose; the subject's own row
// keeps that by which it is found again.
func (c *closure) pin(p *item) {
	p.pinned, p.action = true, ""
	if p.seed {
		p.matched = nil
	}
	named := slices.ContainsFunc(c.batch, func(s connectors.Subject) bool {
		return (s.Entities == nil || s.Entities[p.e.Name]) && len(mentions(p.e, p.t, p.row, c.matchers[s.Ref])) > 0
	})
	if len(p.matched) > 0 || named {
		p.action = redact(p.e)
	}
}

// rewrites reports whether what happens to the row changes the tie's columns.
func (c *closure) rewrites(i *item, tie connectors.Owner) bool {
	for _, m := range c.masks(i) {
		for name := range m {
			if slices.Contains(tie.Columns, name) {
				return true
			}
		}
	}
	return slices.ContainsFunc(i.nulls, func(n string) bool { return slices.Contains(tie.Columns, n) })
}

// leaving are the ties of a row whose owners go.
func (c *closure) leaving(i *item) []connectors.Owner {
	var out []connectors.Owner
	for _, tie := range i.e.OwnedBy {
		if slices.ContainsFunc(c.parents(i, tie), func(p *item) bool { return p.doomed }) {
			out = append(out, tie)
		}
	}
	return out
}

// masks are those that a row's action applies, in order.
func (c *closure) masks(i *item) []map[string]mask.Spec {
	var out []map[string]mask.Spec
	switch i.action {
	case dsr.Mask, dsr.Keep:
		return []map[string]mask.Spec{i.e.Masks}
	case dsr.Anchor:
		return []map[string]mask.Spec{i.e.Anchor}
	case dsr.Release:
		for _, tie := range c.leaving(i) {
			for _, name := range tie.Columns {
				if m := i.e.OnOwnerErased[name]; m != nil {
					out = append(out, m)
				}
			}
		}
	}
	if i.action == dsr.Redact || i.action == dsr.Release {
		removal := map[string]mask.Spec{}
		for _, name := range i.matched {
			switch col := i.t.column(name); {
			case col.Class == connectors.ClassJSON:
				removal[name] = mask.Spec{Kind: mask.Redact}
			case col.Nullable:
				removal[name] = mask.Spec{Kind: mask.Null}
			default:
				removal[name] = mask.Spec{Kind: mask.Random}
			}
		}
		out = append(out, removal)
	}
	return out
}

// method is what erasure does to a doomed row.
func method(e *connectors.Entity) dsr.Method {
	switch {
	case e.Keep != nil:
		return dsr.Keep
	case e.Erase == "":
		return dsr.Delete
	}
	return e.Erase
}

// redact is what erasure does to a row of others: where rows only expire, nothing can be taken out of them either.
func redact(e *connectors.Entity) dsr.Method {
	if e.Erase == dsr.Expire {
		return dsr.Expire
	}
	return dsr.Redact
}
