package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// checkTables reports entities whose table is missing or is not one that rows can be deleted from.
func (k *checker) checkTables() {
	var tables []string
	for _, t := range k.c.schema.Entities {
		tables = append(tables, t.Name)
	}
	for _, e := range k.entities {
		if e.table == nil {
			k.fail(connectors.FindUnknownTable, e.Name, "", fmt.Sprintf("the database has no table %s", e.From()),
				nearest(e.From(), tables, "Remove the entity, or name the table with `table:`."))
			continue
		}
		if e.table.View {
			k.fail(FindViewMapped, e.Name, "", "the entity is a view", "Map the tables that the view reads instead.")
			continue
		}
		if e.table.Partition {
			k.warn(FindPartitionMapped, e.Name, "", "the entity is a partition; rows of other partitions are not covered by it",
				fmt.Sprintf("Map %s instead: it reaches all partitions.", e.facts.parent))
		}
		if k.d.System.TenantName != "" && e.Tenant == "" && !e.Shared {
			k.fail(FindTenantColumn, e.Name, "", "the map has tenants and the entity has no tenant column",
				"Name the column with `tenant:`, or say `shared: true` when its rows belong to no tenant.")
		}
		k.checkKey(e)
		if engine := strings.ToLower(e.facts.engine); engine != "" && engine != "innodb" {
			k.fail(FindNotTransactional, e.Name, "", fmt.Sprintf("the storage engine %s ignores transactions", e.facts.engine),
				fmt.Sprintf("ALTER TABLE %s ENGINE=InnoDB", e.From()))
		}
		if e.table.Triggers > 0 {
			k.warn(FindTrigger, e.Name, "", fmt.Sprintf("%d triggers run on this table", e.table.Triggers),
				"Make sure that none copies personal data elsewhere or refuses a deletion.")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.d.System.Ignored)) {
		if t, _ := findTable(k.c, name); t == nil {
			k.warn(FindStaleIgnore, name, "", "the map ignores a table that is not there", nearest(name, tables, "Remove it from ignore."))
		}
	}
}

func (k *checker) checkKey(e *checked) {
	if len(e.table.PrimaryKey) > 0 {
		return
	}
	for _, u := range e.table.Unique {
		if !slices.ContainsFunc(u, func(name string) bool { c := columnOf(e.table, name); return c == nil || c.Nullable }) {
			return
		}
	}
	// PostgreSQL and SQLite address such rows by their place, which is good enough within one transaction.
	severity := connectors.Warning
	if k.d.dialect.name == mariadb {
		severity = connectors.Error
	}
	k.add(FindNoPrimaryKey, severity, e.Name, "", "the table has neither a primary key nor a unique key without NULL",
		"Give the table a primary key: its rows cannot be told apart.")
}

// column reports a name of the map that is no column of e, and returns the column or nil.
func (k *checker) column(e *checked, name, where string) *connectors.Column {
	if c := columnOf(e.table, name); c != nil {
		return c
	}
	var all []string
	for _, c := range e.table.Columns {
		all = append(all, c.Name)
	}
	if parts := splitNames(name); len(parts) > 1 && !slices.ContainsFunc(parts, func(p string) bool { return !slices.Contains(all, p) }) {
		k.fail(FindCompositeAsText, e.Name, name, fmt.Sprintf("%s has several column names in one text", where),
			fmt.Sprintf("Write them as a list: columns: [%s].", strings.Join(parts, ", ")))
		return nil
	}
	k.fail(connectors.FindUnknownColumn, e.Name, name, fmt.Sprintf("%s names a column that %s does not have", where, e.From()),
		nearest(name, all, "Remove it from the map."))
	return nil
}

func splitNames(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '+' || r == '(' || r == ')' })
}

// checkColumns reports names that are no columns, columns that the map says nothing about, and identifiers that a
// column cannot hold.
func (k *checker) checkColumns() {
	for _, e := range k.entities {
		if e.table == nil {
			continue
		}
		mapped := k.mappedColumns(e)
		for _, c := range e.table.Columns {
			if mapped[c.Name] || e.table.View {
				continue
			}
			severity := connectors.Error
			hint := "Add it to fields or mentions, or to not_personal after looking at it."
			if c.Generated {
				severity = connectors.Warning // it changes with the columns that it is made from
			}
			message := "the map says nothing about this column"
			if g, ok := connectors.GuessPersonal(c); ok {
				message = fmt.Sprintf("the map says nothing about this column, which looks like %s", g.Category)
			}
			k.add(FindUnmappedColumn, severity, e.Name, c.Name, message, hint)
		}
		for _, f := range e.Fields {
			if c := columnOf(e.table, f.Name); c != nil && f.Identifier != "" {
				k.checkIdentifier(e, c, f)
			}
		}
	}
}

