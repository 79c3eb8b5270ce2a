package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/retention"
)

// checkServer reports a server that is a replica or that writes values into its log.
func (k *checker) checkServer(ctx context.Context) error {
	switch k.d.dialect.name {
	case postgres:
		settings, err := k.settings(ctx, `
SELECT name, setting FROM pg_settings WHERE name IN ('log_statement', 'log_min_duration_statement', 'log_min_duration_sample',
  'log_statement_sample_rate', 'log_transaction_sample_rate', 'log_parameter_max_length', 'log_parameter_max_length_on_error',
  'default_transaction_read_only')
UNION ALL SELECT 'recovery', CASE WHEN pg_is_in_recovery() THEN 'on' ELSE 'off' END`)
		if err != nil {
			return err
		}
		k.judgePostgres(settings)
	case mariadb:
		settings, err := k.settings(ctx, `
SELECT 'general_log', @@global.general_log UNION ALL SELECT 'sql_log_off', @@session.sql_log_off
UNION ALL SELECT 'slow_query_log', @@global.slow_query_log UNION ALL SELECT 'read_only', @@global.read_only`)
		if err != nil {
			return err
		}
		k.judgeMariaDB(settings)
	case sqlite:
		return k.checkWritable(ctx)
	}
	return nil
}

func (k *checker) settings(ctx context.Context, query string) (map[string]string, error) {
	settings := make(map[string]string)
	err := each(ctx, k.d.SQL, query, nil, func(rows *sql.Rows) error {
		var name, value string
		err := rows.Scan(&name, &value)
		settings[name] = value
		return err
	})
	return settings, err
}

// judgePostgres judges the settings as they are in Lethe's own session. Lethe sends values as parameters, so they are
// logged only where parameters are.
func (k *checker) judgePostgres(settings map[string]string) {
	if settings["recovery"] == "on" {
		k.fail(FindReplica, "", "", "the connection goes to a standby, where nothing can be deleted",
			"Let dsn point at the primary; target_session_attrs=read-write finds it among several hosts.")
	} else if settings["default_transaction_read_only"] == "on" {
		k.fail(FindReplica, "", "", "transactions are read-only by default",
			"Turn default_transaction_read_only off for Lethe's user.")
	}
	number := func(name string) float64 {
		n, err := strconv.ParseFloat(settings[name], 64)
		if err != nil {
			return 0
		}
		return n
	}
	var by []string
	if v := settings["log_statement"]; v == "mod" || v == "all" {
		by = append(by, "log_statement = "+v)
	}
	if n := number("log_min_duration_statement"); n >= 0 {
		by = append(by, fmt.Sprintf("log_min_duration_statement = %g ms", n))
	}
	if n := number("log_min_duration_sample"); n >= 0 && number("log_statement_sample_rate") > 0 {
		by = append(by, fmt.Sprintf("log_min_duration_sample = %g ms", n))
	}
	if number("log_transaction_sample_rate") > 0 {
		by = append(by, "log_transaction_sample_rate")
	}
	if number("log_parameter_max_length") == 0 {
		by = nil // statements are logged without their parameters
	}
	if number("log_parameter_max_length_on_error") != 0 {
		by = append(by, "log_parameter_max_length_on_error")
	}
	if len(by) > 0 {
		k.fail(FindLogsBindValues, "", "", "the server logs values that Lethe sends: "+list(by),
			"As superuser: ALTER ROLE … SET log_parameter_max_length = 0 and log_parameter_max_length_on_error = 0 for Lethe's user.")
	}
}

// judgeMariaDB judges the server's settings. Its logs hold whole statements with their values.
func (k *checker) judgeMariaDB(settings map[string]string) {
	on := func(name string) bool {
		return settings[name] != "0" && settings[name] != "" && settings[name] != "OFF"
	}
	if on("read_only") {
		k.fail(FindReplica, "", "", "the server is read-only, as a replica is", "Let dsn point at the primary.")
	}
	var by []string
	if on("general_log") && !on("sql_log_off") {
		by = append(by, "general_log")
	}
	if on("slow_query_log") {
		by = append(by, "slow_query_log")
	}
	if len(by) > 0 {
		k.fail(FindLogsBindValues, "", "", "the server logs statements with the values that Lethe sends: "+list(by),
			"Turn the logs off, or keep them short and list them among the system's copies with their end.")
	}
}

// checkWritable takes SQLite's write lock and gives it back; nothing is changed.
func (k *checker) checkWritable(ctx context.Context) error {
	conn, err := k.d.SQL.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	if err == nil {
		_, err = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return err
	}
	if fault := classify(k.d.dialect, err); codeIs(fault, CodePermission) {
		k.fail(connectors.FindPrivilege, "", "", "the database file or its folder cannot be written", "Give Lethe's process write access to both.")
		return nil
	}
	return nil // somebody else is writing, so the file can be written
}

