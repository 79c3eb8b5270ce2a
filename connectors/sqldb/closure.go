package sqldb

import (
	"context"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// closure is the least fixed point of ownership from the subjects' rows. It reads level by level, all entities of a
// level in one round trip where the driver can.
//
// A row is touched when one of its owners is doomed. It is doomed itself when every owner is: an owner that is NULL,
// no longer exists or was anchored by an earlier erasure counts as gone. Each subject is a world of its own when counts are asked for (what would be done
// for this subject alone); an erasure merges the subjects of a transaction into one world.
type closure struct {
	m      *model
	s      session
	lock   bool // FOR UPDATE: decisions stand until the transaction ends
	merged bool // one world
	any    bool // one owner is enough, and accessors count: what an export shows
	tenant string
	batch  connectors.Batch
	terms  *terms
	only   map[*entity]bool // nil is all
	// gone are rows that the same Run erases, in this or in other transactions: the index in the batch of the subject
	// whose turn each is (see turns), by set of columns and id. Subjects before base are done.
	gone map[refset]map[string]int
	base int
	// anchors are keys of rows that an earlier Run may have anchored, by entity and subject.
	anchors map[*entity]map[string][]key
	// held are rows that must not change: their ids by entity.
	held map[*entity]map[string]bool
	// marks are asked of rows as they are read.
	marks marks
	// stays are rows that a sweep found to be kept by something, seeds the entity whose due rows it started from.
	stays map[*entity]map[string]bool
	seeds *entity
	// above, in a sweep, are the entities whose rows due rows may own together; plain are targets that go with their last
	// membership whatever happens. See climb.
	above, plain map[*entity]bool
	climbed      map[*node]bool
	gripped      int // so many of dooms have been asked who holds on to them
	// lifted: holds are noted and have no effect.
	lifted bool
	// minima: rows whose statutory minimum has not ended stay. Without it that is noted only.
	minima bool
	young  bool // such a row was read
	// countLeaves asks how many leaf rows each doomed parent has; leafLimit bounds the total that is counted when
	// only one number is wanted.
	counting leafCount
	limit    int64

	nodes   map[*entity]map[nodeID]*node
	byDoom  map[refset]map[nodeID]*node
	dooms   []*node // in the order in which they were doomed
	members map[*tie]map[nodeID][]*node
	exists  map[*tie]map[string]bool
	// leafRows counts rows of leaf ties by the parent's id; with leafTotals under "" only.
	leafRows map[*tie]map[string]int64
	// early are the entities of a large subject that are worked in pages, before its last transaction.
	early  map[*entity]bool
	rounds int
}

type leafCount int

const (
	leavesIgnored leafCount = iota
	leavesTotal             // one bounded number a tie
	leavesByParent
)

// refset is a set of columns of one entity that references point at.
type refset struct {
	e    *entity
	cols string
}

func (t *tie) refset() refset { return refset{t.parent, strings.Join(columnNames(t.refs), "\x00")} }

type nodeID struct {
	world int
	id    string
}

// node is one row as the closure sees it.
type node struct {
	e      *entity
	world  int
	credit int // index of the subject that it is counted for
	root   int // the lowest index of a subject whose identifier it holds; noRoot when it holds none
	cells  []cell
	// matched are the identifier columns through which it was found.
	matched []*column
	// keyed are those of matched that hold a pseudonym already.
	keyed    []*column
	touched  bool
	doomed   bool
	seed     bool // doomed whoever else owns it
	accessed bool // reached by an accessor's tie only
	allowed  bool // the approved Plan covers its entity
	covered  bool // by a hold
	held     bool // covered, and the hold has effect
	waits    bool // a row that stays for a hold's sake, or for a statutory minimum's, refers to it
	minimum  bool // a statutory minimum of its own has not ended
	due      bool // in a sweep: it is due itself
	grips    bool // in a sweep: its foreign key holds on to a row that goes and does not own it
	action   dsr.Method
	nulls    []*column // references that must be emptied for the row to stay
}

func (n *node) key() key { return n.cells[:len(n.e.key)] }

func (n *node) at(pos []int) key {
	k := make(key, len(pos))
	for i, p := range pos {
		k[i] = n.cells[p]
	}
	return k
}

// refID is the id of a reference's values; a collation that ignores case must not hide a parent.
func refID(cols []*column, k key) string {
	id := k.id()
	for _, c := range cols {
		if c.folds {
			return strings.ToLower(id)
		}
	}
	return id
}

// applies reports whether a row is under the tie: its columns are not NULL and its discriminator agrees.
func (t *tie) applies(n *node) (key, bool) {
	if t.disc != nil && (!n.cells[t.discPos].ok || n.cells[t.discPos].s != t.discValue) {
		return nil, false
	}
	k := n.at(t.childPos)
	return k, k.complete()
}

func (c *closure) world(subject int) int {
	if c.merged {
		return 0
	}
	return subject
}

func (c *closure) covers(e *entity) bool { return c.only == nil || c.only[e] }

func (c *closure) permits(subject int, e *entity) bool {
	allowed := c.batch[subject].Entities
	return allowed == nil || allowed[e.Name]
}

// run computes the closure.
func (c *closure) run(ctx context.Context) error {
	c.reset()
	touched, err := c.roots(ctx)
	if err != nil {
		return err
	}
	return c.expand(ctx, touched)
}

func (c *closure) reset() {
	c.nodes = map[*entity]map[nodeID]*node{}
	c.byDoom = map[refset]map[nodeID]*node{}
	c.members = map[*tie]map[nodeID][]*node{}
	c.exists = map[*tie]map[string]bool{}
	c.leafRows = map[*tie]map[string]int64{}
	c.climbed, c.dooms, c.gripped = map[*node]bool{}, nil, 0
}

// expand decides the touched rows and follows those that are doomed until nothing new is.
func (c *closure) expand(ctx context.Context, touched []*node) error {
	for len(touched) > 0 {
		c.rounds++
		fresh, err := c.decide(ctx, touched)
		if err != nil {
			return err
		}
		if touched, err = c.follow(ctx, fresh); err != nil {
			return err
		}
		if len(touched) > 0 || c.above == nil {
			continue
		}
		if err := c.grip(ctx); err != nil {
			return err
		}
		if touched, err = c.climb(ctx); err != nil {
			return err
		}
	}
	return nil
}

// roots finds the rows that hold an identifier.
func (c *closure) roots(ctx context.Context) ([]*node, error) {
	var touched []*node
	seen := map[*node]bool{}
	var calls []*call
	for _, e := range c.m.entities {
		if !c.covers(e) {
			continue
		}
		for _, id := range e.ids {
			subjects, values, err := c.terms.of(e, id)
			if err != nil {
				return nil, err
			}
			pos, loaded := e.pos[id.col.Name]
			for chunk := range slices.Chunk(values, c.m.d.dialect.keysPerStatement) {
				s := c.columns(c.m.d.dialect.statement("SELECT "), e)
				if !loaded {
					s.add(", ").document("", id.col)
					pos = c.width(e)
				}
				s.add(" FROM ", e.from, " WHERE ")
				if !s.matches("", id, chunk) {
					continue
				}
				e.whereTenant(s, "", c.tenant)
				s.add(" ORDER BY ").names("", e.key).add(c.m.d.dialect.forUpdate(c.lock))
				at := pos
				calls = append(calls, s.call(func(values [][]byte) error {
					if values[at] == nil {
						return nil
					}
					for _, subject := range who(id, subjects, string(values[at])) {
						n, _ := c.node(e, subject, values)
						if !slices.Contains(n.matched, id.col) {
							n.matched = append(n.matched, id.col)
							if plain := c.terms.byName[id.name]; loaded && len(who(id, plain, string(values[at]))) == 0 {
								n.keyed = append(n.keyed, id.col)
							}
						}
						n.seed = n.seed || e.Subject || len(e.owners)+len(e.members) == 0
						n.touched = true
						n.root = min(n.root, subject)
						n.accessed = false
						if !seen[n] {
							seen[n] = true
							touched = append(touched, n)
						}
					}
					return nil
				}))
			}
		}
	}
	calls = append(calls, c.findAnchors(func(n *node) {
		if !seen[n] {
			seen[n] = true
			touched = append(touched, n)
		}
	})...)
	if err := c.s.run(ctx, calls...); err != nil {
		return nil, err
	}
	return touched, nil
}

// node returns the row's node in the subject's world, new or known. What is read again replaces what was read.
func (c *closure) node(e *entity, subject int, values [][]byte) (*node, bool) {
	row := cells(values[:len(e.load)])
	id := nodeID{c.world(subject), key(row[:len(e.key)]).id()}
	if c.nodes[e] == nil {
		c.nodes[e] = map[nodeID]*node{}
	}
	n := c.nodes[e][id]
	if n == nil {
		n = &node{e: e, world: id.world, credit: subject, root: noRoot}
		c.nodes[e][id] = n
	}
	n.covered = c.held[e][id.id]
	if c.marks[e] != nil {
		mark := string(values[len(e.load)])
		n.covered, n.minimum, n.due = n.covered || mark == markHeld, mark == markMinimum, mark == markDue
	}
	n.held = n.covered && !c.lifted || c.stays[e][id.id] || c.remains(n) && !e.Subject
	c.young = c.young || n.minimum
	n.allowed = n.allowed || c.permits(subject, e)
	known := n.cells != nil
	n.cells = row
	return n, known
}

// remains reports whether an erasure leaves a row because of a statutory minimum of its own.
func (c *closure) remains(n *node) bool { return c.minima && n.minimum }

// decide loads what the decision about the touched rows needs and returns those that are doomed now.
func (c *closure) decide(ctx context.Context, touched []*node) ([]*node, error) {
	if err := c.loadMembers(ctx, touched); err != nil {
		return nil, err
	}
	ask := slices.Clone(touched)
	for _, n := range touched {
		for _, t := range n.e.members {
			ask = append(ask, c.members[t][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}]...)
		}
	}
	if err := c.askExistence(ctx, ask); err != nil {
		return nil, err
	}
	var fresh []*node
	for _, n := range touched {
		if n.doomed || !c.isDoomed(n) {
			continue
		}
		c.doom(n)
		fresh = append(fresh, n)
		for _, t := range n.e.members { // memberships that nobody living has go with their target
			for _, m := range c.members[t][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}] {
				if !m.doomed && !c.lively(m) {
					m.touched, m.credit = true, n.credit
					m.allowed = m.allowed || c.permits(n.credit, m.e)
					c.doom(m)
					fresh = append(fresh, m)
				}
			}
		}
	}
	return fresh, nil
}

