// Package draft writes a first data map from a database's catalogue: who the persons are, which columns say something
// about them, and how rows lead to them. It works from names, types, keys and comments alone and never reads a row.
// Each guess carries its reason as a comment, and what only a person can know is marked "# DECIDE:".
package draft

import (
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Options say what the catalogue cannot.
type Options struct {
	System    string // name of the system in the map; empty is "database"
	Connector string // kind of connector: "postgres"
	// DSN is the environment variable that will hold the connection's URL; empty is SYSTEM_DSN in capitals. The URL
	// itself never goes into the map.
	DSN string
	// Fragment leaves out everything above the system: it goes under `systems:` of a map that exists.
	Fragment bool
}

// Draft returns the text of lethe.yaml. The order of entities and columns is the catalogue's, so that two drafts of one
// database are equal.
func Draft(schema connectors.Schema, o Options) ([]byte, error) {
	if o.System == "" {
		o.System = "database"
	}
	if o.DSN == "" {
		o.DSN = variable(o.System)
	}
	if o.Connector == "" {
		return nil, &dsr.Error{Code: dsr.CodeInvalid, Field: "connector", Msg: "the kind of connector is missing"}
	}
	d := newDrafter(schema)
	d.findSubjects()
	d.findReferences()
	d.findOwners()
	d.describe()
	if len(d.subjects()) == 0 {
		return nil, &dsr.Error{
			Code: dsr.CodeNotFound, Msg: "no table looks like a list of persons",
			Hint: "Write the map by hand: mark the entity whose rows are persons with subject: true (docs/DATAMAP.md).",
		}
	}
	return write(d, o), nil
}

func variable(system string) string {
	up := strings.ToUpper(system)
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, up) + "_DSN"
}

// table is one table on its way into the map.
type table struct {
	*connectors.EntitySchema
	words   []string // of its name, without a prefix that all tables share
	columns map[string]*column
	order   []*column

	score   int
	reasons []string // why it is a list of persons
	subject bool
	mapped  bool
	// loose subjects are persons beside the main ones, or organisations: what refers to them does not go with them.
	loose bool
	// detail tables say more about a person's row that points at them.
	detail bool
	// bystander tables are about no person, but share a detail with one.
	bystander bool
	ignored   string // why it is left out
	decide    string // what a person must decide about the whole entity

	refs     []*reference // this is the child
	owned    []*reference
	accessed []*reference
	owns     []*reference
	// watched says that rows which stay refer to this table by a foreign key: its rows are masked rather than deleted.
	watched bool
	anchor  bool
}

// column is one column on its way into the map.
type column struct {
	*connectors.Column
	guess      connectors.Guess
	guessed    bool
	refers     bool
	field      bool
	identifier string
	category   string
	mention    bool
	why        string
	decide     string
}

// reference is a foreign key, declared or guessed.
type reference struct {
	columns    []string
	to         *table
	references []string // empty is the primary key
	declared   bool
	onDelete   string
	nullable   bool
	why        string
	by         string            // polymorphic: discriminator
	values     map[string]*table // polymorphic: targets by the discriminator's value
	decide     string
}

func (r *reference) column() string { return r.columns[0] }

type drafter struct {
	tables []*table
	byName map[string]*table
	// kinds of the identifiers that the map declares.
	identifiers map[string]dsr.IdentifierKind
}

func newDrafter(s connectors.Schema) *drafter {
	d := &drafter{byName: make(map[string]*table), identifiers: make(map[string]dsr.IdentifierKind)}
	for i := range s.Entities {
		e := &s.Entities[i]
		if e.View || e.Partition {
			continue
		}
		t := &table{EntitySchema: e, columns: make(map[string]*column)}
		_, local, qualified := strings.Cut(e.Name, ".")
		if !qualified {
			local = e.Name
		}
		t.words = connectors.Words(local)
		for j := range e.Columns {
			c := &column{Column: &e.Columns[j]}
			c.guess, c.guessed = guess(t.words, *c.Column)
			t.columns[c.Name], t.order = c, append(t.order, c)
		}
		d.tables = append(d.tables, t)
		d.byName[e.Name] = t
	}
	d.trimPrefix()
	for _, t := range d.tables {
		if reason := machinery(t.words); reason != "" {
			t.ignored = reason
		}
	}
	return d
}

// guess guesses what a column holds. Some schemas repeat the table's name in each column; in comments.comment_agent
// the first word tells nothing.
func guess(table []string, c connectors.Column) (connectors.Guess, bool) {
	words := connectors.Words(c.Name)
	if len(table) == 0 || len(words) < 2 || !sameWord(table[len(table)-1], words[0]) {
		return connectors.GuessPersonal(c)
	}
	short := c
	short.Name = strings.Join(words[1:], "_")
	if g, ok := connectors.GuessPersonal(short); ok {
		return g, true
	}
	g, ok := connectors.GuessPersonal(c)
	return g, ok && g.Word != words[0]
}

// trimPrefix removes a first word that most tables share: wp_users and wp_posts are users and posts.
func (d *drafter) trimPrefix() {
	count := make(map[string]int)
	for _, t := range d.tables {
		if len(t.words) > 1 {
			count[t.words[0]]++
		}
	}
	for prefix, n := range count {
		if n < 3 || n*3 < len(d.tables)*2 || len(prefix) > 5 && n < len(d.tables) {
			continue
		}
		for _, t := range d.tables {
			if len(t.words) > 1 && t.words[0] == prefix {
				t.words = t.words[1:]
			}
		}
	}
}

func (d *drafter) subjects() []*table {
	var out []*table
	for _, t := range d.tables {
		if t.subject {
			out = append(out, t)
		}
	}
	return out
}

// main is the table of persons that references without a better target mean.
func (d *drafter) main() *table {
	var best *table
	for _, t := range d.subjects() {
		if best == nil || t.score > best.score {
			best = t
		}
	}
	return best
}

// machinery explains tables that frameworks keep for themselves.
func machinery(words []string) string {
	joined := strings.Join(words, "_")
	for _, m := range []string{
		"schema_migrations", "schema_migration", "migrations", "flyway_schema_history", "goose_db_version", "alembic_version",
		"ar_internal_metadata", "django_migrations", "django_content_type", "auth_permission", "databasechangelog",
		"databasechangeloglock", "doctrine_migration_versions", "knex_migrations", "knex_migrations_lock", "river_migration",
		"spatial_ref_sys", "ef_migrations_history", "prisma_migrations",
	} {
		if joined == m {
			return "a framework's own bookkeeping"
		}
	}
	return ""
}

// single reports whether the table's primary key is one column, and returns it.
func (t *table) key() *column {
	if len(t.PrimaryKey) != 1 {
		return nil
	}
	return t.columns[t.PrimaryKey[0]]
}

func (t *table) unique(name string) bool {
	return len(t.PrimaryKey) == 1 && t.PrimaryKey[0] == name ||
		slices.ContainsFunc(t.Unique, func(u []string) bool { return len(u) == 1 && u[0] == name })
}

func (t *table) strong(category string) *column {
	for _, c := range t.order {
		if c.guessed && !c.guess.Weak && strings.HasPrefix(c.guess.Category, category) {
			return c
		}
	}
	return nil
}
