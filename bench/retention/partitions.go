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

// partitions measures sweeps that drop whole partitions: they must take as long for many rows as for few.
func partitions(ctx context.Context, r *report.Report, fresh func(ctx context.Context) (string, func(), error), rows int) error {
	took, floor := map[string][]float64{}, map[string][]float64{}
	for i := range repetitions + 1 {
		for _, drops := range []bool{i%2 == 0, i%2 == 1} {
			dsn, end, err := fresh(ctx)
			if err != nil {
				return err
			}
			for _, table := range []string{"few", "many"} {
				var seconds float64
				if drops {
					seconds, err = report.Seconds(func() error { return dropPartitions(ctx, dsn, table) })
				} else {
					seconds, err = sweepPartitions(ctx, dsn, table)
				}
				if err != nil {
					end()
					return err
				}
				if i == 0 {
					continue
				}
				into := took
				if drops {
					into = floor
				}
				into[table] = append(into[table], 1000*seconds)
			}
			end()
		}
	}
	few, many := report.FigureOf("ms", took["few"]...), report.FigureOf("ms", took["many"]...)
	r.Add("PostgreSQL: sweep of 10 whole partitions, against a tenth of the rows", many, few, 1.5,
		fmt.Sprintf("%d rows go; DROP TABLE of the same takes %.0f ms, of a tenth %.0f ms", rows/2,
			report.FigureOf("ms", floor["many"]...).Median, report.FigureOf("ms", floor["few"]...).Median))
	return nil
}

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

func sweepPartitions(ctx context.Context, dsn, table string) (seconds float64, err error) {
	s, err := openEntities(ctx, "postgres", dsn, connectors.Entity{Name: table, Erase: dsr.Delete})
	if err != nil {
		return 0, err
	}
	defer s.db.Close()
	s.entity, s.cut = table, partitionEnd
	seconds, err = report.Seconds(func() error {
		out, err := s.sweep(ctx, connectors.Pace{})
		if err == nil && out.chunks != months/2 {
			err = fmt.Errorf("%d transactions, not one a partition", out.chunks)
		}
		return err
	})
	return seconds, err
}

func dropPartitions(ctx context.Context, dsn, table string) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for m := range months / 2 {
		if _, err := c.Exec(ctx, fmt.Sprintf("DROP TABLE %s_%d", table, m)); err != nil {
			return err
		}
	}
	return nil
}