func (c *closure) doom(n *node) {
	n.doomed = true
	c.dooms = append(c.dooms, n)
	for _, ts := range [][]*tie{n.e.children, n.e.accessed, n.e.members} {
		for _, t := range ts {
			set := t.refset()
			if c.byDoom[set] == nil {
				c.byDoom[set] = map[nodeID]*node{}
			}
			c.byDoom[set][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}] = n
		}
	}
}

// isDoomed is the rule of shared ownership.
func (c *closure) isDoomed(n *node) bool {
	switch {
	case n.held:
		return false
	case c.any:
		return true
	case n.seed, n.due:
		return true
	}
	if c.hasLivingOwner(n) {
		return false
	}
	for _, t := range n.e.members {
		for _, m := range c.members[t][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}] {
			if !m.doomed && c.lively(m) {
				return false
			}
		}
	}
	return true
}

// lively reports whether a membership that is not doomed owns its target in somebody's name: its owners', or its own
// when it is a person or nobody owns such rows. One that is itself owned through memberships is lively until the fixed
// point dooms it.
func (c *closure) lively(m *node) bool {
	return m.e.stands() || c.hasLivingOwner(m)
}

// stands reports whether a membership of this entity owns its target whoever its own owners are.
func (e *entity) stands() bool { return e.Subject || len(e.owners) == 0 || len(e.members) > 0 }

