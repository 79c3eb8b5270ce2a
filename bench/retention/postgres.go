package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lethe-gdpr/lethe/bench/database"
	"github.com/lethe-gdpr/lethe/bench/report"
)

// Run measures sweeps of PostgreSQL.
func Run(ctx context.Context, r *report.Report, scale float64) error {
	n := max(int(orders*scale), 50_000)
	dsn, drop, err := database.New(ctx, r)
	if err != nil {
		return err
	}
	defer drop()
	fmt.Printf("filling %d orders and their lines\n", n)
	if err := fillPostgres(ctx, dsn, n, r.Seed); err != nil {
		return err
	}
	fresh := func(ctx context.Context) (string, func(), error) { return database.Copy(ctx, dsn) }
	if err := fullSpeed(ctx, r, fresh, cutoff(n)); err != nil {
		return err
	}
	if err := gentle(ctx, r, fresh, n); err != nil {
		return err
	}
	rows := max(int(manyRows*scale), 100_000)
	other, end, err := database.New(ctx, r)
	if err != nil {
		return err
	}
	defer end()
	if err := fillPartitions(ctx, other, rows); err != nil {
		return err
	}
	return partitions(ctx, r, func(ctx context.Context) (string, func(), error) { return database.Copy(ctx, other) }, rows)
}

func fullSpeed(ctx context.Context, r *report.Report, fresh func(ctx context.Context) (string, func(), error), cut time.Time) error {
	const lone, one, two = "one single DELETE", "sweep, 1 connection", "sweep, 2 connections"
	all, err := race(ctx, fresh,
		contender{lone, func(ctx context.Context, dsn string) (swept, error) { return deletePostgres(ctx, dsn, cut) }},
		sweeper(one, "postgres", cut, 1), sweeper(two, "postgres", cut, 2))
	if err != nil {
		return err
	}
	floor := all[lone].rate()
	r.AddAtLeast("PostgreSQL: full speed, 1 connection", all[one].rate(), floor, 0.9, "against one single DELETE; "+all[one].note(1))
	r.AddAtLeast("PostgreSQL: full speed, 2 connections", all[two].rate(), floor, 1.3, "against one single DELETE; "+all[two].note(2))
	note := fmt.Sprintf("the single DELETE's takes %.0f ms", all[lone].transaction().Median)
	r.AddBound("its longest transaction, 1 connection", all[one].transaction(), 50, false, note)
	r.AddBound("its longest transaction, 2 connections", all[two].transaction(), 50, false, note)
	return nil
}

// fillPostgres makes orders and lines; where lines are is decided by the order's number, and everything by the seed.
func fillPostgres(ctx context.Context, dsn string, n int, seed uint64) error {
	return statements(ctx, dsn,
		"CREATE TABLE orders (id bigint NOT NULL, customer bigint NOT NULL, status text NOT NULL, created_at timestamptz NOT NULL, note text NOT NULL)",
		"CREATE TABLE order_lines (id bigint NOT NULL, order_id bigint NOT NULL, note text NOT NULL)",
		fmt.Sprintf("SELECT setseed(%g)", float64(seed%1000)/1000),
		fmt.Sprintf(`INSERT INTO orders SELECT i, (random() * 100000)::bigint, 'paid', timestamptz '%s' + i * interval '1 minute' +
random() * interval '1 hour', md5(random()::text) FROM generate_series(1, %d) i`, epoch.Format(time.RFC3339), n),
		fmt.Sprintf(`INSERT INTO order_lines SELECT row_number() OVER (), i, md5(random()::text)
FROM generate_series(1, %d) i, generate_series(1, %s) k`, n, lines("i")),
		"ALTER TABLE orders ADD PRIMARY KEY (id)",
		"ALTER TABLE order_lines ADD PRIMARY KEY (id)",
		"CREATE INDEX ON orders (created_at)",
		"CREATE INDEX ON orders (customer)",
		"CREATE INDEX ON order_lines (order_id)",
		"ALTER TABLE order_lines ADD FOREIGN KEY (order_id) REFERENCES orders (id)",
		"VACUUM ANALYZE",
		"CHECKPOINT",
	)
}

// lines is how many lines an order has, as SQL: 0, 1 or 2, 1 on average.
func lines(id string) string { return "((" + id + " * 2654435761) / 256) % 3" }

func statements(ctx context.Context, dsn string, list ...string) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, q := range list {
		if _, err := c.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// deletePostgres deletes what is due by one statement a table, in one transaction.
func deletePostgres(ctx context.Context, dsn string, cut time.Time) (out swept, err error) {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return out, err
	}
	defer c.Close(ctx)
	began := time.Now()
	err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		for _, q := range []string{
			"DELETE FROM order_lines USING orders WHERE orders.id = order_lines.order_id AND orders.created_at < $1",
			"DELETE FROM orders WHERE created_at < $1",
		} {
			tag, err := tx.Exec(ctx, q, cut)
			if err != nil {
				return err
			}
			out.rows += tag.RowsAffected()
		}
		return nil
	})
	out.took, out.chunks = time.Since(began), 1
	out.longest = out.took
	return out, err
}
