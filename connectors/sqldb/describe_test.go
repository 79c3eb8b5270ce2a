package sqldb

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// openRaw opens a test database by URL, without a map.
func openRaw(t testing.TB, url string) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", url
	switch {
	case strings.HasPrefix(url, "mysql://"):
		driver, dsn = "mysql", dbtest.MySQLDSN(url)
	case strings.HasPrefix(url, "sqlite://"):
		driver, dsn = "sqlite", strings.TrimPrefix(url, "sqlite://")
	}
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func execAll(t testing.TB, db *sql.DB, statements string) {
	t.Helper()
	for _, s := range strings.Split(statements, ";\n") {
		if strings.TrimSpace(s) == "" {
			continue
		}
		_, err := db.ExecContext(context.Background(), s)
		require.NoError(t, err, s)
	}
}

// without leaves out what differs between servers and versions.
var without = cmp.Options{
	cmpopts.IgnoreFields(connectors.EntitySchema{}, "Bytes"),
	cmpopts.IgnoreFields(connectors.Reference{}, "Name"),
	cmpopts.EquateEmpty(),
}

const describePostgres = `
CREATE SCHEMA crm;
CREATE TYPE mood AS ENUM ('glad', 'it''s ok');
CREATE DOMAIN mail AS varchar(120) NOT NULL;
CREATE TABLE crm."Person" (
  "Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email mail,
  name text NOT NULL,
  feeling mood,
  tags text[],
  scores int[],
  extra jsonb,
  seen_from inet,
  token uuid,
  born date,
  code char(3),
  created timestamptz,
  shout text GENERATED ALWAYS AS (upper(name)) STORED,
  CHECK (name <> ''),
  UNIQUE (name, born)
);
CREATE UNIQUE INDEX ON crm."Person" (lower(email));
CREATE UNIQUE INDEX ON crm."Person" (token) WHERE born IS NULL;
CREATE INDEX ON crm."Person" (seen_from) WHERE seen_from IS NOT NULL;
COMMENT ON COLUMN crm."Person".born IS 'date of birth';
CREATE TABLE orders (
  region int, id int, person bigint REFERENCES crm."Person" ON DELETE CASCADE DEFERRABLE,
  PRIMARY KEY (region, id)
);
CREATE TABLE lines (id int PRIMARY KEY, r int, o int, FOREIGN KEY (r, o) REFERENCES orders (region, id));
CREATE TABLE events (at date NOT NULL, person bigint) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE VIEW glad AS SELECT "Id" FROM crm."Person" WHERE feeling = 'glad';
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER watch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION noop();
INSERT INTO crm."Person" (email, name) VALUES ('a@example.com', 'A'), ('b@example.com', 'B');
INSERT INTO events VALUES ('2026-02-01', 1), ('2026-02-02', 1), ('2026-02-03', 1)
`

func TestDescribePostgres(t *testing.T) {
	t.Parallel()
	db := openRaw(t, dbtest.Postgres(t))
	execAll(t, db, describePostgres)

	c, err := readPostgres(context.Background(), db)
	require.NoError(t, err)

	col := func(name, typ string, class connectors.ColumnClass) connectors.Column {
		return connectors.Column{Name: name, Type: typ, Class: class, Nullable: true}
	}
	person := []connectors.Column{
		{Name: "Id", Type: "bigint", Class: connectors.ClassInteger, Generated: true},
		{Name: "email", Type: "mail", Class: connectors.ClassText, HasText: true, MaxLen: 120},
		{Name: "name", Type: "text", Class: connectors.ClassText, HasText: true},
		{Name: "feeling", Type: "mood", Class: connectors.ClassEnum, Nullable: true, Enum: []string{"glad", "it's ok"}},
		{Name: "tags", Type: "text[]", Class: connectors.ClassArray, Nullable: true, HasText: true},
		col("scores", "integer[]", connectors.ClassArray),
		{Name: "extra", Type: "jsonb", Class: connectors.ClassJSON, Nullable: true, HasText: true},
		col("seen_from", "inet", connectors.ClassIP),
		col("token", "uuid", connectors.ClassUUID),
		{Name: "born", Type: "date", Class: connectors.ClassDate, Nullable: true, Comment: "date of birth"},
		{Name: "code", Type: "character(3)", Class: connectors.ClassText, Nullable: true, MaxLen: 3},
		col("created", "timestamp with time zone", connectors.ClassTime),
		{Name: "shout", Type: "text", Class: connectors.ClassText, Nullable: true, Generated: true, HasText: true},
	}
	integer := func(name string, nullable bool) connectors.Column {
		return connectors.Column{Name: name, Type: "integer", Class: connectors.ClassInteger, Nullable: nullable}
	}
	event := []connectors.Column{
		{Name: "at", Type: "date", Class: connectors.ClassDate},
		col("person", "bigint", connectors.ClassInteger),
	}
	want := connectors.Schema{Entities: []connectors.EntitySchema{
		{
			Name: "crm.Person", Columns: person, PrimaryKey: []string{"Id"}, Unique: [][]string{{"name", "born"}},
			Indexes: [][]string{{"Id"}, {"name", "born"}, {"seen_from"}}, Rows: 2,
		},
		{Name: "events", Columns: event, Rows: 3},
		{Name: "events_2026", Columns: event, Rows: 3, Partition: true},
		{
			Name: "glad", View: true,
			Columns: []connectors.Column{{Name: "Id", Type: "bigint", Class: connectors.ClassInteger, Nullable: true}},
		},
		{
			Name: "lines", Columns: []connectors.Column{integer("id", false), integer("r", true), integer("o", true)},
			PrimaryKey: []string{"id"}, Indexes: [][]string{{"id"}},
			References: []connectors.Reference{{
				Columns: []string{"r", "o"}, Entity: "orders", References: []string{"region", "id"}, OnDelete: "no action",
			}},
		},
		{
			Name: "orders", PrimaryKey: []string{"region", "id"}, Indexes: [][]string{{"region", "id"}}, Triggers: 1,
			Columns: []connectors.Column{integer("region", false), integer("id", false), col("person", "bigint", connectors.ClassInteger)},
			References: []connectors.Reference{{
				Columns: []string{"person"}, Entity: "crm.Person", References: []string{"Id"}, Deferrable: true, OnDelete: "cascade",
			}},
		},
	}}
	require.Empty(t, cmp.Diff(want, c.schema, without))

	facts := c.facts["crm.Person"]
	require.Equal(t, []string{"lower(email::text)"}, facts.expressions)
	require.Len(t, facts.checks, 1)
	require.ElementsMatch(t, [][]string{{"email"}, {"token"}}, facts.looseUnique)
	require.Equal(t, "events", c.facts["events_2026"].parent)
}

