package sqldb_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

const numbers = "CREATE TABLE numbers (id BIGINT PRIMARY KEY, n BIGINT);\nINSERT INTO numbers VALUES (1, 1), (2, 1), (3, 1)"

// inAndOutside runs a test with sessions in transactions and outside.
func inAndOutside(t *testing.T, fn func(t *testing.T, f *fixture, run func(texts ...string) ([]string, error))) {
	t.Helper()
	for _, inTx := range []bool{true, false} {
		t.Run(fmt.Sprintf("transaction %v", inTx), func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, f *fixture) {
				f.exec(numbers)
				db := f.openSystem(&connectors.System{Limits: connectors.Limits{Statement: time.Second}})
				fn(t, f, func(texts ...string) ([]string, error) { return db.Run(context.Background(), inTx, texts...) })
			})
		})
	}
}

func TestStatementsOfASessionRunInOrderAndAnswerForThemselves(t *testing.T) {
	t.Parallel()
	inAndOutside(t, func(t *testing.T, f *fixture, run func(texts ...string) ([]string, error)) {
		got, err := run("SELECT count(*) FROM numbers", "UPDATE numbers SET n = 1 WHERE id < 3", "DELETE FROM numbers WHERE id = 9",
			"SELECT id FROM numbers WHERE id = 9", "SELECT id FROM numbers ORDER BY id", "DELETE FROM numbers WHERE id > 1", "SELECT count(*) FROM numbers")
		require.NoError(t, err)
		require.Equal(t, []string{"3", "2", "0", "", "123", "2", "1"}, got)

		var many, want []string
		for i := range 200 {
			many, want = append(many, fmt.Sprintf("INSERT INTO numbers VALUES (%d, 0)", 10+i)), append(want, "1")
		}
		got, err = run(append(many, "SELECT count(*) FROM numbers")...)
		require.NoError(t, err)
		require.Equal(t, append(want, "201"), got)
		require.Equal(t, []string{"201"}, f.rows("SELECT count(*) FROM numbers"))
	})
}

func TestAStatementThatFailsEndsItsSessionsWork(t *testing.T) {
	t.Parallel()
	inAndOutside(t, func(t *testing.T, f *fixture, run func(texts ...string) ([]string, error)) {
		_, err := run("SELECT count(*) FROM numbers", "INSERT INTO numbers VALUES (1, 2)", "DELETE FROM numbers")
		require.Error(t, err)
		require.Equal(t, []string{"3"}, f.rows("SELECT count(*) FROM numbers"), "what came after it ran")
		got, err := run("SELECT count(*) FROM numbers")
		require.NoError(t, err)
		require.Equal(t, []string{"3"}, got)
	})
}

func TestEachStatementOfASessionHasTheTimeLimit(t *testing.T) {
	t.Parallel()
	inAndOutside(t, func(t *testing.T, f *fixture, run func(texts ...string) ([]string, error)) {
		if f.kind == "sqlite" {
			return // its driver looks at the time between rows only
		}
		slow := "SELECT count(*) FROM numbers AS a"
		for i := range 24 { // three to that power are too many to count
			slow += fmt.Sprintf(" JOIN numbers AS n%d ON n%[1]d.n = a.n", i)
		}
		_, err := run("UPDATE numbers SET n = 7", slow, "DELETE FROM numbers")
		require.Equal(t, dsr.CodeUnavailable, dsr.CodeOf(err), "%v", err)
		require.Equal(t, []string{"3"}, f.rows("SELECT count(*) FROM numbers"), "what came after it ran")
	})
}

// The server ends connections that nobody uses, and a restart ends all.
func TestAConnectionThatDiedInThePoolIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "mariadb")
	f.exec(numbers)
	db := f.openSystem(&connectors.System{})
	for i, inTx := range []bool{true, false} {
		_, err := db.Run(context.Background(), inTx, "SELECT count(*) FROM numbers")
		require.NoError(t, err)
		others := "FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
		for _, id := range f.rows("SELECT id " + others) {
			f.exec("KILL " + id)
		}
		require.Eventually(t, func() bool { return f.rows("SELECT count(*) " + others)[0] == "0" }, patience, 20*time.Millisecond)
		got, err := db.Run(context.Background(), inTx, fmt.Sprintf("DELETE FROM numbers WHERE id = %d", i+1))
		require.NoError(t, err)
		require.Equal(t, []string{"1"}, got)
	}
}
