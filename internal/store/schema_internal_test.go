package store

import (
	"database/sql"
	"reflect"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// rowTypes are all of them; a table without one is found by the test.
func rowTypes() []schema.Tabler {
	return []schema.Tabler{
		requestRow{},
		identifierRow{},
		dataKeyRow{},
		eventRow{},
		planRow{},
		taskRow{},
		runRow{},
		tallyRow{},
		spoolRow{},
		leafRow{},
		suppressionRow{},
		mapRow{},
		packageRow{},
		linkRow{},
		scheduleRow{},
		principalRow{},
		keyRow{},
		failureRow{},
		idempotencyRow{},
		holdRow{},
		holdIdentifierRow{},
		sweepRow{},
		sweepTallyRow{},
		ruleStateRow{},
		stopRow{},
	}
}

// The migrations and the row types say the same: every column of a table is a field and the other way round, and a
// column that may be null is read into a field that can hold it.
func TestMigratedSchemaMatchesTheRowTypes(t *testing.T) {
	t.Parallel()
	const postgresColumns = `SELECT table_name, column_name, is_nullable = 'YES' FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name NOT LIKE 'river%' AND table_name <> 'lethe_migrations'`
	const sqliteColumns = `SELECT m.name, c.name, c."notnull" = 0 AND c.pk = 0
		FROM sqlite_schema m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'river%' AND m.name NOT LIKE 'sqlite%' AND m.name <> 'lethe_migrations'`
	for name, c := range map[string]struct {
		fresh func(testing.TB) string
		query string
	}{"postgres": {dbtest.Postgres, postgresColumns}, "sqlite": {dbtest.SQLite, sqliteColumns}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Open(t.Context(), c.fresh(t), Options{})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			require.NoError(t, s.Migrate(t.Context()))
			require.Empty(t, cmp.Diff(fieldsOf(t), columnsOf(t, s.sql, c.query)))
		})
	}
}

// fieldsOf maps "table.column" to whether the field can hold null.
func fieldsOf(t *testing.T) map[string]bool {
	all := map[string]bool{}
	for _, row := range rowTypes() {
		mapping, err := schema.Parse(row, &sync.Map{}, schema.NamingStrategy{})
		require.NoError(t, err)
		for _, f := range mapping.Fields {
			column := mapping.Table + "." + f.DBName
			all[column] = f.FieldType.Kind() == reflect.Pointer || mayBeNull[column]
		}
	}
	return all
}

// mayBeNull are the columns whose nil slice or map is stored as null.
var mayBeNull = map[string]bool{
	"identifiers.ciphertext": true, "events.detail": true, "tasks.residue": true, "runs.checkpoint": true,
	"suppressions.systems": true, "api_keys.roles": true, "api_keys.tenants": true, "idempotency.answer": true,
	"holds.conditions": true, "holds.data_key": true, "hold_identifiers.ciphertext": true, "sweeps.checkpoint": true,
	"sweeps.blocked_by": true,
}

func columnsOf(t *testing.T, db *sql.DB, query string) map[string]bool {
	rows, err := db.Query(query)
	require.NoError(t, err)
	defer rows.Close()
	all := map[string]bool{}
	for rows.Next() {
		var table, column string
		var nullable bool
		require.NoError(t, rows.Scan(&table, &column, &nullable))
		all[table+"."+column] = nullable
	}
	require.NoError(t, rows.Err())
	return all
}

// A nested transaction of GORM cannot commit what is around it, nor outlive its roll back.
func TestNestedGORMTransactionCannotCommit(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]func(testing.TB) string{"postgres": dbtest.Postgres, "sqlite": dbtest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Open(t.Context(), fresh(t), Options{})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			require.NoError(t, s.Migrate(t.Context()))
			row := scheduleRow{Name: "nested"}
			err = s.inTx(t.Context(), func(t *tx) error {
				if err := t.db.Create(&scheduleRow{Name: "outer"}).Error; err != nil {
					return err
				}
				// Refused on PostgreSQL, a savepoint on SQLite; a COMMIT on neither.
				_ = t.db.Transaction(func(inner *gorm.DB) error { return inner.Create(&row).Error })
				return errNested // any error: roll back
			})
			require.ErrorIs(t, err, errNested)
			var n int
			require.NoError(t, s.sql.QueryRow("SELECT count(*) FROM schedules").Scan(&n))
			require.Zero(t, n)
		})
	}
}