const describeMariaDB = `
CREATE TABLE person (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  email VARCHAR(120) NOT NULL UNIQUE COMMENT 'contact',
  bio TEXT,
  feeling ENUM('glad', 'it''s ok'),
  extra JSON,
  seen_from INET6,
  active TINYINT(1),
  token UUID,
  born DATE,
  loud VARCHAR(120) AS (upper(email)) STORED,
  UNIQUE KEY bio_start (bio(20)),
  CHECK (born > '1900-01-01')
);
CREATE TABLE orders (
  region INT, id INT, person INT UNSIGNED NOT NULL, PRIMARY KEY (region, id),
  FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);
CREATE TABLE lines_ (id INT PRIMARY KEY, r INT, o INT, FOREIGN KEY (r, o) REFERENCES orders (region, id)) COMMENT 'x';
CREATE VIEW adults AS SELECT id FROM person;
CREATE TRIGGER watch BEFORE UPDATE ON orders FOR EACH ROW SET NEW.region = NEW.region;
CREATE TABLE old (id INT) ENGINE=MyISAM
`

func TestDescribeMariaDB(t *testing.T) {
	t.Parallel()
	db := openRaw(t, dbtest.MariaDB(t))
	execAll(t, db, describeMariaDB)

	c, err := readMariaDB(context.Background(), db, nil)
	require.NoError(t, err)

	integer := func(name string, nullable bool) connectors.Column {
		return connectors.Column{Name: name, Type: "int(11)", Class: connectors.ClassInteger, Nullable: nullable}
	}
	id := connectors.Column{Name: "id", Type: "int(10) unsigned", Class: connectors.ClassInteger}
	zeroID := id
	want := connectors.Schema{Entities: []connectors.EntitySchema{
		{Name: "adults", View: true, Columns: []connectors.Column{zeroID}},
		{
			Name: "lines_", Columns: []connectors.Column{integer("id", false), integer("r", true), integer("o", true)},
			PrimaryKey: []string{"id"}, Indexes: [][]string{{"id"}, {"r", "o"}},
			References: []connectors.Reference{{
				Columns: []string{"r", "o"}, Entity: "orders", References: []string{"region", "id"}, OnDelete: "restrict",
			}},
		},
		{Name: "old", Columns: []connectors.Column{integer("id", true)}},
		{
			Name: "orders", PrimaryKey: []string{"region", "id"}, Indexes: [][]string{{"person"}, {"region", "id"}}, Triggers: 1,
			Columns: []connectors.Column{
				integer("region", false), integer("id", false),
				{Name: "person", Type: "int(10) unsigned", Class: connectors.ClassInteger},
			},
			References: []connectors.Reference{{
				Columns: []string{"person"}, Entity: "person", References: []string{"id"}, OnDelete: "cascade",
			}},
		},
		{
			Name: "person", PrimaryKey: []string{"id"}, Unique: [][]string{{"email"}},
			Indexes: [][]string{{"bio"}, {"email"}, {"id"}},
			Columns: []connectors.Column{
				id,
				{Name: "email", Type: "varchar(120)", Class: connectors.ClassText, HasText: true, MaxLen: 120, Comment: "contact"},
				{Name: "bio", Type: "text", Class: connectors.ClassText, Nullable: true, HasText: true},
				{
					Name: "feeling", Type: "enum('glad','it''s ok')", Class: connectors.ClassEnum, Nullable: true,
					Enum: []string{"glad", "it's ok"},
				},
				{Name: "extra", Type: "longtext", Class: connectors.ClassJSON, Nullable: true, HasText: true},
				{Name: "seen_from", Type: "inet6", Class: connectors.ClassIP, Nullable: true},
				{Name: "active", Type: "tinyint(1)", Class: connectors.ClassBool, Nullable: true},
				{Name: "token", Type: "uuid", Class: connectors.ClassUUID, Nullable: true},
				{Name: "born", Type: "date", Class: connectors.ClassDate, Nullable: true},
				{
					Name: "loud", Type: "varchar(120)", Class: connectors.ClassText, Nullable: true, Generated: true,
					HasText: true, MaxLen: 120,
				},
			},
		},
	}}
	require.Empty(t, cmp.Diff(want, c.schema, without, cmpopts.IgnoreFields(connectors.EntitySchema{}, "Rows")))
	require.Equal(t, [][]string{{"bio"}}, c.facts["person"].looseUnique)
	require.Equal(t, "MyISAM", c.facts["old"].engine)
}

