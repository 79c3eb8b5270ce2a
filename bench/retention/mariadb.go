package retention

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/lethe-gdpr/lethe/bench/database"
	"github.com/lethe-gdpr/lethe/bench/report"
)

// RunMariaDB measures sweeps of MariaDB at full speed.
func RunMariaDB(ctx context.Context, r *report.Report, scale float64) error {
	archiver, err := exec.LookPath("pt-archiver")
	if err != nil {
		fmt.Println("pt-archiver is not installed (Debian: percona-toolkit): its rows are left out")
	}
	n := max(int(orders*scale), 50_000)
	m, err := database.OpenMariaDB(ctx, r)
	if err != nil {
		return err
	}
	defer m.Close()
	fmt.Printf("filling %d orders and their lines\n", n)
	if err := fillMariaDB(ctx, m, n, r.Seed); err != nil {
		return err
	}
	name, drop, err := m.Copy(ctx)
	if err != nil {
		return err
	}
	total, err := countMariaDB(ctx, m, name)
	drop()
	if err != nil {
		return err
	}
	cut := cutoff(n)
	const lone, peer, one, two = "one single DELETE", "pt-archiver", "sweep, 1 connection", "sweep, 2 connections"
	by := func(name string, connections int) contender {
		c := sweeper(name, "mariadb", cut, connections)
		return contender{name, func(ctx context.Context, db string) (swept, error) { return c.run(ctx, m.URL(db)) }}
	}
	list := []contender{
		{lone, func(ctx context.Context, db string) (swept, error) { return deleteMariaDB(ctx, m, db, cut) }},
		by(one, 1), by(two, 2),
	}
	if archiver != "" {
		list = append(list, contender{peer, func(ctx context.Context, db string) (swept, error) { return archive(ctx, archiver, m, db, cut, total) }})
	}
	all, err := race(ctx, m.Copy, list...)
	if err != nil {
		return err
	}
	if archiver != "" {
		note := fmt.Sprintf("against pt-archiver --purge --bulk-delete --commit-each --limit %d; %.2fx one single DELETE, %.2fx with two connections", archived,
			all[one].rate().Median/all[lone].rate().Median, all[two].rate().Median/all[lone].rate().Median)
		r.AddAtLeast("MariaDB: full speed, 1 connection", all[one].rate(), all[peer].rate(), 1.3, note)
		r.AddAtLeast("MariaDB: full speed, 2 connections", all[two].rate(), all[peer].rate(), 1.6, note)
	}
	note := fmt.Sprintf("the single DELETE's takes %.0f ms", all[lone].transaction().Median)
	r.AddBound("MariaDB: its longest transaction, 1 connection", all[one].transaction(), 50, false, note)
	r.AddBound("MariaDB: its longest transaction, 2 connections", all[two].transaction(), 50, false, note)
	return nil
}

// fillMariaDB keeps the same orders and lines as PostgreSQL has, but for what is random in them.
func fillMariaDB(ctx context.Context, m *database.MariaDB, n int, seed uint64) error {
	return m.Keep(
		ctx, []string{"orders", "order_lines"}, []string{
			`CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, status varchar(20) NOT NULL, created_at datetime NOT NULL,
note varchar(40) NOT NULL, KEY (created_at), KEY (customer)) ENGINE = InnoDB`,
			`CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id bigint NOT NULL, note varchar(40) NOT NULL, KEY (order_id),
FOREIGN KEY (order_id) REFERENCES orders (id)) ENGINE = InnoDB`,
		}, []string{
			"SET unique_checks = 0, foreign_key_checks = 0",
			fmt.Sprintf(`INSERT INTO orders SELECT seq, floor(rand(%d) * 100000), 'paid', '%s' + INTERVAL seq MINUTE +
INTERVAL floor(rand(%d) * 3600) SECOND, md5(rand(%d)) FROM seq_1_to_%d`, seed, epoch.Format(time.DateTime), seed+1, seed+2, n),
			fmt.Sprintf(`INSERT INTO order_lines SELECT 2 * s.seq + k.seq - 2, s.seq, md5(rand(%d))
FROM seq_1_to_%d s JOIN seq_1_to_2 k ON k.seq <= %s`, seed+3, n, wholeLines("s.seq")),
		},
	)
}

