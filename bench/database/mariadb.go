package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/lethe-gdpr/lethe/bench/report"
)

const variableMariaDB = "LETHE_TEST_MARIADB_URL"

// MariaDB is a server that gives a benchmark the same tables again and again, by copying their files: it must run on this
// machine, and its files must be readable.
type MariaDB struct {
	u      *url.URL
	data   string // the server's data directory
	kept   string // the files of the tables
	tables []string
	ddl    []string
}

// OpenMariaDB notes the server's settings in the report. Close it.
func OpenMariaDB(ctx context.Context, r *report.Report) (*MariaDB, error) {
	text := os.Getenv(variableMariaDB)
	if text == "" {
		return nil, errors.New(variableMariaDB + " is not set; run `make bench`")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New(variableMariaDB + " is not a URL")
	}
	m := &MariaDB{u: u}
	db, err := m.Open("")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	for _, setting := range []string{"version", "innodb_buffer_pool_size", "innodb_flush_log_at_trx_commit", "innodb_flush_method", "innodb_log_file_size", "innodb_purge_threads", "log_bin"} {
		var v string
		if err := db.QueryRowContext(ctx, "SELECT @@"+setting).Scan(&v); err != nil {
			return nil, err
		}
		r.Versions["mariadb."+setting] = v
	}
	if err := db.QueryRowContext(ctx, "SELECT @@datadir").Scan(&m.data); err != nil {
		return nil, err
	}
	if m.kept, err = os.MkdirTemp("", "lethe-bench-"); err != nil {
		return nil, err
	}
	return m, nil
}

// Close removes what was kept.
func (m *MariaDB) Close() { _ = os.RemoveAll(m.kept) }

// Open opens one of the server's databases.
func (m *MariaDB) Open(name string) (*sql.DB, error) {
	password, _ := m.u.User.Password()
	return sql.Open("mysql", fmt.Sprintf("%s:%s@tcp(%s)/%s?interpolateParams=true", m.u.User.Username(), password, m.u.Host, name))
}

// URL is a database as the connector takes it, and Account what else leads there.
func (m *MariaDB) URL(name string) string {
	u := *m.u
	u.Path = "/" + name
	return u.String()
}

// Account is how another program signs in.
func (m *MariaDB) Account() (host, port, user, password string) {
	password, _ = m.u.User.Password()
	return m.u.Hostname(), m.u.Port(), m.u.User.Username(), password
}

// Keep creates tables, parents first, fills them, and keeps their files for Copy.
func (m *MariaDB) Keep(ctx context.Context, tables, ddl, fill []string) error {
	m.tables, m.ddl = tables, ddl
	name, drop, err := m.create(ctx)
	if err != nil {
		return err
	}
	defer drop()
	db, err := m.Open(name)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, q := range append(append([]string{}, fill...), "FLUSH TABLES "+strings.Join(tables, ", ")+" FOR EXPORT") {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	for _, t := range tables {
		for _, ext := range []string{".ibd", ".cfg"} {
			if err := copyFile(filepath.Join(m.data, name, t+ext), filepath.Join(m.kept, t+ext)); err != nil {
				return err
			}
		}
	}
	_, err = conn.ExecContext(ctx, "UNLOCK TABLES")
	return err
}

// create makes a database with the empty tables.
func (m *MariaDB) create(ctx context.Context) (name string, drop func(), err error) {
	admin, err := m.Open("")
	if err != nil {
		return "", nil, err
	}
	defer admin.Close()
	name = "lethe_bench_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return "", nil, err
	}
	drop = func() {
		if db, err := m.Open(""); err == nil {
			_, _ = db.ExecContext(context.WithoutCancel(ctx), "DROP DATABASE "+name)
			_ = db.Close()
		}
	}
	db, err := m.Open(name)
	if err != nil {
		return "", nil, err
	}
	defer db.Close()
	for _, q := range m.ddl {
		if _, err := db.ExecContext(ctx, q); err != nil {
			drop()
			return "", nil, err
		}
	}
	return name, drop, nil
}

// Copy makes a database with the tables that were kept.
func (m *MariaDB) Copy(ctx context.Context) (name string, drop func(), err error) {
	name, drop, err = m.create(ctx)
	if err != nil {
		return "", nil, err
	}
	if err := m.fill(ctx, name); err != nil {
		drop()
		return "", nil, err
	}
	return name, drop, nil
}

func (m *MariaDB) fill(ctx context.Context, name string) error {
	db, err := m.Open(name)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	run := func(q string) error { _, err := conn.ExecContext(ctx, q); return err }
	if err := run("SET foreign_key_checks = 0"); err != nil {
		return err
	}
	for _, t := range m.tables {
		if err := run("ALTER TABLE " + t + " DISCARD TABLESPACE"); err != nil {
			return err
		}
		for _, ext := range []string{".ibd", ".cfg"} {
			if err := copyFile(filepath.Join(m.kept, t+ext), filepath.Join(m.data, name, t+ext)); err != nil {
				return err
			}
		}
		if err := run("ALTER TABLE " + t + " IMPORT TABLESPACE"); err != nil {
			return err
		}
	}
	return run("ANALYZE TABLE " + strings.Join(m.tables, ", "))
}

// copyFile copies a file and gives the copy to the same user: the server's.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode())
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := out.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			_ = out.Close()
			return err
		}
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
