package sqldb

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Findings about deletion rules have the rule's name: they stop its sweeps and no request (ADR 8). Those about a statutory
// minimum that erasures must ask for have none, and stop both. What is wrong with a
// rule whose action is next is said of every rule that waits for it, because it has no sweeps of its own.

// eachRule calls fn for every rule that has sweeps and whose entity has a table, with the rules that it waits for. What is
// found meanwhile is about that rule.
func (k *checker) eachRule(fn func(e *checked, r *connectors.Rule, after []*connectors.Rule)) {
	defer func() { k.rule = "" }()
	for _, e := range k.entities {
		if e.table == nil || e.table.View {
			continue
		}
		var after []*connectors.Rule
		for i := range e.Rules {
			r := &e.Rules[i]
			if r.Action == retention.Next {
				after = append(after, r)
				continue
			}
			k.rule = r.Name
			fn(e, r, after)
		}
	}
}

// eachDeleter calls fn once when requests delete rows of the entity, else for each deletion rule that does.
func (k *checker) eachDeleter(e *checked, fn func()) {
	if k.deletes(e) {
		fn()
		return
	}
	defer func() { k.rule = "" }()
	for _, r := range e.Rules {
		if r.Action == retention.Delete {
			k.rule = r.Name
			fn()
		}
	}
}

// checkRules reports starting points, conditions and masks of deletion rules that do not fit their table, and starting
// points without an index.
func (k *checker) checkRules(ctx context.Context) error {
	var failed error
	k.eachRule(func(e *checked, r *connectors.Rule, after []*connectors.Rule) {
		for _, one := range append(slices.Clone(after), r) {
			if _, lawful := one.Class.Statutory(); lawful && e.Keep == nil {
				k.rule = "" // every erasure asks whether the minimum has ended
			}
			for _, w := range one.When {
				k.checkCondition(e, w)
			}
			k.checkStart(e, one)
			k.rule = r.Name
			k.checkNullStart(e, one)
		}
		for _, name := range slices.Sorted(maps.Keys(r.Masks)) {
			if c := k.column(e, name, "a rule's mask"); c != nil {
				k.checkMask(ctx, e, c, r.Masks, "the rule's mask")
			}
		}
		if r.Action == retention.Delete {
			k.checkBlocked(e)
		}
		if err := k.checkStartIndex(ctx, e, r, after); err != nil && failed == nil {
			failed = err
		}
	})
	return failed
}

// checkCondition reports a condition that no row can meet: its rule would never find anything due, or fail.
func (k *checker) checkCondition(e *checked, w dsr.Condition) {
	c := k.column(e, w.Field, "a rule's when")
	switch {
	case c == nil:
	case len(w.Values) > 0 && !c.Comparable():
		k.fail(FindConditionValue, e.Name, w.Field, fmt.Sprintf("a rule's when cannot compare values of type %s", c.Type), "Use null or not_null.")
	case slices.ContainsFunc(w.Values, func(v string) bool { return !c.Takes(v) }):
		hint := "Correct the value."
		if len(c.Enum) > 0 {
			hint = "Write one of " + strings.Join(c.Enum, ", ") + "."
		}
		k.fail(FindConditionValue, e.Name, w.Field, fmt.Sprintf("a rule's when has a value that a column of type %s cannot hold", c.Type), hint)
	}
}

// checkStart reports a starting point that cannot be compared with a day.
func (k *checker) checkStart(e *checked, r *connectors.Rule) {
	for _, name := range []string{r.Start.Field, r.Start.NullField} {
		if name != "" {
			k.startColumn(e, name)
		}
	}
	for _, l := range r.Start.Latest {
		if to := k.byName[l.Entity]; to != nil && to.table != nil { // else the map is refused, or the table reported
			k.startColumn(to, l.Field)
		}
	}
}