// wholeLines is [lines] where a division of whole numbers leaves a fraction.
func wholeLines(id string) string { return "((" + id + " * 2654435761) DIV 256) % 3" }

func deleteMariaDB(ctx context.Context, m *database.MariaDB, name string, cut time.Time) (out swept, err error) {
	db, err := m.Open(name)
	if err != nil {
		return out, err
	}
	defer db.Close()
	began := time.Now()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return out, err
	}
	defer func() { _ = tx.Rollback() }()
	for _, q := range []string{
		"DELETE order_lines FROM order_lines JOIN orders ON orders.id = order_lines.order_id WHERE orders.created_at < ?",
		"DELETE FROM orders WHERE created_at < ?",
	} {
		res, err := tx.ExecContext(ctx, q, cut.Format(time.DateTime))
		if err != nil {
			return out, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return out, err
		}
		out.rows += n
	}
	err = tx.Commit()
	out.took, out.chunks = time.Since(began), 1
	out.longest = out.took
	return out, err
}

// archived is how many rows pt-archiver deletes at once.
const archived = 1000

// archive lets pt-archiver delete the lines of due orders, then the orders, as one would who knows it and these tables:
//
//   - One DELETE a chunk (--bulk-delete), and no column fetched but the key.
//   - A COMMIT a chunk (--commit-each). Its manual says that bulk deletes imply it; without it there is one for every row,
//     which takes three quarters of its time.
//   - Along the primary key, which grows with time, and no further than the last due row: it would read the other half
//     of the table to find no more. The bounds are looked up first, within the time.
//   - Whether a line's order is due is asked of the order, by its key, in a way that the optimizer cannot turn round: an
//     EXISTS may become a join that begins at the orders again for every chunk.
//   - No call home for a newer version, and no look at character sets.
//
// Its rows are what is missing from total afterwards.
func archive(ctx context.Context, program string, m *database.MariaDB, name string, cut time.Time, total int64) (out swept, err error) {
	host, port, user, password := m.Account()
	due := fmt.Sprintf("created_at < '%s'", cut.Format(time.DateTime))
	began := time.Now()
	order, line, err := lastDue(ctx, m, name, due)
	if err != nil {
		return out, err
	}
	for _, pass := range [][2]string{
		{"order_lines", fmt.Sprintf("id <= %d AND (SELECT created_at FROM orders WHERE orders.id = order_lines.order_id) < '%s'", line, cut.Format(time.DateTime))},
		{"orders", fmt.Sprintf("id <= %d AND %s", order, due)},
	} {
		cmd := exec.CommandContext(ctx, program, "--source",
			fmt.Sprintf("h=%s,P=%s,u=%s,p=%s,D=%s,t=%s,i=PRIMARY", host, port, user, password, name, pass[0]),
			"--where", pass[1], "--purge", "--bulk-delete", "--primary-key-only", "--no-check-charset", "--no-version-check",
			"--commit-each", "--limit", fmt.Sprint(archived))
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return out, fmt.Errorf("pt-archiver: %w", err)
		}
	}
	out.took = time.Since(began)
	left, err := countMariaDB(ctx, m, name)
	out.rows = total - left
	return out, err
}

// lastDue returns the highest numbers of due orders and of their lines.
func lastDue(ctx context.Context, m *database.MariaDB, name, due string) (order, line int64, err error) {
	db, err := m.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	if err := db.QueryRowContext(ctx, "SELECT max(id) FROM orders WHERE "+due).Scan(&order); err != nil {
		return 0, 0, err
	}
	err = db.QueryRowContext(ctx, "SELECT max(id) FROM order_lines WHERE order_id <= ?", order).Scan(&line)
	return order, line, err
}

func countMariaDB(ctx context.Context, m *database.MariaDB, name string) (n int64, err error) {
	db, err := m.Open(name)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM order_lines)").Scan(&n)
	return n, err
}
