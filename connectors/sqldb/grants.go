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
		err = k.grantPostgres(ctx, &sb, d.dialect.quote(principal))
	default:
		err = k.grantMariaDB(ctx, &sb, mariaDBUser(principal))
	}
	return sb.String(), err
}

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

func (k *checker) grantPostgres(ctx context.Context, sb *strings.Builder, user string) error {
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
	pace := k.d.pace
	k.grantPace(sb, pace.Lag > 0 && len(k.d.replicas) == 0 || pace.Sessions > 0, "pace.lag or pace.sessions",
		fmt.Sprintf("GRANT pg_read_all_stats TO %s;", user))
	return k.notePartitions(ctx, sb, func(e *checked) string {
		return fmt.Sprintf("while the user owns it and its partitions: ALTER TABLE %s OWNER TO %s;", k.quoted(e.facts), user)
	})
}

// grantPace writes what sweeps need to see when they should pause, as a comment where they do not look as far as is known.
func (k *checker) grantPace(sb *strings.Builder, looks bool, settings, statement string) {
	if !slices.ContainsFunc(k.entities, func(e *checked) bool { return len(e.Rules) > 0 }) {
		return
	}
	if looks {
		fmt.Fprintf(sb, "-- Sweeps look at the server's load (policy.retention.%s); who administers the server must run this.\n%s\n", settings, statement)
	} else {
		fmt.Fprintf(sb, "-- Where policy.retention of the server's --config has %s, also: %s\n", settings, statement)
	}
}

// notePartitions says of each table that is partitioned on the start of a rule what it takes to drop whole partitions. That
// is more than the map needs, so it is left to a person.
func (k *checker) notePartitions(ctx context.Context, sb *strings.Builder, how func(e *checked) string) error {
	var failed error
	noted := make(map[*checked]bool)
	k.eachRule(func(e *checked, r *connectors.Rule, after []*connectors.Rule) {
		c := columnOf(e.table, r.Start.Field)
		if c == nil || noted[e] || failed != nil || !k.dropsPartitions(e, r, c, after) {
			return
		}
		ranged, _, err := k.rangedBy(ctx, e, c)
		if failed = err; ranged {
			noted[e] = true
			fmt.Fprintf(sb, "-- Whole partitions of %s are dropped %s\n", oneLine(e.Name), how(e))
		}
	})
	return failed
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

func (k *checker) grantMariaDB(ctx context.Context, sb *strings.Builder, user string) error {
	for _, n := range merged(k.needs()) {
		k.grant(sb, n, user)
	}
	k.grantPace(sb, k.d.pace.Sessions > 0 || k.d.pace.LockWaits > 0, "pace.sessions or pace.lock_waits",
		fmt.Sprintf("GRANT PROCESS ON *.* TO %s;", user))
	return k.notePartitions(ctx, sb, func(e *checked) string {
		return fmt.Sprintf("with this, by which the user could drop the table too: GRANT ALTER, DROP ON %s TO %s; GRANT LOCK TABLES ON %s.* TO %[2]s;",
			k.quoted(e.facts), user, k.d.dialect.quote(e.facts.schema))
	})
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