// mappedColumns returns the columns that the map speaks of, and reports names that are none.
func (k *checker) mappedColumns(e *checked) map[string]bool {
	mapped := make(map[string]bool)
	note := func(name, where string) {
		if name != "" && k.column(e, name, where) != nil {
			mapped[name] = true
		}
	}
	for _, f := range e.Fields {
		note(f.Name, "fields")
	}
	for _, name := range e.NotPersonal {
		note(name, "not_personal")
	}
	for _, name := range e.Mentions {
		note(name, "mentions")
	}
	note(e.Tenant, "tenant")
	for where, owners := range map[string][]connectors.Owner{"owned_by": e.OwnedBy, "accessed_by": e.AccessedBy, "owns": e.Owns} {
		for _, o := range owners {
			for _, name := range o.Columns {
				note(name, where)
			}
			if o.When != nil {
				note(o.When.Column, where)
			}
		}
	}
	for where, masks := range e.allMasks() {
		for name := range masks {
			note(name, where)
		}
	}
	for name := range e.ExportMask {
		note(name, "mask_export")
	}
	for _, name := range e.table.PrimaryKey {
		mapped[name] = true
	}
	return mapped
}

// allMasks returns the masks that an erasure may apply, by the key of the map that declares them.
func (e *checked) allMasks() map[string]map[string]mask.Spec {
	all := map[string]map[string]mask.Spec{"mask": e.Masks, "anchor": e.Anchor}
	for column, masks := range e.OnOwnerErased {
		all["on_owner_erased."+column] = masks
	}
	return all
}

func (k *checker) checkIdentifier(e *checked, c *connectors.Column, f connectors.Field) {
	kind := k.d.System.Identifiers[f.Identifier]
	fits := map[dsr.IdentifierKind][]connectors.ColumnClass{
		dsr.KindEmail:   {connectors.ClassText},
		dsr.KindPhone:   {connectors.ClassText, connectors.ClassInteger, connectors.ClassNumber},
		dsr.KindUUID:    {connectors.ClassText, connectors.ClassUUID, connectors.ClassBinary},
		dsr.KindIP:      {connectors.ClassText, connectors.ClassIP},
		dsr.KindInteger: {connectors.ClassText, connectors.ClassInteger, connectors.ClassNumber},
	}[kind]
	anyKind := []connectors.ColumnClass{connectors.ClassJSON, connectors.ClassArray, connectors.ClassOther}
	if fits != nil && !slices.Contains(fits, c.Class) && !slices.Contains(anyKind, c.Class) {
		k.fail(FindIdentifierType, e.Name, c.Name,
			fmt.Sprintf("a column of type %s cannot hold the %s %s", c.Type, kind, f.Identifier),
			"Correct the field's identifier, or the identifier's kind.")
		return
	}
	if k.indexed(e.table, []string{c.Name}) || slices.Contains(anyKind, c.Class) ||
		slices.ContainsFunc(e.facts.expressions, func(x string) bool { return slices.Contains(identifiersIn(x), c.Name) }) {
		return
	}
	k.warn(FindUnindexedIdentifier, e.Name, c.Name, "every search for this identifier reads the whole table", k.createIndex(e, []string{c.Name}))
}

// quoted writes a table's name as SQL.
func (k *checker) quoted(f *tableFacts) string {
	if f.schema == "" {
		return k.d.dialect.quote(f.table)
	}
	return k.d.dialect.quote(f.schema) + "." + k.d.dialect.quote(f.table)
}

// checkReferences reports references that point at the wrong place, whose ends cannot be compared, or that no index
// serves.
func (k *checker) checkReferences() {
	for _, e := range k.entities {
		if e.table == nil {
			continue
		}
		for _, o := range slices.Concat(e.OwnedBy, e.AccessedBy, e.Owns) {
			k.checkReference(e, o)
		}
		for _, r := range e.table.References {
			to := k.byTable[r.Entity]
			if to == nil || e.declares(to.Name, r.Columns) {
				continue
			}
			k.eachDeleter(to, func() {
				k.fail(FindUndeclaredReference, e.Name, strings.Join(r.Columns, ", "),
					fmt.Sprintf("the column refers to %s, which the map does not say", to.Name),
					"Declare it under owned_by or accessed_by: rows that it points at cannot be deleted otherwise.")
			})
		}
	}
}

