package draft_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/datamap/draft"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

var schemas = []struct{ name, backend string }{
	{"webshop", "mariadb"},
	{"helpdesk", "postgres"},
	{"clinic", "postgres"},
	{"forum", "sqlite"},
	{"library", "sqlite"},
}

// create makes a fresh database with a schema of testdata and returns its URL.
func create(t *testing.T, backend, name string) string {
	t.Helper()
	var url string
	switch backend {
	case "postgres":
		url = dbtest.Postgres(t)
	case "mariadb":
		url = dbtest.MariaDB(t)
	default:
		url = dbtest.SQLite(t)
	}
	driver, dsn := driverOf(backend, url)
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	text, err := os.ReadFile(filepath.Join("testdata", name+".sql"))
	require.NoError(t, err)
	for _, s := range strings.Split(string(text), ";\n") {
		_, err := db.ExecContext(context.Background(), s)
		require.NoError(t, err, s)
	}
	return url
}

// driverOf returns what database/sql opens a test database with.
func driverOf(backend, url string) (driver, dsn string) {
	switch backend {
	case "postgres":
		return "pgx", url
	case "mariadb":
		return "mysql", dbtest.MySQLDSN(url)
	}
	return "sqlite", strings.TrimPrefix(url, "sqlite://")
}

func open(t *testing.T, s *connectors.System) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(context.Background(), s, connectors.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// drafted returns the draft for a schema of testdata, as text and loaded.
func drafted(t *testing.T, backend, name string) (text string, m *datamap.Map) {
	t.Helper()
	url := create(t, backend, name)
	db := open(t, &connectors.System{Connector: backend, Settings: map[string]any{"dsn": url}})
	schema, err := db.Describe(context.Background())
	require.NoError(t, err)
	yaml, err := draft.Draft(schema, draft.Options{System: name, Connector: backend})
	require.NoError(t, err)
	env := func(string) (string, bool) { return url, true }
	m, err = datamap.Load(yaml, env, sqldb.Kinds())
	require.NoError(t, err, "%s", yaml)
	return string(yaml), m
}

// claims lists what a map says is personal, as "table.column", and its references, as "table.column -> table".
func claims(s *connectors.System) []string {
	var out []string
	add := func(c string) {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	for i := range s.Entities {
		e := &s.Entities[i]
		for _, f := range e.Fields {
			add(e.From() + "." + f.Name)
		}
		for _, m := range e.Mentions {
			add(e.From() + "." + m)
		}
		for _, o := range slices.Concat(e.OwnedBy, e.AccessedBy, e.Owns) {
			add(fmt.Sprintf("%s.%s -> %s", e.From(), o.Columns[0], s.Entity(o.Entity).From()))
		}
	}
	return out
}

func TestDraftFindsNineOfTen(t *testing.T) {
	t.Parallel()
	for _, c := range schemas {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, m := drafted(t, c.backend, c.name)
			golden, err := os.ReadFile(filepath.Join("testdata", c.name+".golden"))
			require.NoError(t, err)
			want := strings.Split(strings.TrimSpace(string(golden)), "\n")
			got := claims(m.System(c.name))
			var missed, extra []string
			for _, w := range want {
				if !slices.Contains(got, w) {
					missed = append(missed, w)
				}
			}
			for _, g := range got {
				if !slices.Contains(want, g) {
					extra = append(extra, g)
				}
			}
			recall := float64(len(want)-len(missed)) / float64(len(want))
			precision := float64(len(got)-len(extra)) / float64(len(got))
			t.Logf("recall %.2f of %d, precision %.2f of %d\nmissed: %v\nextra: %v", recall, len(want), precision, len(got), missed, extra)
			require.GreaterOrEqual(t, recall, 0.9, "missed %v\n%s", missed, text)
		})
	}
}

