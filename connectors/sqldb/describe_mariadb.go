package sqldb

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
)

// MariaDB's catalogue is information_schema. Only the connection's own database and those that the map names are
// read: a server may hold hundreds of others. JSON columns are LONGTEXT with a json_valid check, so checks are read
// before columns. MySQL answers the same queries but for check_constraints, which lack the table's name there.
const (
	myTables = `
SELECT t.table_schema, t.table_name, t.table_type, coalesce(t.engine, ''), coalesce(t.table_rows, 0),
       coalesce(t.data_length, 0) + coalesce(t.index_length, 0), DATABASE(),
       (SELECT count(*) FROM information_schema.triggers g
        WHERE g.event_object_schema = t.table_schema AND g.event_object_table = t.table_name)
FROM information_schema.tables t
WHERE t.table_schema IN (`

	myColumns = `
SELECT table_schema, table_name, column_name, data_type, column_type, is_nullable = 'YES',
       extra LIKE '%GENERATED%', coalesce(character_maximum_length, 0), column_comment
FROM information_schema.columns WHERE table_schema IN (`

	myIndexes = `
SELECT table_schema, table_name, index_name, non_unique = 0, coalesce(column_name, ''), coalesce(sub_part, 0), index_type = 'BTREE'
FROM information_schema.statistics WHERE table_schema IN (`

	myReferences = `
SELECT k.table_schema, k.table_name, k.constraint_name, k.column_name, k.referenced_table_schema,
       k.referenced_table_name, k.referenced_column_name, r.delete_rule
FROM information_schema.key_column_usage k
JOIN information_schema.referential_constraints r
  ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name
WHERE k.referenced_table_name IS NOT NULL AND k.table_schema IN (`

	myChecks = `
SELECT constraint_schema, table_name, check_clause
FROM information_schema.check_constraints WHERE constraint_schema IN (`
)

// myTable is one table while its description is put together.
type myTable struct {
	entity connectors.EntitySchema
	facts  *tableFacts
}