// declares reports whether the map has a reference of these columns to an entity.
func (e *checked) declares(entity string, columns []string) bool {
	for _, o := range slices.Concat(e.OwnedBy, e.AccessedBy, e.Owns) {
		if o.Entity == entity && sameSet(o.Columns, columns) {
			return true
		}
	}
	return false
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func (k *checker) checkReference(e *checked, o connectors.Owner) {
	field := strings.Join(o.Columns, ", ")
	to := k.byName[o.Entity]
	if to == nil {
		k.fail(FindWrongReference, e.Name, field, fmt.Sprintf("refers to %s, which is no entity of this system", o.Entity),
			nearest(o.Entity, slices.Collect(maps.Keys(k.byName)), "Map the table, or correct the name."))
		return
	}
	if to.table == nil || slices.ContainsFunc(o.Columns, func(name string) bool { return columnOf(e.table, name) == nil }) {
		return // reported already
	}
	target := o.References
	if len(target) == 0 {
		target = to.table.PrimaryKey
	}
	if len(target) != len(o.Columns) {
		k.fail(FindWrongReference, e.Name, field,
			fmt.Sprintf("%d columns refer to the %d columns of %s's key", len(o.Columns), len(target), to.Name),
			fmt.Sprintf("Write a list: {columns: [...], entity: %s, references: [%s]}.", to.Name, strings.Join(target, ", ")))
		return
	}
	for i, name := range target {
		tc := columnOf(to.table, name)
		if tc == nil {
			k.column(to, name, "references")
			return
		}
		c := columnOf(e.table, o.Columns[i])
		if !comparable2(c.Class, tc.Class) {
			k.fail(FindReferenceType, e.Name, c.Name,
				fmt.Sprintf("a column of type %s cannot refer to %s.%s of type %s", c.Type, to.Name, tc.Name, tc.Type),
				"Name the referenced columns with `references:`.")
		}
	}
	if o.When == nil {
		for _, r := range e.table.References {
			if sameSet(r.Columns, o.Columns) && r.Entity != to.table.Name && !k.fkAlso(e, o, to) {
				k.fail(FindWrongReference, e.Name, field, fmt.Sprintf("the foreign key refers to %s, the map says %s", r.Entity, to.Name),
					"Correct the entity that the reference names.")
			}
		}
	}
	if !k.indexedReference(e.table, &o) {
		k.fail(FindUnindexedReference, e.Name, field, "no index serves this reference: every erasure reads the whole table",
			k.createIndex(e, o.Columns))
	}
}

// fkAlso reports whether another foreign key of the same columns confirms the map.
func (k *checker) fkAlso(e *checked, o connectors.Owner, to *checked) bool {
	return slices.ContainsFunc(e.table.References, func(r connectors.Reference) bool {
		return sameSet(r.Columns, o.Columns) && r.Entity == to.table.Name
	})
}

// comparable2 reports whether a column can hold the keys of another: text holds any key.
func comparable2(child, parent connectors.ColumnClass) bool {
	group := func(c connectors.ColumnClass) connectors.ColumnClass {
		if c == connectors.ClassNumber {
			return connectors.ClassInteger
		}
		return c
	}
	return group(child) == group(parent) || child == connectors.ClassText || child == connectors.ClassOther ||
		child == connectors.ClassArray
}

// deleted reports whether an erasure deletes rows of the entity.
func deleted(e *connectors.Entity) bool {
	return e.Keep == nil && (e.Erase == dsr.Delete || e.Erase == "")
}

// deletes reports whether rows of the entity are ever deleted: an entity that is only accessed is not.
func (k *checker) deletes(e *checked) bool { return deleted(e.Entity) && k.owned[e] }

// checkDiscriminators reports polymorphic references with types that the map does not list. It names no type, since
// these are values.
func (k *checker) checkDiscriminators(ctx context.Context) error {
	for _, e := range k.entities {
		if e.table == nil || e.table.View {
			continue
		}
		known := make(map[string][]string) // discriminator column -> values
		columns := make(map[string]string) // discriminator column -> referring columns
		for _, o := range slices.Concat(e.OwnedBy, e.AccessedBy, e.Owns) {
			if o.When != nil && columnOf(e.table, o.When.Column) != nil {
				known[o.When.Column] = append(known[o.When.Column], o.When.Value)
				columns[o.When.Column] = strings.Join(o.Columns, ", ")
			}
		}
		for _, column := range slices.Sorted(maps.Keys(known)) {
			s := k.d.dialect.statement("SELECT count(*) FROM (SELECT 1 FROM ", k.quoted(e.facts), " WHERE ")
			name := k.d.dialect.quote(column)
			if k.d.dialect.name == postgres {
				name += "::text"
			}
			s.add(name, " NOT IN (")
			for i, v := range known[column] {
				if i > 0 {
					s.add(", ")
				}
				s.arg(v)
			}
			s.add(") LIMIT 1) t")
			var rows int64
			err := each(ctx, k.d.SQL, s.sb.String(), s.args, func(r *sql.Rows) error { return r.Scan(&rows) })
			switch {
			case err != nil && ctx.Err() != nil:
				return err
			case err != nil:
				continue // without the privilege to read, which is reported, or too slow to tell
			case rows > 0:
				k.fail(FindUnknownDiscriminator, e.Name, column,
					fmt.Sprintf("%s refers by a type that the map does not list", columns[column]),
					"List every type of the reference, with the entity that it means.")
			}
		}
	}
	return nil
}