// need is what an entity's methods ask of the database user.
type need struct {
	table    *tableFacts
	entity   string
	rule     string // the deletion rule that needs it beside what requests need
	delete   bool
	updates  []string // columns
	anything bool     // UPDATE on some column, so that rows can be locked
}

// needs lists what the map's entities need, in the order of the map, each followed by what its deletion rules need beside
// that. A table that two entities share is listed twice.
func (k *checker) needs() []need {
	breaks := make(map[string][]string)
	leaf := make(map[string]bool)
	if m, err := newModel(k.d, k.c); err == nil {
		for _, e := range m.entities {
			breaks[e.Name] = columnNames(e.breaks)
			leaf[e.Name] = e.leaf && len(e.Minima(time.Time{})) == 0 // else its rows are read and locked
		}
	}
	var out []need
	for _, e := range k.entities {
		if e.table == nil || e.table.View {
			continue
		}
		n := need{table: e.facts, entity: e.Name, delete: deleted(e.Entity)}
		add := func(name string) {
			if c := columnOf(e.table, name); c != nil && !c.Generated && !slices.Contains(n.updates, name) {
				n.updates = append(n.updates, name)
			}
		}
		for where, masks := range e.allMasks() {
			if where == "mask" && n.delete {
				continue
			}
			for name := range masks {
				add(name)
			}
		}
		for _, name := range e.Mentions {
			add(name)
		}
		if n.delete {
			for _, name := range breaks[e.Name] {
				add(name)
			}
		}
		if !e.Subject { // an identifier is taken out of a row that belongs to somebody else
			for _, f := range e.Fields {
				if f.Identifier != "" && !slices.Contains(e.table.PrimaryKey, f.Name) {
					add(f.Name)
				}
			}
		}
		if n.delete && len(e.ownersApart())+len(e.Owns) > 1 { // a reference to an owner who went is emptied
			for _, o := range slices.Concat(e.OwnedBy, e.Owns) {
				for _, name := range o.Columns {
					if c := columnOf(e.table, name); c != nil && c.Nullable && !slices.Contains(e.table.PrimaryKey, name) {
						add(name)
					}
				}
			}
		}
		slices.Sort(n.updates)
		n.anything = !leaf[e.Name] && len(n.updates) == 0 && k.d.dialect.name == postgres
		out = append(append(out, n), k.needsOfRules(e, n, breaks[e.Name])...)
	}
	return out
}

// needsOfRules lists what the entity's rules need beside what requests need.
func (k *checker) needsOfRules(e *checked, base need, breaks []string) []need {
	var out []need
	for i := range e.Rules {
		r := &e.Rules[i]
		n := need{table: e.facts, entity: e.Name, rule: r.Name}
		var columns []string
		switch r.Action {
		case retention.Delete:
			if n.delete = !base.delete; n.delete {
				columns = breaks
			}
		case retention.Pseudonymise:
			columns = slices.Sorted(maps.Keys(r.Masks))
		default:
			continue
		}
		for _, name := range columns {
			if c := columnOf(e.table, name); c != nil && !c.Generated && !slices.Contains(base.updates, name) {
				n.updates = append(n.updates, name)
			}
		}
		n.anything = !base.anything && len(base.updates)+len(n.updates) == 0 && k.d.dialect.name == postgres
		if n.delete || n.anything || len(n.updates) > 0 {
			out = append(out, n)
		}
	}
	return out
}

// checkPrivileges reports what Lethe's user lacks.
func (k *checker) checkPrivileges(ctx context.Context) error {
	switch k.d.dialect.name {
	case postgres:
		return k.checkPostgresPrivileges(ctx)
	case mariadb:
		return k.checkMariaDBPrivileges(ctx)
	}
	return nil
}

func (k *checker) checkPostgresPrivileges(ctx context.Context) error {
	for _, n := range k.needs() {
		k.rule = n.rule
		if n.table.rowSecurity && n.rule == "" {
			k.fail(FindRowSecurity, n.entity, "", "row security applies to Lethe's user and may hide rows",
				"Give the user BYPASSRLS, or a policy that shows it every row.")
		}
		columns := n.updates
		if columns == nil {
			columns = []string{}
		}
		var usage, read, remove, lock bool
		var missing names
		err := each(ctx, k.d.SQL, `
SELECT has_schema_privilege(c.relnamespace, 'USAGE'), has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'DELETE'),
       has_any_column_privilege(c.oid, 'UPDATE'),
       (SELECT json_agg(u ORDER BY u)::text FROM unnest($2::text[]) AS u WHERE NOT has_column_privilege(c.oid, u, 'UPDATE'))
FROM pg_class c WHERE c.oid = $1`,
			[]any{n.table.oid, columns}, func(rows *sql.Rows) error {
				return rows.Scan(&usage, &read, &remove, &lock, &missing)
			})
		if err != nil {
			return err
		}
		if !usage && n.rule == "" {
			k.lacks(n.entity, "", "USAGE on the schema "+n.table.schema)
		}
		if !read && n.rule == "" {
			k.lacks(n.entity, "", "SELECT")
		}
		if n.delete && !remove {
			k.lacks(n.entity, "", "DELETE")
		}
		for _, c := range missing {
			k.lacks(n.entity, c, "UPDATE of the column")
		}
		if n.anything && !lock {
			k.lacks(n.entity, "", "UPDATE of any column, which locking a row takes")
		}
	}
	k.rule = ""
	return nil
}