func (c *closure) hasLivingOwner(n *node) bool {
	if n.held {
		return true
	}
	for _, t := range n.e.owners {
		k, ok := t.applies(n)
		if ok && c.lives(n, t, k) {
			return true
		}
	}
	return false
}

func (c *closure) lives(n *node, t *tie, k key) bool {
	id := refID(t.refs, k)
	if c.byDoom[t.refset()][nodeID{n.world, id}] != nil || c.isGone(t, id) {
		return false
	}
	return t.vouched() || c.exists[t][id]
}

// vouched reports whether an owner lives if the row refers to it: a foreign key says so, and none is ever anchored.
func (t *tie) vouched() bool { return t.enforced && len(t.parent.Anchor) == 0 }

// isGone reports whether an owner goes in another transaction of the Run.
func (c *closure) isGone(t *tie, id string) bool {
	_, ok := c.gone[t.refset()][id]
	return ok
}

// handled reports whether another transaction of the Run has done what there is to do for a row: it was reached through
// a subject who was worked before.
func (c *closure) handled(n *node) bool {
	for _, ts := range [][]*tie{n.e.children, n.e.members} {
		for _, t := range ts {
			if first, gone := c.gone[t.refset()][refID(t.refs, n.at(t.parentPos))]; gone && first < c.base {
				return true
			}
		}
	}
	for _, t := range n.e.owners {
		if k, ok := t.applies(n); ok {
			if credit, gone := c.gone[t.refset()][refID(t.refs, k)]; gone && credit < c.base {
				return true
			}
		}
	}
	return false
}

// each calls fn for every node in the order of the entities' names and of their keys' text, which is stable.
func (c *closure) each(fn func(n *node) error) error {
	for _, e := range c.m.entities {
		nodes := make([]*node, 0, len(c.nodes[e]))
		for _, n := range c.nodes[e] {
			nodes = append(nodes, n)
		}
		sortNodes(nodes)
		for _, n := range nodes {
			if err := fn(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func sortNodes(nodes []*node) { slices.SortFunc(nodes, compareNodes) }

// compareNodes orders rows by world, entity and key; whole numbers by value.
func compareNodes(a, b *node) int {
	if a.world != b.world {
		return a.world - b.world
	}
	if a.e != b.e { // their keys have different columns
		return strings.Compare(a.e.Name, b.e.Name)
	}
	return compareKeys(a, b)
}

func compareKeys(a, b *node) int {
	for i := range a.e.key {
		x, y := a.cells[i].s, b.cells[i].s
		if a.e.key[i].class == connectors.ClassInteger && len(x) != len(y) {
			return len(x) - len(y)
		}
		if d := strings.Compare(x, y); d != 0 {
			return d
		}
	}
	return 0
}
