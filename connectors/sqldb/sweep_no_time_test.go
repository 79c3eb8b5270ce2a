package sqldb_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Where a column is declared NOT NULL, MariaDB answers some conditions, and not others, as if 0000-00-00 were NULL. What is
// counted goes, and nothing else does.
func TestAZeroDateIsNotNull(t *testing.T) {
	t.Parallel()
	null := []dsr.Condition{{Field: "seen", Null: true}}
	for name, c := range map[string]struct {
		rule func(r *connectors.Rule)
		held []dsr.Condition
		goes []string
		kept int64
	}{
		"due when null":              {rule: func(r *connectors.Rule) { r.Start.Null = retention.NullDue }, goes: []string{"1", "2"}},
		"another if null":            {rule: func(r *connectors.Rule) { r.Start.Null, r.Start.NullField = retention.NullOther, "made" }, goes: []string{"1", "2"}},
		"as the server answers":      {rule: func(r *connectors.Rule) { r.When = null }, goes: []string{"2"}},
		"held as the server answers": {rule: func(*connectors.Rule) {}, held: null, goes: []string{"1"}, kept: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, "mariadb")
			f.exec(`SET sql_mode = '';
CREATE TABLE t (id BIGINT PRIMARY KEY, at DATE NOT NULL, seen DATETIME NOT NULL, made DATE NOT NULL);
CREATE INDEX t_at ON t (at);
INSERT INTO t VALUES (1, '2024-01-01', '2024-01-01', '2024-01-01'), (2, '2024-01-01', '0000-00-00', '2024-01-01'), (3, '0000-00-00', '2024-01-01', '2024-01-01'),
 (4, '0000-00-00', '0000-00-00', '2024-01-01'), (5, '2024-09-01', '0000-00-00', '2024-01-01')`)
			db := f.open(connectors.Entity{Name: "t", Erase: dsr.Delete})
			r := ruleOn("at")
			r.Start.Null = retention.NullKeep
			c.rule(&r)
			var held connectors.Holds
			want := map[string]int64{"t delete": int64(len(c.goes))}
			if c.held != nil {
				held.Entities = []connectors.Frozen{{Entity: "t", When: c.held}}
				want["t held"] = c.kept
			}
			due := f.due(db, "t", r, cutAt("2024-07-01"), held)
			require.EqualValues(t, len(c.goes), due.Rows-due.Held)
			require.Equal(t, c.kept, due.Held)
			require.Equal(t, want, f.sweep(db, "t", r, cutAt("2024-07-01"), held))
			left := f.rows("SELECT id FROM t ORDER BY id")
			require.Len(t, left, 5-len(c.goes))
			for _, id := range c.goes {
				require.NotContains(t, left, id)
			}
		})
	}
}

// A row without a time stays where it is, also in a partition that would be due.
func TestAPartitionWithRowsThatHaveNoTimeStays(t *testing.T) {
	t.Parallel()
	for kind, schema := range map[string]string{
		"postgres": `CREATE TABLE visits (id BIGINT, at BIGINT NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (1577836800);
CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM (1577836800) TO (1580515200);
INSERT INTO visits VALUES (1, 0), (2, 1575000000), (3, 1578000000)`,
		"mariadb": `CREATE TABLE visits (id BIGINT, at BIGINT NOT NULL, PRIMARY KEY (id, at))
PARTITION BY RANGE (at) (PARTITION visits_1 VALUES LESS THAN (1577836800), PARTITION visits_2 VALUES LESS THAN (1580515200), PARTITION visits_3 VALUES LESS THAN (MAXVALUE));
INSERT INTO visits VALUES (1, 0), (2, 1575000000), (3, 1578000000)`,
		"mariadb dates": `SET sql_mode = '';
CREATE TABLE visits (id BIGINT, at DATE NOT NULL, PRIMARY KEY (id, at))
PARTITION BY RANGE COLUMNS (at) (PARTITION visits_1 VALUES LESS THAN ('2020-01-01'), PARTITION visits_2 VALUES LESS THAN ('2020-02-01'), PARTITION visits_3 VALUES LESS THAN (MAXVALUE));
INSERT INTO visits VALUES (1, '0000-00-00'), (2, '2019-05-05'), (3, '2020-01-05')`,
		"mariadb months": `SET sql_mode = '';
CREATE TABLE visits (id BIGINT, at DATE NOT NULL, PRIMARY KEY (id, at))
PARTITION BY RANGE COLUMNS (at) (PARTITION visits_1 VALUES LESS THAN ('2020-01-01'), PARTITION visits_2 VALUES LESS THAN ('2020-02-01'), PARTITION visits_3 VALUES LESS THAN (MAXVALUE));
INSERT INTO visits VALUES (1, '2019-05-00'), (2, '2019-05-05'), (3, '2020-01-05')`,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, strings.Fields(kind)[0])
			f.exec(schema)
			db := f.open(connectors.Entity{Name: "visits", Erase: dsr.Delete})
			j := &journal{}
			_, err := db.Sweep(context.Background(), connectors.SweepJob{Entity: "visits", Rule: ruleOn("at"), Cut: cutAt("2020-03-01"), Journal: j})
			if kind == "mariadb months" {
				require.Equal(t, connectors.CodeStart, dsr.CodeOf(err))
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, []string{"1"}, f.rows("SELECT id FROM visits"))
			require.Equal(t, map[string]int64{"visits delete": 2}, j.sum())
		})
	}
}
