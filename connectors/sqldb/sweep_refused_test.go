package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
)

// refusals are triggers on stamps that refuse every row whose number ends in 77.
var refusals = map[string]map[string]string{
	"as it goes": {
		"sqlite":  "CREATE TRIGGER refuse BEFORE DELETE ON stamps WHEN OLD.id % 100 = 77 BEGIN SELECT RAISE(ABORT, 'a@example.com'); END",
		"mariadb": "CREATE TRIGGER refuse BEFORE DELETE ON stamps FOR EACH ROW IF OLD.id % 100 = 77 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a@example.com'; END IF",
		"postgres": `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a@example.com'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON stamps FOR EACH ROW WHEN (OLD.id % 100 = 77) EXECUTE FUNCTION refuse()`,
	},
	"at the commit": {
		"postgres": `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a@example.com'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER DELETE ON stamps DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.id % 100 = 77) EXECUTE FUNCTION refuse()`,
	},
}

// Rows that the database does not let go keep no others, and the sweep fails for them once it is through.
func TestRefusedRowsKeepNoOthers(t *testing.T) {
	t.Parallel()
	for when, scripts := range refusals {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, f *fixture) {
				script := scripts[f.kind]
				if script == "" {
					return
				}
				f.exec("CREATE TABLE stamps (id BIGINT PRIMARY KEY, at DATE NOT NULL);\nCREATE INDEX stamps_at ON stamps (at)")
				rows := make([]string, 1500)
				for i := range rows {
					rows[i] = fmt.Sprintf("(%d, '2024-01-01')", i)
				}
				f.exec("INSERT INTO stamps VALUES " + strings.Join(rows, ", "))
				f.exec(script)
				db := f.open(connectors.Entity{Name: "stamps"})
				j := &journal{}
				job := connectors.SweepJob{Entity: "stamps", Rule: ruleOn("at"), Cut: cutAt("2024-12-01"), Journal: j}
				err := f.untilOver(db, job)
				require.True(t, connectors.IsPermanent(err), "%v", err)
				require.Equal(t, sqldb.CodeConstraint, dsr.CodeOf(err))
				require.Contains(t, err.Error(), "15 rows")
				require.NotContains(t, err.Error(), "example.com")
				require.Equal(t, map[string]int64{"stamps delete": 1485, "stamps failed": 15}, j.sum())
				require.Equal(t, []string{"15|77"}, f.rows("SELECT count(*), min(id) FROM stamps WHERE id % 100 = 77"))
				require.Equal(t, []string{"15"}, f.rows("SELECT count(*) FROM stamps"))
			})
		})
	}
}

// Where every row is refused that is soon given up.
func TestATableThatRefusesEveryRowEndsTheSweep(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		if f.kind != "sqlite" { // the same code for each
			return
		}
		f.exec("CREATE TABLE stamps (id BIGINT PRIMARY KEY, at DATE NOT NULL)")
		for i := range 300 {
			f.exec(fmt.Sprintf("INSERT INTO stamps VALUES (%d, '2024-01-01')", i))
		}
		f.exec("CREATE TRIGGER refuse BEFORE DELETE ON stamps BEGIN SELECT RAISE(ABORT, 'no'); END")
		j := &journal{}
		err := f.untilOver(f.open(connectors.Entity{Name: "stamps"}), connectors.SweepJob{Entity: "stamps", Rule: ruleOn("at"), Cut: cutAt("2024-12-01"), Journal: j})
		require.Equal(t, sqldb.CodeConstraint, dsr.CodeOf(err))
		require.Equal(t, map[string]int64{"stamps failed": 100}, j.sum())
	})
}

// untilOver calls Sweep until it is done or fails.
func (f *fixture) untilOver(db *sqldb.DB, job connectors.SweepJob) error {
	for range 1000 {
		if _, err := db.Sweep(context.Background(), job); err == nil || !errors.Is(err, connectors.ErrYield) {
			return err
		}
	}
	f.t.Fatal("the sweep does not end")
	return nil
}