// checkNullStart reports a starting point that may be NULL without a meaning.
func (k *checker) checkNullStart(e *checked, r *connectors.Rule) {
	s := &r.Start
	if c := columnOf(e.table, s.Field); c != nil && c.Nullable && s.Null == "" && !slices.Contains(e.table.PrimaryKey, s.Field) &&
		!present(r.When, s.Field) {
		k.fail(FindNullStart, e.Name, s.Field, "the start may be NULL, and the rule does not say what that means",
			"Write if_null: keep (not yet started), due (at once), or {field: …}; or make the column NOT NULL.")
	}
	for _, l := range s.Latest {
		to := k.byName[l.Entity]
		if to == nil || to.table == nil {
			continue
		}
		if c := columnOf(to.table, l.Field); c != nil && c.Nullable && !slices.Contains(to.table.PrimaryKey, l.Field) {
			k.warn(FindNullStart, to.Name, l.Field, fmt.Sprintf("a row of %s stays for as long as this is NULL in a row of its own", e.Name),
				"Make the column NOT NULL, or let the rule start at one that is.")
		}
	}
}

// checkBlocked reports what a rule that deletes rows of the entity never gets at: a row that belongs to one, directly or
// through others, and that the map masks and no rule deletes. What a request would meet as well is an error already.
func (k *checker) checkBlocked(e *checked) {
	family := []*checked{e}
	for i := 0; i < len(family); i++ {
		to := family[i]
		for _, c := range k.entities {
			for _, o := range slices.Concat(c.OwnedBy, c.Owns) {
				switch {
				case o.Entity != to.Name || c.table == nil || slices.Contains(family, c):
				case deleted(c.Entity):
					family = append(family, c)
				case c.Keep == nil && !nulled(c, o) && !ends(c) && (!k.deletes(to) || len(to.Anchor) > 0):
					k.warn(FindBlockedRule, c.Name, strings.Join(o.Columns, ", "),
						fmt.Sprintf("the row is masked and stays, so the rule never deletes the row of %s that it refers to", to.Name),
						fmt.Sprintf("Give %s a deletion rule of its own, or mask the reference with null.", c.Name))
				}
			}
		}
	}
}

// ends reports whether a rule deletes rows of the entity.
func ends(e *checked) bool {
	return slices.ContainsFunc(e.Rules, func(r connectors.Rule) bool { return r.Action == retention.Delete })
}

// checkStarts reports text that is no date, and numbers that are milliseconds, where a rule starts: the first rows in the order of the text are looked at.
func (k *checker) checkStarts(ctx context.Context, u *sweepRule) error {
	cols := u.textual()
	if len(cols) == 0 {
		return nil
	}
	s, release, err := k.d.reader(ctx)
	if err != nil {
		return err
	}
	defer release()
	for _, c := range cols {
		n, err := u.start.unread(ctx, s, k.d, c, countLimit)
		if err != nil {
			return err
		}
		if n > 0 {
			k.warn(string(connectors.CodeStart), c.e.Name, c.col.Name, fmt.Sprintf("in %d rows the rule's start is no date, or no seconds since 1970: they stay, and every sweep fails for them", n),
				"Correct the rows, or let the rule start elsewhere.")
		}
	}
	return nil
}

// startColumn reports a starting point that is missing or of another type.
func (k *checker) startColumn(e *checked, name string) {
	if c := k.column(e, name, "a rule's start"); c != nil && !startClass(c.Class) {
		k.fail(FindStartType, e.Name, name, fmt.Sprintf("a rule cannot start at a column of type %s", c.Type),
			"Start at a date, a time, ISO 8601 text or whole seconds since 1970.")
	}
}

// present reports whether the conditions leave out rows where a column is NULL.
func present(when []dsr.Condition, column string) bool {
	return slices.ContainsFunc(when, func(w dsr.Condition) bool { return w.Field == column && !w.Null })
}

// checkStartIndex reports a starting point that no index serves. A table from which whole partitions are dropped needs
// none; rules that start with related rows only read the whole table once, along its key.
func (k *checker) checkStartIndex(ctx context.Context, e *checked, r *connectors.Rule, after []*connectors.Rule) error {
	c := columnOf(e.table, r.Start.Field)
	if c == nil || !startClass(c.Class) || k.startIndexed(ctx, e, r, e.table) {
		return nil
	}
	hint := k.createIndex(e, append(k.tied(e, r, 1), c.Name))
	if k.dropsPartitions(e, r, c, after) {
		ranged, may, err := k.rangedBy(ctx, e, c)
		switch {
		case err != nil || ranged && may:
			return err
		case ranged && k.d.dialect.name == postgres:
			hint += "; or let Lethe's user own the table and its partitions, which can then be dropped whole"
		case ranged:
			hint += "; or give Lethe's user ALTER, DROP and LOCK TABLES, so that partitions can be dropped whole"
		}
	}
	k.add(FindUnindexedStart, k.costly(e.table), e.Name, c.Name, "no index serves the rule's start: a sweep reads the whole table over and over", hint)
	return nil
}

