package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// column is one column of a table as statements need it.
type column struct {
	connectors.Column
	quoted string
	cast   string // PostgreSQL: the type without its length, so that a cast cuts nothing
	class  connectors.ColumnClass
	sqlite bool
	folds  bool // MariaDB: the collation compares without regard to case
}

// tie is one reference between entities: a child's columns refer to a parent's.
type tie struct {
	n             int // unique in the model
	child, parent *entity
	cols, refs    []*column
	disc          *column // polymorphic: the tie holds for rows whose disc equals discValue
	discValue     string
	enforced      bool // a foreign key guarantees that the parent exists
	childPos      []int
	parentPos     []int
	discPos       int
	release       map[string]mask.Spec // what changes in the child when this owner goes and others remain
}

// identified is a column that holds an identifier.
type identified struct {
	col  *column
	name string
	kind dsr.IdentifierKind
}

// entity is one table of the map with what the catalogue knows of it.
type entity struct {
	*connectors.Entity
	table   *connectors.EntitySchema
	from    string // quoted, qualified
	columns map[string]*column
	key     []*column
	keyless bool // MariaDB without any key: only rows of a leaf can be deleted, through their parent's key
	tenant  *column

	owners    []*tie // this is the child
	accessors []*tie // this is the child
	owns      []*tie // this is the membership: its columns refer to the target
	children  []*tie // this is the parent (OwnedBy of others)
	accessed  []*tie // this is the parent (AccessedBy of others)
	members   []*tie // this is the target of memberships

	ids      []identified
	mentions []*column
	load     []*column // what a loaded row has: key columns first
	pos      map[string]int
	// leaf rows are never read: one owner decides, nothing depends on them, and their parent's key finds them.
	leaf  bool
	order int // deletion goes by rising order: children before parents
	// breaks are references inside a cycle of entities; they are set to NULL before the rows go.
	breaks   []*column
	deferred bool // a reference in a cycle cannot be NULL but is deferrable
}

// model is the map joined with the catalogue.
type model struct {
	d        *DB
	entities []*entity // by name
	byName   map[string]*entity
	ordered  []*entity // by order
	ties     []*tie
	oids     map[*entity]uint32 // PostgreSQL's numbers of the tables
	shared   bool               // some rows may have several owners
}

// modelOf builds the model at its first use. A failure is not kept: the next call tries again.
func (d *DB) modelOf(ctx context.Context) (*model, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.model != nil {
		return d.model, nil
	}
	c, err := d.readCatalogue(ctx)
	if err != nil {
		return nil, classify(d.dialect, err)
	}
	m, err := newModel(d, c)
	if err != nil {
		return nil, err
	}
	if err := m.foldColumns(ctx); err != nil {
		return nil, classify(d.dialect, err)
	}
	d.model = m
	return m, nil
}

// foldColumns finds out which text columns of MariaDB compare without regard to case: their indexes serve e-mail
// addresses as they are.
func (m *model) foldColumns(ctx context.Context) error {
	if m.d.dialect.name != mariadb {
		return nil
	}
	in := "DATABASE()"
	var args []any
	for _, s := range m.d.schemas() {
		in += ", ?"
		args = append(args, s)
	}
	folds := map[[3]string]bool{}
	err := each(ctx, m.d.SQL, `SELECT CASE WHEN table_schema = DATABASE() THEN '' ELSE table_schema END, table_name, column_name
FROM information_schema.columns WHERE collation_name LIKE '%\_ci' AND table_schema IN (`+in+")", args, func(rows *sql.Rows) error {
		var k [3]string
		if err := rows.Scan(&k[0], &k[1], &k[2]); err != nil {
			return err
		}
		folds[k] = true
		return nil
	})
	for _, e := range m.entities {
		schema, table := "", e.table.Name
		if s, rest, ok := strings.Cut(table, "."); ok {
			schema, table = s, rest
		}
		for name, c := range e.columns {
			c.folds = folds[[3]string{schema, table, name}]
		}
	}
	return err
}

func (d *DB) readCatalogue(ctx context.Context) (*catalogue, error) {
	switch d.dialect.name {
	case postgres:
		return readPostgres(ctx, d.SQL)
	case sqlite:
		return readSQLite(ctx, d.SQL)
	}
	return readMariaDB(ctx, d.SQL, d.schemas())
}