// readMariaDB describes the tables and views of the connection's database and of the schemas named.
func readMariaDB(ctx context.Context, q querier, schemas []string) (*catalogue, error) {
	in := "DATABASE()" + strings.Repeat(", ?", len(schemas)) + ")"
	args := make([]any, len(schemas))
	for i, s := range schemas {
		args[i] = s
	}
	tables := make(map[[2]string]*myTable)
	var order []*myTable
	err := each(ctx, q, myTables+in, args, func(rows *sql.Rows) error {
		t := &myTable{facts: &tableFacts{}}
		var kind string
		var defaultSchema sql.NullString
		e, f := &t.entity, t.facts
		if err := rows.Scan(&f.schema, &f.table, &kind, &f.engine, &e.Rows, &e.Bytes, &defaultSchema, &e.Triggers); err != nil {
			return err
		}
		if kind == "SEQUENCE" {
			return nil
		}
		e.Name = entityName(f.schema, f.table, defaultSchema.String)
		e.View = strings.Contains(kind, "VIEW")
		tables[[2]string{f.schema, f.table}], order = t, append(order, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, q, myChecks+in+" ORDER BY constraint_name", args, func(rows *sql.Rows) error {
		var schema, table, clause string
		if err := rows.Scan(&schema, &table, &clause); err != nil {
			return err
		}
		if t := tables[[2]string{schema, table}]; t != nil {
			t.facts.checks = append(t.facts.checks, clause)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, q, myColumns+in+" ORDER BY table_schema, table_name, ordinal_position", args, func(rows *sql.Rows) error {
		var schema, table, base string
		var length int64
		var c connectors.Column
		if err := rows.Scan(&schema, &table, &c.Name, &base, &c.Type, &c.Nullable, &c.Generated, &length, &c.Comment); err != nil {
			return err
		}
		t := tables[[2]string{schema, table}]
		if t == nil {
			return nil
		}
		json := slices.Contains(t.facts.checks, "json_valid(`"+strings.ReplaceAll(c.Name, "`", "``")+"`)")
		c.Class = myClass(base, c.Type, json)
		if base == "char" || base == "varchar" {
			c.MaxLen = int(length)
		}
		if base == "enum" {
			c.Enum = quotedList(c.Type)
		}
		c.HasText = mayHoldText(c.Class, c.MaxLen, false)
		t.entity.Columns = append(t.entity.Columns, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := readMariaDBIndexes(ctx, q, myIndexes+in+" ORDER BY table_schema, table_name, index_name, seq_in_index", args,
		tables); err != nil {
		return nil, err
	}
	if err := readMariaDBReferences(ctx, q, myReferences+in+
		" ORDER BY k.table_schema, k.table_name, k.constraint_name, k.ordinal_position", args, tables); err != nil {
		return nil, err
	}
	c := new(catalogue)
	for _, t := range order {
		c.add(t.entity, t.facts)
	}
	c.finish()
	return c, nil
}

// myClass maps MariaDB's and MySQL's types to classes; tinyint(1) is how both spell a truth value.
func myClass(base, full string, json bool) connectors.ColumnClass {
	switch base {
	case "tinyint":
		if strings.HasPrefix(full, "tinyint(1)") {
			return connectors.ClassBool
		}
		return connectors.ClassInteger
	case "smallint", "mediumint", "int", "bigint", "year":
		return connectors.ClassInteger
	case "decimal", "float", "double":
		return connectors.ClassNumber
	case "date":
		return connectors.ClassDate
	case "datetime", "timestamp":
		return connectors.ClassTime
	case "uuid":
		return connectors.ClassUUID
	case "json":
		return connectors.ClassJSON
	case "inet4", "inet6":
		return connectors.ClassIP
	case "enum":
		return connectors.ClassEnum
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return connectors.ClassBinary
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		if json {
			return connectors.ClassJSON
		}
		return connectors.ClassText
	}
	return connectors.ClassOther
}

// quotedList returns the strings of a type such as enum('a','b').
func quotedList(typ string) []string {
	var out []string
	for i := 0; i < len(typ); {
		if typ[i] != '\'' {
			i++
			continue
		}
		end := endOfQuoted(typ, i, '\'')
		out = append(out, unquoted(typ, i, end))
		i = end
	}
	return out
}

func readMariaDBIndexes(ctx context.Context, q querier, query string, args []any, tables map[[2]string]*myTable) error {
	type index struct {
		name    string
		unique  bool
		columns []string
		loose   bool // on a prefix or an expression
		ordered []string
		ends    bool // nothing is added to ordered any more
	}
	all := make(map[*myTable][]*index)
	err := each(ctx, q, query, args, func(rows *sql.Rows) error {
		var schema, table, name, column string
		var unique, ordered bool
		var prefix int
		if err := rows.Scan(&schema, &table, &name, &unique, &column, &prefix, &ordered); err != nil {
			return err
		}
		t := tables[[2]string{schema, table}]
		if t == nil {
			return nil
		}
		list := all[t]
		if len(list) == 0 || list[len(list)-1].name != name {
			list = append(list, &index{name: name, unique: unique})
			all[t] = list
		}
		i := list[len(list)-1]
		i.columns = append(i.columns, column)
		i.loose = i.loose || prefix > 0 || column == ""
		if i.ends = i.ends || !ordered || column == "" || prefix > 0 && prefix < len(time.DateOnly); !i.ends {
			i.ordered = append(i.ordered, column) // a prefix that holds a date bounds what is read
		}
		return nil
	})
	if err != nil {
		return err
	}
	for t, list := range all {
		for _, i := range list {
			switch {
			case i.name == "PRIMARY":
				t.entity.PrimaryKey = i.columns
			case i.unique && i.loose:
				t.facts.looseUnique = append(t.facts.looseUnique, i.columns)
			case i.unique:
				t.entity.Unique = append(t.entity.Unique, i.columns)
			}
			if len(i.ordered) > 0 {
				t.facts.ordered = append(t.facts.ordered, orderedIndex{columns: i.ordered})
			}
			if !slices.Contains(i.columns, "") {
				t.entity.Indexes = append(t.entity.Indexes, i.columns)
			}
		}
	}
	return nil
}

func readMariaDBReferences(ctx context.Context, q querier, query string, args []any, tables map[[2]string]*myTable) error {
	return each(ctx, q, query, args, func(rows *sql.Rows) error {
		var schema, table, name, column, toSchema, toTable, toColumn, rule string
		if err := rows.Scan(&schema, &table, &name, &column, &toSchema, &toTable, &toColumn, &rule); err != nil {
			return err
		}
		t := tables[[2]string{schema, table}]
		if t == nil {
			return nil
		}
		refs := t.entity.References
		if len(refs) == 0 || refs[len(refs)-1].Name != name {
			target := toSchema + "." + toTable
			if to := tables[[2]string{toSchema, toTable}]; to != nil {
				target = to.entity.Name
			}
			refs = append(refs, connectors.Reference{Name: name, Entity: target, OnDelete: strings.ToLower(rule)})
		}
		r := &refs[len(refs)-1]
		r.Columns, r.References = append(r.Columns, column), append(r.References, toColumn)
		t.entity.References = refs
		return nil
	})
}
