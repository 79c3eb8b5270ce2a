package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lethe-gdpr/lethe/bench/report"
	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

const (
	months   = 20        // partitions of a table; the first half of them is due
	manyRows = 2_000_000 // of one table with partitions; the other has a tenth
)

// partitions measures sweeps that drop whole partitions. The table must be locked as long for many rows as for few. All in
// all a sweep takes longer for many, since it counts what it deletes: that is compared with the server's own count and drop.
func partitions(ctx context.Context, r *report.Report, fresh func(ctx context.Context) (string, func(), error), rows int) error {
	took, floor, locked := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for i := range repetitions + 1 {
		for _, drops := range []bool{i%2 == 0, i%2 == 1} {
			dsn, end, err := fresh(ctx)
			if err != nil {
				return err
			}
			for _, table := range []string{"few", "many"} {
				var did swept
				if drops {
					did, err = dropPartitions(ctx, dsn, table)
				} else {
					did, err = sweepPartitions(ctx, dsn, table)
				}
				if err != nil {
					end()
					return err
				}
				if i == 0 {
					continue
				}
				if want := int64(rows / 2); table == "many" && did.rows != want {
					end()
					return fmt.Errorf("%d rows went, not %d", did.rows, want)
				}
				into := floor
				if !drops {
					into = took
					locked[table] = append(locked[table], milliseconds(did.longest))
				}
				into[table] = append(into[table], milliseconds(did.took))
			}
			end()
		}
	}
	r.Add("PostgreSQL: longest lock of a table that loses 10 whole partitions, against a tenth of the rows",
		report.FigureOf("ms", locked["many"]...), report.FigureOf("ms", locked["few"]...), 1.5, fmt.Sprintf("%d rows go", rows/2))
	r.Add("the whole sweep, against count(*) and DROP TABLE of each", report.FigureOf("ms", took["many"]...), report.FigureOf("ms", floor["many"]...), 3,
		fmt.Sprintf("a tenth of the rows: %.0f ms against %.0f ms", report.FigureOf("ms", took["few"]...).Median, report.FigureOf("ms", floor["few"]...).Median))
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// partitionEnd is the end of the due partitions of a table.
var partitionEnd = epoch.AddDate(0, months/2, 0)

// fillPartitions makes a table with few rows and one with many, alike otherwise.
func fillPartitions(ctx context.Context, dsn string, rows int) error {
	var list []string
	for table, n := range map[string]int{"few": rows / 10, "many": rows} {
		list = append(list, "CREATE TABLE "+table+
			" (id bigint NOT NULL, created_at timestamptz NOT NULL, note text NOT NULL, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at)")
		for m := range months {
			from, to := epoch.AddDate(0, m, 0).Format(time.RFC3339), epoch.AddDate(0, m+1, 0).Format(time.RFC3339)
			name := fmt.Sprintf("%s_%d", table, m)
			list = append(list,
				fmt.Sprintf("CREATE TABLE %s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s')", name, table, from, to),
				fmt.Sprintf(`INSERT INTO %s SELECT %d + i, timestamptz '%s' + (timestamptz '%s' - timestamptz '%s') * i / %d, md5(i::text)
FROM generate_series(0, %d) i`, name, m*n, from, to, from, n/months, n/months-1))
		}
		list = append(list, "CREATE INDEX ON "+table+" (created_at)")
	}
	return statements(ctx, dsn, append(list, "VACUUM ANALYZE", "CHECKPOINT")...)
}

func sweepPartitions(ctx context.Context, dsn, table string) (out swept, err error) {
	s, err := openEntities(ctx, "postgres", dsn, connectors.Entity{Name: table, Erase: dsr.Delete})
	if err != nil {
		return out, err
	}
	defer s.db.Close()
	s.entity, s.cut = table, partitionEnd
	began := time.Now()
	out, err = s.sweep(ctx, connectors.Pace{})
	out.took = time.Since(began)
	if err == nil && out.chunks != months/2 {
		err = fmt.Errorf("%d transactions, not one a partition", out.chunks)
	}
	return out, err
}

// dropPartitions counts and drops each due partition.
func dropPartitions(ctx context.Context, dsn, table string) (out swept, err error) {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return out, err
	}
	defer c.Close(ctx)
	began := time.Now()
	for m := range months / 2 {
		var n int64
		name := fmt.Sprintf("%s_%d", table, m)
		if err := c.QueryRow(ctx, "SELECT count(*) FROM "+name).Scan(&n); err != nil {
			return out, err
		}
		if _, err := c.Exec(ctx, "DROP TABLE "+name); err != nil {
			return out, err
		}
		out.rows += n
	}
	out.took = time.Since(began)
	return out, nil
}
