package store

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm/schema"
)

// schemas caches how GORM maps the row types.
var schemas sync.Map

// updateBatch writes columns of many rows in one statement, matching by key; guard is a further condition on t (the
// table) and v (the new values, as column1, column2 … in the order of key and columns). check is given the number of
// rows that all of it changed.
//
//	UPDATE t SET a = v.column2 FROM (VALUES (?, ?), (?, ?)) AS v WHERE t.id = v.column1
func updateBatch[R schema.Tabler](
	t *tx, rows []R, key string, columns []string, guard string, check func(changed int64) error,
) error {
	var changed int64
	chunks := (len(rows) + batchSize - 1) / batchSize
	for chunk := range slices.Chunk(rows, batchSize) {
		chunks--
		last := chunks == 0
		sql, args, err := updateStatement(t, chunk, key, columns, guard)
		if err != nil {
			return err
		}
		err = t.write(func(n int64) error {
			changed += n
			if last {
				return check(changed)
			}
			return nil
		}, sql, args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// all is a check that every one of n rows was changed.
func all(n int, otherwise error) func(int64) error {
	return func(changed int64) error {
		if changed != int64(n) {
			return otherwise
		}
		return nil
	}
}

func updateStatement[R schema.Tabler](t *tx, rows []R, key string, columns []string, guard string) (string, []any, error) {
	mapping, err := schema.Parse(&rows[0], &schemas, schema.NamingStrategy{})
	if err != nil {
		return "", nil, typed(err)
	}
	fields := []*schema.Field{mapping.FieldsByDBName[key]}
	for _, c := range columns {
		fields = append(fields, mapping.FieldsByDBName[c])
	}
	var sql strings.Builder
	sql.WriteString("UPDATE " + mapping.Table + " AS t SET ")
	for i, c := range columns {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString(quote(c) + " = v." + position(i+2))
	}
	sql.WriteString(" FROM (VALUES ")
	args := make([]any, 0, len(rows)*len(fields))
	for i := range rows {
		row := reflect.ValueOf(&rows[i]).Elem()
		for j, f := range fields {
			switch {
			case j > 0:
				sql.WriteString(", ")
			case i > 0:
				sql.WriteString(", (")
			default:
				sql.WriteString("(")
			}
			if i == 0 && t.postgres {
				// The first row gives the columns of VALUES their types.
				sql.WriteString("CAST(? AS " + postgresType(f) + ")")
			} else {
				sql.WriteString("?")
			}
			value, _ := f.ValueOf(t.ctx, row)
			args = append(args, value)
		}
		sql.WriteString(")")
	}
	sql.WriteString(") AS v WHERE t." + quote(key) + " = v.column1" + guard)
	return sql.String(), args, nil
}

func quote(column string) string { return `"` + column + `"` }

func position(i int) string {
	const digits = "0123456789"
	if i < 10 {
		return "column" + digits[i:i+1]
	}
	return "column" + digits[i/10:i/10+1] + digits[i%10:i%10+1]
}

func postgresType(f *schema.Field) string {
	if f.Serializer != nil {
		return "jsonb"
	}
	switch f.DataType {
	case schema.Bool:
		return "boolean"
	case schema.Int, schema.Uint:
		return "bigint"
	case schema.Time:
		return "timestamptz"
	case schema.Bytes:
		return "bytea"
	}
	return "text"
}