// dropsPartitions reports whether the rule may drop partitions of the entity: its outcome is the same for all rows of one,
// and nothing else would have to learn that they go. See [sweepRule.partitionable].
func (k *checker) dropsPartitions(e *checked, r *connectors.Rule, start *connectors.Column, after []*connectors.Rule) bool {
	if r.Action != retention.Delete || len(r.Start.Latest)+len(r.When)+len(after)+len(e.Owns)+e.table.Triggers > 0 ||
		start.Class == connectors.ClassText {
		return false
	}
	return !slices.ContainsFunc(k.c.schema.Entities, func(t connectors.EntitySchema) bool {
		return slices.ContainsFunc(t.References, func(r connectors.Reference) bool { return r.Entity == e.table.Name })
	})
}

// costly is the Severity of what reads a table as a whole: from countLimit rows on that is a disaster.
func (k *checker) costly(t *connectors.EntitySchema) connectors.Severity {
	if t.Rows >= countLimit {
		return connectors.Error
	}
	return connectors.Warning
}

// rangedBy reports whether the table is partitioned by range on the column, and whether Lethe's user may drop partitions.
// The ways of partitioning are those of [sweepRule.duePostgres] and [sweepRule.dueMariaDB].
func (k *checker) rangedBy(ctx context.Context, e *checked, c *connectors.Column) (ranged, may bool, err error) {
	if k.d.dialect.name == sqlite {
		return false, false, nil
	}
	r, release, err := k.d.reader(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	if k.d.dialect.name == postgres {
		q := k.d.dialect.statement(`SELECT (pg_has_role(c.relowner, 'USAGE') AND NOT EXISTS (SELECT 1 FROM pg_inherits i
JOIN pg_class part ON part.oid = i.inhrelid WHERE i.inhparent = c.oid AND NOT pg_has_role(part.relowner, 'USAGE')))::text
FROM pg_partitioned_table t JOIN pg_class c ON c.oid = t.partrelid
JOIN pg_attribute a ON a.attrelid = t.partrelid AND a.attnum = t.partattrs[0]
WHERE current_setting('server_version_num')::int >= 140000 AND NOT EXISTS (SELECT 1 FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname WHERE n.oid = c.relnamespace AND p.tablename = c.relname)
AND t.partstrat = 'r' AND t.partnatts = 1 AND t.partrelid = `).arg(int64(e.facts.oid)).add("::bigint::oid AND a.attname = ").arg(c.Name).add("::text")
		err := r.run(ctx, q.call(func(v [][]byte) error {
			ranged, may = true, string(v[0]) == "true"
			return nil
		}))
		return ranged, may, err
	}
	q := k.d.dialect.statement(`SELECT DISTINCT partition_expression FROM information_schema.partitions
WHERE partition_method LIKE 'RANGE%' AND table_schema = `).arg(e.facts.schema).add(" AND table_name = ").arg(e.facts.table)
	name := strings.ToLower(c.Name)
	err = r.run(ctx, q.call(func(v [][]byte) error {
		switch strings.NewReplacer("`", "", " ", "").Replace(strings.ToLower(string(v[0]))) {
		case name, "to_days(" + name + ")", "to_seconds(" + name + ")", "year(" + name + ")", "unix_timestamp(" + name + ")":
			ranged = true
		}
		return nil
	}))
	if err != nil || !ranged {
		return false, false, err
	}
	has, err := k.mariaDBPrivileges(ctx)
	if err != nil {
		return false, false, err
	}
	return true, has(e.facts, "ALTER", "") && has(e.facts, "DROP", "") && has(e.facts, "LOCK TABLES", ""), nil
}
