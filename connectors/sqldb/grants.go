package sqldb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

var _ connectors.Granter = (*DB)(nil)

// Grants returns the SQL that gives a database user what the map's methods need and no more. Principal is the user's
// name; on MariaDB user@host, where the host is any (%) when left out. The user must exist already.
func (d *DB) Grants(ctx context.Context, principal string) (string, error) {
	if principal == "" || strings.ContainsAny(principal, "\x00\r\n") {
		return "", badSetting("principal", "not the name of a database user", "")
	}
	c, err := d.readCatalogue(ctx)
	if err != nil {
		return "", classify(d.dialect, err)
	}
	k := newChecker(d, c)
	for _, e := range k.entities {
		if e.table == nil {
			return "", &dsr.Error{
				Code: CodeSchema, Field: e.Name, Msg: "the database has no such table", Hint: "Run `lethe check` and correct the map.",
			}
		}
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, "-- What Lethe's user needs for the entities of %s, and no more.\n", oneLine(d.System.Name))
	switch d.dialect.name {
	case sqlite:
		sb.WriteString("-- SQLite has no users: Lethe's process needs to read and write the database file and its folder.\n")
	case postgres:
		k.grantPostgres(&sb, d.dialect.quote(principal))
	default:
		k.grantMariaDB(&sb, mariaDBUser(principal))
	}
	return sb.String(), nil
}

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

func (k *checker) grantPostgres(sb *strings.Builder, user string) {
	var schemas []string
	needs := merged(k.needs())
	for _, n := range needs {
		if !slices.Contains(schemas, n.table.schema) {
			schemas = append(schemas, n.table.schema)
			fmt.Fprintf(sb, "GRANT USAGE ON SCHEMA %s TO %s;\n", k.d.dialect.quote(n.table.schema), user)
		}
	}
	for _, n := range needs {
		if n.anything {
			// Locking a row takes UPDATE on some column; a column that nothing depends on is the least.
			n.updates = []string{k.harmless(n)}
			fmt.Fprintf(sb, "-- UPDATE of one column of %s lets Lethe lock rows; it changes none.\n", oneLine(n.entity))
		}
		k.grant(sb, n, user)
	}
	sb.WriteString("-- Keep values out of the server's log; a superuser must run these two.\n")
	fmt.Fprintf(sb, "ALTER ROLE %s SET log_parameter_max_length = 0;\n", user)
	fmt.Fprintf(sb, "ALTER ROLE %s SET log_parameter_max_length_on_error = 0;\n", user)
}

// harmless returns a column that is neither part of a key nor of a reference, or else the first column.
func (k *checker) harmless(n need) string {
	e := k.byName[n.entity]
	for _, c := range e.table.Columns {
		if !c.Generated && !slices.Contains(e.table.PrimaryKey, c.Name) && k.referring(e, c.Name) == "" &&
			k.referredBy(e, c.Name) == "" {
			return c.Name
		}
	}
	return e.table.Columns[0].Name
}

func (k *checker) grantMariaDB(sb *strings.Builder, user string) {
	for _, n := range merged(k.needs()) {
		k.grant(sb, n, user)
	}
}

// merged adds what an entity's deletion rules need to what requests need of it.
func merged(all []need) []need {
	var out []need
	for _, n := range all {
		if n.rule == "" {
			n.updates = slices.Clone(n.updates)
			out = append(out, n)
			continue
		}
		to := &out[len(out)-1] // a rule's needs follow those of its entity
		to.delete, to.anything = to.delete || n.delete, to.anything || n.anything
		for _, c := range n.updates {
			if !slices.Contains(to.updates, c) {
				to.updates = append(to.updates, c)
			}
		}
	}
	for i := range out {
		slices.Sort(out[i].updates)
		out[i].anything = out[i].anything && len(out[i].updates) == 0
	}
	return out
}

func (k *checker) grant(sb *strings.Builder, n need, user string) {
	privileges := []string{"SELECT"}
	if n.delete {
		privileges = append(privileges, "DELETE")
	}
	if len(n.updates) > 0 {
		quoted := make([]string, len(n.updates))
		for i, c := range n.updates {
			quoted[i] = k.d.dialect.quote(c)
		}
		privileges = append(privileges, "UPDATE ("+strings.Join(quoted, ", ")+")")
	}
	fmt.Fprintf(sb, "GRANT %s ON %s TO %s;\n", strings.Join(privileges, ", "), k.quoted(n.table), user)
}

// mariaDBUser quotes user@host.
func mariaDBUser(principal string) string {
	user, host := principal, "%"
	if i := strings.LastIndexByte(principal, '@'); i > 0 {
		user, host = principal[:i], principal[i+1:]
	}
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
	}
	return quote(user) + "@" + quote(host)
}

func codeIs(err error, code dsr.Code) bool { return dsr.CodeOf(err) == code }