// A draft passes Check but for what it asks a person to decide: what the database itself lacks.
func TestDraftPassesCheck(t *testing.T) {
	t.Parallel()
	theirs := []string{sqldb.FindUnindexedReference} // an index is for the database's owner to add
	for _, c := range schemas {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, m := drafted(t, c.backend, c.name)
			found, err := open(t, m.System(c.name)).Check(context.Background())
			require.NoError(t, err)
			for _, f := range found {
				if f.Severity == connectors.Error && !slices.Contains(theirs, f.Code) {
					t.Errorf("%+v", f)
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// What somebody only works with, or a company delivers, does not go with them.
func TestDraftOwnsNoMoreThanAPersonHas(t *testing.T) {
	t.Parallel()
	_, m := drafted(t, "sqlite", "library")
	s := m.System("library")
	require.Nil(t, s.Entity("book"))
	require.Nil(t, s.Entity("copy_"))
	require.Empty(t, s.Entity("branch").OwnedBy)
	require.Equal(t, []connectors.Owner{{Columns: []string{"borrower_id"}, Entity: "borrower"}}, s.Entity("loan").OwnedBy)
	require.Equal(t, dsr.Mask, s.Entity("staff").Erase)
	require.Equal(t, dsr.Delete, s.Entity("borrower").Erase)
	require.Equal(t, "address", s.Entity("borrower").Owns[0].Entity)
}

func TestDraftFragmentNamesItsIdentifiers(t *testing.T) {
	t.Parallel()
	db := open(t, &connectors.System{Connector: "sqlite", Settings: map[string]any{"dsn": create(t, "sqlite", "forum")}})
	schema, err := db.Describe(context.Background())
	require.NoError(t, err)
	yaml, err := draft.Draft(schema, draft.Options{System: "forum", Connector: "sqlite", Fragment: true})
	require.NoError(t, err)
	require.NotContains(t, string(yaml), "version: 1")
	require.Contains(t, string(yaml), "#   email: {kind: email}")
	head := "version: 1\ncontroller: {name: X, country: SE, time_zone: UTC}\nidentifiers:\n"
	for _, line := range strings.Split(string(yaml), "\n") {
		if name, ok := strings.CutPrefix(line, "  #   "); ok {
			head += "  " + name + "\n"
		}
	}
	_, err = datamap.Load([]byte(head+"systems:\n"+string(yaml)), func(string) (string, bool) { return "sqlite:///x", true }, sqldb.Kinds())
	require.NoError(t, err)
}

func TestDraftIsRepeatable(t *testing.T) {
	t.Parallel()
	a, _ := drafted(t, "sqlite", "forum")
	b, _ := drafted(t, "sqlite", "forum")
	require.Equal(t, a, b)
	require.Contains(t, a, "# DECIDE:")
	require.Contains(t, a, "dsn: ${FORUM_DSN}")
}

func TestDraftNeedsSomebody(t *testing.T) {
	t.Parallel()
	_, err := draft.Draft(connectors.Schema{Entities: []connectors.EntitySchema{{
		Name: "rates", PrimaryKey: []string{"id"}, Columns: []connectors.Column{{Name: "id", Class: connectors.ClassInteger}},
	}}}, draft.Options{Connector: "postgres"})
	require.ErrorContains(t, err, "persons")
}

// Names that YAML or SQL would read as something else survive.
func TestDraftQuotesNames(t *testing.T) {
	t.Parallel()
	schema := connectors.Schema{Entities: []connectors.EntitySchema{{
		Name: "2 users: #1", PrimaryKey: []string{"no"},
		Columns: []connectors.Column{
			{Name: "no", Type: "int", Class: connectors.ClassInteger},
			{Name: "e-mail: \"x\"\n# y", Type: "text", Class: connectors.ClassText, HasText: true},
			{Name: "full name", Type: "text", Class: connectors.ClassText, HasText: true},
			{Name: "true", Type: "int", Class: connectors.ClassInteger},
		},
	}}}
	yaml, err := draft.Draft(schema, draft.Options{System: "true", Connector: "sqlite"})
	require.NoError(t, err)
	m, err := datamap.Load(yaml, func(string) (string, bool) { return "sqlite:///x", true }, sqldb.Kinds())
	require.NoError(t, err, "%s", yaml)
	e := m.Systems[0].Entities[0]
	require.Equal(t, "2 users: #1", e.Source)
	require.Equal(t, []string{"true"}, e.NotPersonal)
	require.Len(t, e.Fields, 3)
}