// schemas are those that the map's entities name before a dot.
func (d *DB) schemas() []string {
	var out []string
	for i := range d.System.Entities {
		if s, _, ok := strings.Cut(d.System.Entities[i].From(), "."); ok && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func wrongMap(entity, field, msg, hint string) error {
	path := "entities." + entity
	if field != "" {
		path += "." + field
	}
	if hint == "" {
		hint = "Run `lethe check` and correct the map."
	}
	return connectors.Permanent(CodeSchema, path+": "+msg, hint, nil)
}

func newModel(d *DB, c *catalogue) (*model, error) {
	m := &model{d: d, byName: map[string]*entity{}, oids: map[*entity]uint32{}}
	for i := range d.System.Entities {
		e, err := newEntity(d, c, &d.System.Entities[i])
		if err != nil {
			return nil, err
		}
		m.entities = append(m.entities, e)
		m.byName[e.Name] = e
		if _, facts := findTable(c, e.From()); facts != nil {
			m.oids[e] = facts.oid
		}
	}
	for _, e := range m.entities {
		if err := m.tie(e); err != nil {
			return nil, err
		}
	}
	for _, e := range m.entities {
		e.loads()
		e.leaf = e.isLeaf()
		if e.keyless && !e.leaf {
			return nil, wrongMap(e.Name, "", "the table has neither a primary nor a unique key",
				"Give the table a primary key: its rows cannot be told apart.")
		}
	}
	for _, t := range m.ties {
		t.childPos, t.parentPos = positions(t.child, t.cols), positions(t.parent, t.refs)
		if t.disc != nil {
			t.discPos = t.child.pos[t.disc.Name]
		}
	}
	m.shared = slices.ContainsFunc(m.entities, func(e *entity) bool { return len(e.owners) > 1 || len(e.members) > 0 })
	m.sort()
	return m, nil
}

func newEntity(d *DB, c *catalogue, def *connectors.Entity) (*entity, error) {
	table, facts := findTable(c, def.From())
	if table == nil {
		return nil, wrongMap(def.Name, "", "the database has no such table", "")
	}
	e := &entity{Entity: def, table: table, columns: map[string]*column{}, pos: map[string]int{}}
	if facts.schema != "" {
		e.from = d.dialect.quote(facts.schema) + "."
	}
	e.from += d.dialect.quote(facts.table)
	for _, col := range table.Columns {
		e.columns[col.Name] = &column{
			Column: col, quoted: d.dialect.quote(col.Name), cast: castType(col.Type), class: col.Class,
			sqlite: d.dialect.name == sqlite,
		}
	}
	e.key = e.keyColumns(d)
	e.keyless = len(e.key) == 0
	if def.Tenant != "" {
		if e.tenant = e.columns[def.Tenant]; e.tenant == nil {
			return nil, wrongMap(def.Name, def.Tenant, "the table has no such column", "")
		}
	} else if d.System.TenantName != "" && !def.Shared {
		return nil, wrongMap(def.Name, "tenant", "the entity has no tenant column", "Name it, or say shared: true.")
	}
	for _, f := range def.Fields {
		col := e.columns[f.Name]
		if col == nil {
			return nil, wrongMap(def.Name, f.Name, "the table has no such column", "")
		}
		if f.Identifier != "" {
			e.ids = append(e.ids, identified{col: col, name: f.Identifier, kind: d.System.Identifiers[f.Identifier]})
		}
	}
	for _, name := range def.Mentions {
		col := e.columns[name]
		if col == nil {
			return nil, wrongMap(def.Name, name, "the table has no such column", "")
		}
		e.mentions = append(e.mentions, col)
	}
	for _, masks := range []map[string]mask.Spec{def.Masks, def.Anchor, def.ExportMask} {
		for name := range masks {
			if e.columns[name] == nil {
				return nil, wrongMap(def.Name, name, "the table has no such column", "")
			}
		}
	}
	return e, nil
}

// findTable finds the table by the name in the map, with or without its schema.
func findTable(c *catalogue, name string) (*connectors.EntitySchema, *tableFacts) {
	if t := c.entity(name); t != nil {
		return t, c.facts[t.Name]
	}
	if s, rest, ok := strings.Cut(name, "."); ok {
		for i := range c.schema.Entities {
			t := &c.schema.Entities[i]
			if f := c.facts[t.Name]; f != nil && f.schema == s && f.table == rest {
				return t, f
			}
		}
	}
	return nil, nil
}

// castType is a type's name without its length: a cast to varchar(5) would cut the value it should find.
func castType(typ string) string {
	base, rest, ok := strings.Cut(typ, "(")
	if ok {
		_, rest, _ = strings.Cut(rest, ")")
		typ = strings.TrimSpace(base) + rest
	}
	switch typ {
	case "character":
		return "bpchar"
	case "bit":
		return "varbit"
	}
	return typ
}

// keyColumns are the primary key, else the first unique key without nullable columns, else the row's own address.
func (e *entity) keyColumns(d *DB) []*column {
	if len(e.table.PrimaryKey) > 0 {
		return e.named(e.table.PrimaryKey)
	}
	for _, u := range e.table.Unique {
		cols := e.named(u)
		if !slices.ContainsFunc(cols, func(c *column) bool { return c == nil || c.Nullable }) {
			return cols
		}
	}
	if e.table.View {
		return nil
	}
	switch d.dialect.name {
	case postgres:
		return []*column{
			{Column: connectors.Column{Name: "tableoid"}, quoted: "tableoid", cast: "oid"},
			{Column: connectors.Column{Name: "ctid"}, quoted: "ctid", cast: "tid"},
		}
	case sqlite:
		return []*column{{
			Column: connectors.Column{Name: "rowid"}, quoted: "rowid", class: connectors.ClassInteger, sqlite: true,
		}}
	}
	return nil
}

func (e *entity) named(names []string) []*column {
	out := make([]*column, len(names))
	for i, n := range names {
		out[i] = e.columns[n]
	}
	return out
}

// tie joins e's owners, accessors and owned targets.
func (m *model) tie(e *entity) error {
	add := func(o connectors.Owner, kind string) (*tie, error) {
		p := m.byName[o.Entity]
		if p == nil {
			return nil, wrongMap(e.Name, kind, "refers to an entity that is not in this system", "")
		}
		t := &tie{n: len(m.ties), child: e, parent: p, cols: e.named(o.Columns), refs: p.key}
		if len(o.References) > 0 {
			t.refs = p.named(o.References)
		}
		if slices.Contains(t.cols, nil) || slices.Contains(t.refs, nil) || len(t.cols) != len(t.refs) || len(t.cols) == 0 {
			return nil, wrongMap(e.Name, kind, "refers by columns that do not exist or do not match", "")
		}
		if o.When != nil {
			t.disc, t.discValue = e.columns[o.When.Column], o.When.Value
			if t.disc == nil {
				return nil, wrongMap(e.Name, kind, "has no such discriminator column", "")
			}
		}
		t.enforced = m.d.dialect.name != sqlite && o.When == nil && slices.ContainsFunc(e.table.References, func(r connectors.Reference) bool {
			return r.Entity == p.table.Name && slices.Equal(r.Columns, o.Columns) && slices.Equal(r.References, columnNames(t.refs))
		})
		m.ties = append(m.ties, t)
		return t, nil
	}
	for _, o := range e.OwnedBy {
		t, err := add(o, "owned_by")
		if err != nil {
			return err
		}
		for _, c := range o.Columns {
			if r := e.OnOwnerErased[c]; r != nil {
				t.release = r
				for name := range r {
					if e.columns[name] == nil {
						return wrongMap(e.Name, "on_owner_erased."+name, "the table has no such column", "")
					}
				}
			}
		}
		e.owners = append(e.owners, t)
		t.parent.children = append(t.parent.children, t)
	}
	for _, o := range e.AccessedBy {
		t, err := add(o, "accessed_by")
		if err != nil {
			return err
		}
		e.accessors = append(e.accessors, t)
		t.parent.accessed = append(t.parent.accessed, t)
	}
	for _, o := range e.Owns {
		t, err := add(o, "owns")
		if err != nil {
			return err
		}
		e.owns = append(e.owns, t)
		t.parent.members = append(t.parent.members, t)
	}
	return nil
}

func columnNames(cols []*column) []string {
	out := make([]string, len(cols))
	for i, c := range cols {
		out[i] = c.Name
	}
	return out
}

// loads decides which columns a loaded row of e has.
func (e *entity) loads() {
	add := func(cols ...*column) {
		for _, c := range cols {
			if c == nil {
				continue
			}
			if _, ok := e.pos[c.Name]; !ok {
				e.pos[c.Name] = len(e.load)
				e.load = append(e.load, c)
			}
		}
	}
	add(e.key...)
	for _, ts := range [][]*tie{e.owners, e.accessors, e.owns} {
		for _, t := range ts {
			add(t.cols...)
			add(t.disc)
		}
	}
	for _, ts := range [][]*tie{e.children, e.accessed, e.members} {
		for _, t := range ts {
			add(t.refs...)
		}
	}
	for _, id := range e.ids {
		if id.col.class != connectors.ClassJSON && id.col.class != connectors.ClassArray {
			add(id.col)
		}
	}
	add(e.anchorColumns()...)
}

func positions(e *entity, cols []*column) []int {
	out := make([]int, len(cols))
	for i, c := range cols {
		out[i] = e.pos[c.Name]
	}
	return out
}

func (e *entity) isLeaf() bool {
	return !e.Subject && len(e.owners) == 1 && len(e.accessors) == 0 && len(e.owns) == 0 && len(e.children) == 0 &&
		len(e.accessed) == 0 && len(e.members) == 0 && len(e.ids) == 0 && len(e.mentions) == 0 &&
		e.Keep == nil && e.Erase == dsr.Delete && e.owners[0].parent != e
}

// method is what erasure does to a doomed row of e.
func (e *entity) method() dsr.Method {
	switch {
	case e.Keep != nil:
		return dsr.Keep
	case e.Erase == "":
		return dsr.Delete
	}
	return e.Erase
}

// sort gives the order of deletion by Tarjan's algorithm over references: an entity comes after all that refer to it.
func (m *model) sort() {
	refers := map[*entity]map[*entity]bool{} // child -> parents
	edge := func(child, parent *entity) {
		if refers[child] == nil {
			refers[child] = map[*entity]bool{}
		}
		refers[child][parent] = true
	}
	byTable := map[string]*entity{}
	for _, e := range m.entities {
		byTable[e.table.Name] = e
	}
	for _, t := range m.ties {
		edge(t.child, t.parent)
	}
	for _, e := range m.entities {
		for _, r := range e.table.References {
			if p := byTable[r.Entity]; p != nil {
				edge(e, p)
			}
		}
	}
	index, low, on := map[*entity]int{}, map[*entity]int{}, map[*entity]bool{}
	var stack []*entity
	var components [][]*entity // parents first
	var visit func(e *entity)
	visit = func(e *entity) {
		index[e], low[e] = len(index)+1, len(index)+1
		stack, on[e] = append(stack, e), true
		for _, p := range m.entities {
			if !refers[e][p] {
				continue
			}
			if index[p] == 0 {
				visit(p)
				low[e] = min(low[e], low[p])
			} else if on[p] {
				low[e] = min(low[e], index[p])
			}
		}
		if low[e] != index[e] {
			return
		}
		var scc []*entity
		for {
			top := stack[len(stack)-1]
			stack, on[top] = stack[:len(stack)-1], false
			scc = append(scc, top)
			if top == e {
				break
			}
		}
		components = append(components, scc)
	}
	for _, e := range m.entities {
		if index[e] == 0 {
			visit(e)
		}
	}
	slices.Reverse(components)
	for _, scc := range components {
		slices.SortFunc(scc, func(a, b *entity) int {
			if a.Subject != b.Subject { // the subject's row goes last
				if a.Subject {
					return 1
				}
				return -1
			}
			return strings.Compare(a.Name, b.Name)
		})
		m.ordered = append(m.ordered, m.circle(scc, byTable)...)
	}
	for i, e := range m.ordered {
		e.order = i
	}
}

// circle notes how the references of entities that refer to each other in a circle are broken, and puts an entity behind
// those whose references to it are not: they hold at every statement.
func (m *model) circle(scc []*entity, byTable map[string]*entity) []*entity {
	firm := map[*entity][]*entity{} // parent -> children
	for _, e := range scc {
		for _, r := range e.table.References {
			p := byTable[r.Entity]
			if p == nil || !slices.Contains(scc, p) {
				continue
			}
			cols := e.named(r.Columns)
			i := slices.IndexFunc(cols, func(c *column) bool { return c != nil && c.Nullable && !c.Generated && !slices.Contains(e.key, c) })
			switch {
			case i >= 0 && !slices.Contains(e.breaks, cols[i]):
				e.breaks = append(e.breaks, cols[i])
			case i >= 0:
			case r.Deferrable || m.d.dialect.name == sqlite:
				e.deferred = true
			case p != e:
				firm[p] = append(firm[p], e)
			}
		}
	}
	var out []*entity
	for open := slices.Clone(scc); len(open) > 0; {
		i := slices.IndexFunc(open, func(e *entity) bool {
			return !slices.ContainsFunc(firm[e], func(child *entity) bool { return slices.Contains(open, child) })
		})
		i = max(i, 0) // a circle that opens nowhere: check refuses it
		out, open = append(out, open[i]), slices.Delete(open, i, i+1)
	}
	return out
}

// everyTenant is the tenant of what a row that belongs to none owns, and no tenant's name.
const everyTenant = "\x00"

var errNoTenant = fmt.Errorf("the map has tenants and the subject names none")