func (k *checker) lacks(entity, column, what string) {
	k.fail(connectors.FindPrivilege, entity, column, "Lethe's database user lacks "+what, "Run `lethe grants` and give the user what it prints.")
}

func (k *checker) checkMariaDBPrivileges(ctx context.Context) error {
	has, err := k.mariaDBPrivileges(ctx)
	if err != nil {
		return err
	}
	for _, n := range k.needs() {
		k.rule = n.rule
		if n.rule == "" && !has(n.table, "SELECT", "") {
			k.lacks(n.entity, "", "SELECT")
		}
		if n.delete && !has(n.table, "DELETE", "") {
			k.lacks(n.entity, "", "DELETE")
		}
		for _, c := range n.updates {
			if !has(n.table, "UPDATE", c) {
				k.lacks(n.entity, c, "UPDATE of the column")
			}
		}
	}
	k.rule = ""
	return nil
}

// mariaDBPrivileges reads what the user was given: whether that is a privilege on a table or, with a column, on that.
func (k *checker) mariaDBPrivileges(ctx context.Context) (has func(t *tableFacts, privilege, column string) bool, err error) {
	var grants []grant
	err = each(ctx, k.d.SQL, "SHOW GRANTS", nil, func(rows *sql.Rows) error {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if g, ok := parseGrant(line); ok {
			grants = append(grants, g)
		}
		return nil
	})
	return func(t *tableFacts, privilege, column string) bool {
		return slices.ContainsFunc(grants, func(g grant) bool { return g.covers(t.schema, t.table, privilege, column) })
	}, err
}

// grant is one line of SHOW GRANTS.
type grant struct {
	privileges    map[string][]string // privilege -> columns; nil is every column
	schema, table string              // "*" is any; a schema may be a LIKE pattern
}

// parseGrant reads a line such as GRANT SELECT, UPDATE (`a`, `b`) ON `shop`.`orders` TO ….
func parseGrant(line string) (grant, bool) {
	rest, ok := strings.CutPrefix(line, "GRANT ")
	if !ok {
		return grant{}, false
	}
	what, rest, ok := strings.Cut(rest, " ON ")
	if !ok {
		return grant{}, false // a role
	}
	on, _, ok := strings.Cut(rest, " TO ")
	if !ok {
		return grant{}, false
	}
	g := grant{privileges: make(map[string][]string)}
	var parts []string
	for rest := on; rest != ""; {
		if rest[0] == '`' {
			end := endOfQuoted(rest, 0, '`')
			parts = append(parts, unquoted(rest, 0, end))
			rest = strings.TrimPrefix(rest[end:], ".")
			continue
		}
		part, after, _ := strings.Cut(rest, ".")
		parts, rest = append(parts, part), after
	}
	if len(parts) != 2 {
		return grant{}, false
	}
	g.schema, g.table = parts[0], parts[1]
	for what != "" {
		end := strings.IndexAny(what, ",(")
		if end < 0 {
			g.privileges[strings.TrimSpace(what)] = nil
			break
		}
		name := strings.TrimSpace(what[:end])
		var columns []string
		if what[end] == '(' {
			inside, after, ok := parenthesised(what, end)
			if !ok {
				return grant{}, false
			}
			columns = identifiersIn(inside)
			what = what[after:]
		} else {
			what = what[end:]
		}
		g.privileges[name] = columns
		what = strings.TrimPrefix(strings.TrimSpace(what), ",")
	}
	return g, true
}

// covers reports whether the grant gives a privilege on a table or, when column is not empty, on that column.
func (g grant) covers(schema, table, privilege, column string) bool {
	if g.table != "*" && g.table != table {
		return false
	}
	if g.schema != "*" && !like(g.schema, schema) {
		return false
	}
	if _, all := g.privileges["ALL PRIVILEGES"]; all {
		return true
	}
	columns, ok := g.privileges[privilege]
	return ok && (columns == nil || column != "" && slices.Contains(columns, column))
}

// like matches a name against a pattern with % and _ and backslash escapes, as MariaDB matches schemas.
func like(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	switch pattern[0] {
	case '%':
		for i := 0; i <= len(name); i++ {
			if like(pattern[1:], name[i:]) {
				return true
			}
		}
		return false
	case '_':
		return name != "" && like(pattern[1:], name[1:])
	case '\\':
		if len(pattern) > 1 {
			pattern = pattern[1:]
		}
	}
	return name != "" && name[0] == pattern[0] && like(pattern[1:], name[1:])
}
