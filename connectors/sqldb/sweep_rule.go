package sqldb

import (
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// sweepRule is one rule at one cut-off, as statements ask for it.
type sweepRule struct {
	m      *model
	e      *entity
	rule   connectors.Rule
	start  starts
	after  []sweepRule // earlier rules by which a row must be due as well
	frozen []connectors.Frozen
	// marks are asked of the rows that go with a due row: holds, and statutory minima of their own.
	marks marks
	masks []masking // of a rule that pseudonymises
	// above and plain are where its rows may own others together: see [closure.climb]. above is nil where they own nothing
	// together.
	above, plain map[*entity]bool
}

// newSweepRule reads a rule; it refuses what the database cannot carry out.
func (m *model) newSweepRule(entity string, r connectors.Rule, cut connectors.Cut, held connectors.Holds) (*sweepRule, error) {
	e := m.byName[entity]
	switch {
	case e == nil:
		return nil, wrongMap(entity, "", "the entity is not in this system", "")
	case e.table.View:
		return nil, wrongMap(entity, "", "a rule cannot delete rows of a view", "Map the tables that the view reads.")
	case e.keyless:
		return nil, wrongMap(entity, "", "a rule cannot tell the rows apart", "Give the table a primary key.")
	case r.Action != retention.Delete && r.Action != retention.Pseudonymise && r.Action != retention.Next:
		return nil, connectors.Permanent(dsr.CodeInvalid, entity+": a database deletes nothing by itself, so a rule cannot say expire",
			"Write action: delete.", nil)
	}
	if err := e.checkConditions("rule", r.When); err != nil {
		return nil, err
	}
	u := &sweepRule{m: m, e: e, rule: r}
	var err error
	if u.start, err = m.newStarts(e, r, cut.Before, cut.Zone); err != nil {
		return nil, err
	}
	for _, b := range cut.After {
		if err := e.checkConditions("rule", b.Rule.When); err != nil {
			return nil, err
		}
		earlier := sweepRule{m: m, e: e, rule: b.Rule}
		if earlier.start, err = m.newStarts(e, b.Rule, b.Before, u.start.zone); err != nil {
			return nil, err
		}
		u.after = append(u.after, earlier)
	}
	if u.marks, err = m.frozenMarks(held); err != nil {
		return nil, err
	}
	if k := u.marks[e]; k != nil {
		u.frozen = k.frozen
	}
	if r.Action == retention.Pseudonymise {
		if u.masks, err = e.maskings(r.Masks); err != nil {
			return nil, err
		}
		return u, nil
	}
	if err := u.minima(m.d.now(), len(held.Subjects) > 0); err != nil {
		return nil, err
	}
	return u, nil
}

// minima notes what is asked of rows that may go with the rule's: statutory minima, and whether they are due themselves.
// held says that subjects are under a hold, whose rows may be anywhere.
func (u *sweepRule) minima(now time.Time, held bool) error {
	family := u.m.family(u.e)
	if up := above(u.e, family); shares(up) {
		u.above = up
	}
	if u.above != nil || slices.ContainsFunc(u.e.owners, func(t *tie) bool { return slices.Contains(family, t.parent) }) {
		u.marks.of(u.e).due = u
	}
	for _, e := range family {
		if e.keyless {
			continue
		}
		minima, err := u.m.minimaOf(e, now.In(u.start.zone))
		if err != nil {
			return err
		}
		if len(minima) > 0 {
			u.marks.of(e).minimum = minima
		}
	}
	u.plain = map[*entity]bool{}
	for e := range u.above {
		u.plain[e] = !held && u.plainly(e)
	}
	return nil
}

// family are the entities whose rows may go with rows of e, itself among them.
func (m *model) family(e *entity) []*entity {
	out := []*entity{e}
	for i := 0; i < len(out); i++ {
		add := func(next *entity) {
			if !slices.Contains(out, next) {
				out = append(out, next)
			}
		}
		for _, t := range out[i].children {
			add(t.child)
		}
		for _, t := range out[i].members {
			add(t.child)
		}
		for _, t := range out[i].owns {
			add(t.parent)
		}
	}
	return out
}

// where appends that a row is due, held or not.
func (u *sweepRule) where(s *statement) *statement {
	u.start.ended(s)
	if len(u.rule.When) > 0 {
		s.add(" AND ").meets("", u.e, u.rule.When)
	}
	for i := range u.after {
		b := &u.after[i]
		s.add(" AND CASE WHEN ").meets("", u.e, b.rule.When).add(" THEN CASE WHEN ")
		b.start.ended(s)
		s.add(" THEN 1 ELSE 0 END ELSE 1 END = 1")
	}
	return u.unmasked(s)
}

// free appends that a row is due and no hold on the entity covers it. Holds on subjects are known by keys.
func (u *sweepRule) free(s *statement) *statement {
	return u.where(s).notFrozen("", u.e, u.frozen)
}

// simple reports whether nothing that refers to the rows can keep them or has to be read: their children, if any, belong
// to them alone and go.
func (u *sweepRule) simple(held connectors.Holds) bool {
	e := u.e
	if u.rule.Action == retention.Pseudonymise {
		return true
	}
	if len(e.owns)+len(e.members)+len(e.breaks) > 0 || e.deferred || len(e.blocking()) > 0 {
		return false
	}
	return !slices.ContainsFunc(e.children, func(t *tie) bool {
		c := t.child
		return c == e || len(c.owners) != 1 || len(c.children)+len(c.accessed)+len(c.members)+len(c.owns) > 0 || c.method() != dsr.Delete ||
			u.marks[c] != nil || len(held.Subjects) > 0 && len(c.ids) > 0
	})
}

// direct reports whether a chunk's keys tell all that must be known of its rows: nothing else is read before they go.
func (u *sweepRule) direct(held connectors.Holds) bool {
	return u.rule.Action == retention.Delete && u.simple(held) && len(held.Subjects) == 0 && u.e.tenant == nil &&
		!slices.ContainsFunc(u.e.children, func(t *tie) bool { return !slices.Equal(t.refs, u.e.key) })
}

// blocking are references that give access only, and whose foreign key keeps the row or takes theirs with it.
func (e *entity) blocking() []*tie {
	var out []*tie
	for _, t := range e.accessed {
		if t.grips() {
			out = append(out, t)
		}
	}
	return out
}

// grips reports whether a foreign key keeps the parent, or takes the child with it.
func (t *tie) grips() bool {
	return slices.ContainsFunc(t.child.table.References, func(r connectors.Reference) bool {
		return r.Entity == t.parent.table.Name && slices.Equal(r.Columns, columnNames(t.cols)) && r.OnDelete != "set null" && r.OnDelete != "set default"
	})
}

// A masking is one mask of a rule on its column.
type masking struct {
	col  *column
	spec mask.Spec
	// known: whether the column is masked already can be told from its value.
	known bool
}

// maskings reads a rule's masks in the order of their columns. It refuses masks that cannot hold, and those by which a
// row that was masked cannot be told from one that was not: it would be masked again every night.
func (e *entity) maskings(masks map[string]mask.Spec) ([]masking, error) {
	var out []masking
	proof := false // a column that shows for certain that the row was masked
	for name, spec := range masks {
		c := e.columns[name]
		if c == nil {
			return nil, wrongMap(e.Name, name, "a rule masks a column that the table does not have", "")
		}
		if err := spec.Holds(e.target(c)); err != nil {
			return nil, connectors.Permanent(CodeValue, e.Name+"."+name+": a mask cannot hold in its column", "Run `lethe check` and correct the mask.", err)
		}
		k := masking{col: c, spec: spec, known: e.recognised(c, spec)}
		proof = proof || k.known && (spec.Kind == mask.Constant || spec.Kind == mask.Random || spec.Kind == mask.HMAC)
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b masking) int {
		if a.col.Name < b.col.Name {
			return -1
		}
		return 1
	})
	for _, k := range out {
		if !k.known && !proof {
			return nil, wrongMap(e.Name, k.col.Name, "whether the rule has masked a row already cannot be told",
				"Mask another column with a constant, or an e-mail address or telephone number with random or hmac.")
		}
	}
	if len(out) == 0 {
		return nil, wrongMap(e.Name, "", "the rule pseudonymises and has no masks", "Write masks.")
	}
	return out, nil
}

// recognised reports whether a masked value of the column can be told from one that is not masked. Masks that change
// nothing when they are applied again are always recognised.
func (e *entity) recognised(c *column, spec mask.Spec) bool {
	switch spec.Kind {
	case mask.Null, mask.Constant, mask.Year, mask.Generalise, mask.TruncateIP:
		return true
	case mask.Redact:
		return c.class == connectors.ClassText
	case mask.Random, mask.HMAC:
		return c.class == connectors.ClassText && e.target(c).Format != mask.Free
	}
	return false
}
