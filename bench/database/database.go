// Package database gives a benchmark a PostgreSQL database of its own.
package database

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lethe-gdpr/lethe/bench/report"
)

const variable = "LETHE_TEST_POSTGRES_URL"

// New creates a database and returns its URL and a function that drops it. It notes the server's settings in the
// report: figures mean little without them.
func New(ctx context.Context, r *report.Report) (dsn string, drop func(), err error) {
	admin := os.Getenv(variable)
	if admin == "" {
		return "", nil, errors.New(variable + " is not set; run `make bench`")
	}
	u, err := url.Parse(admin)
	if err != nil {
		return "", nil, errors.New(variable + " is not a URL")
	}
	c, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", nil, err
	}
	defer c.Close(ctx)
	for _, setting := range []string{
		"server_version", "shared_buffers", "fsync", "synchronous_commit", "full_page_writes", "wal_compression",
	} {
		var v string
		if err := c.QueryRow(ctx, "SELECT current_setting($1)", setting).Scan(&v); err != nil {
			return "", nil, err
		}
		r.Versions["postgres."+setting] = v
	}
	return create(ctx, admin, u, "")
}

// Copy makes a database that is a copy of New's, file by file, and returns its URL and a function that drops it. Nobody
// may be connected to the one that is copied.
func Copy(ctx context.Context, dsn string) (copied string, drop func(), err error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", nil, errors.New("not a URL")
	}
	return create(ctx, os.Getenv(variable), u, " TEMPLATE "+u.Path[1:]+" STRATEGY file_copy")
}

func create(ctx context.Context, admin string, u *url.URL, how string) (dsn string, drop func(), err error) {
	c, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", nil, err
	}
	defer c.Close(ctx)
	name := "lethe_bench_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name+how); err != nil {
		return "", nil, err
	}
	own := *u
	own.Path = "/" + name
	return own.String(), func() {
		ctx := context.WithoutCancel(ctx)
		if c, err := pgx.Connect(ctx, admin); err == nil {
			_, _ = c.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
			_ = c.Close(ctx)
		}
	}, nil
}