const describeSQLite = `
CREATE TABLE person (
  id INTEGER PRIMARY KEY,
  email TEXT NOT NULL UNIQUE, -- CHECK (not me)
  name VARCHAR(80),
  role TEXT CHECK (role IN ('agent', 'it''s')),
  extra JSON, born DATE, active BOOLEAN,
  loud TEXT GENERATED ALWAYS AS (upper(email)) VIRTUAL,
  boss INTEGER REFERENCES person
);
CREATE UNIQUE INDEX by_name ON person (lower(name));
CREATE INDEX by_boss ON person (boss) WHERE boss IS NOT NULL;
CREATE INDEX by_born ON person (born) WHERE active;
CREATE TABLE orders (region INTEGER, id INTEGER, person INTEGER NOT NULL, PRIMARY KEY (region, id),
  FOREIGN KEY (person) REFERENCES Person (id) ON DELETE CASCADE);
CREATE VIEW adults AS SELECT id FROM person;
CREATE TRIGGER watch AFTER DELETE ON orders BEGIN SELECT 1; END;
INSERT INTO person (id, email) VALUES (1, 'a@example.com')
`

func TestDescribeSQLite(t *testing.T) {
	t.Parallel()
	db := openRaw(t, dbtest.SQLite(t))
	execAll(t, db, describeSQLite)

	c, err := readSQLite(context.Background(), db)
	require.NoError(t, err)

	integer := func(name string, nullable bool) connectors.Column {
		return connectors.Column{Name: name, Type: "INTEGER", Class: connectors.ClassInteger, Nullable: nullable}
	}
	want := connectors.Schema{Entities: []connectors.EntitySchema{
		{Name: "adults", View: true, Columns: []connectors.Column{integer("id", true)}},
		{
			Name: "orders", PrimaryKey: []string{"region", "id"}, Indexes: [][]string{{"region", "id"}}, Triggers: 1,
			Columns: []connectors.Column{integer("region", true), integer("id", true), integer("person", false)},
			References: []connectors.Reference{{
				Columns: []string{"person"}, Entity: "person", References: []string{"id"}, Deferrable: true, OnDelete: "cascade",
			}},
		},
		{
			Name: "person", PrimaryKey: []string{"id"}, Unique: [][]string{{"email"}}, Rows: 1,
			Indexes: [][]string{{"boss"}, {"email"}, {"id"}},
			Columns: []connectors.Column{
				integer("id", false),
				{Name: "email", Type: "TEXT", Class: connectors.ClassText, HasText: true},
				{Name: "name", Type: "VARCHAR(80)", Class: connectors.ClassText, Nullable: true, HasText: true, MaxLen: 80},
				{Name: "role", Type: "TEXT", Class: connectors.ClassText, Nullable: true, Enum: []string{"agent", "it's"}},
				{Name: "extra", Type: "JSON", Class: connectors.ClassJSON, Nullable: true, HasText: true},
				{Name: "born", Type: "DATE", Class: connectors.ClassDate, Nullable: true},
				{Name: "active", Type: "BOOLEAN", Class: connectors.ClassBool, Nullable: true},
				{Name: "loud", Type: "TEXT", Class: connectors.ClassText, Nullable: true, Generated: true, HasText: true},
				integer("boss", true),
			},
			References: []connectors.Reference{{
				Columns: []string{"boss"}, Entity: "person", References: []string{"id"}, Deferrable: true, OnDelete: "no action",
			}},
		},
	}}
	require.Empty(t, cmp.Diff(want, c.schema, without))
	require.Equal(t, [][]string{{"name"}}, c.facts["person"].looseUnique)
	require.Equal(t, []string{"lower(name)"}, c.facts["person"].expressions)
	require.Equal(t, []string{"role IN ('agent', 'it''s')"}, c.facts["person"].checks)
}
