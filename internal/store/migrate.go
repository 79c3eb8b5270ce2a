package store

import (
	"context"
	"database/sql"
	"embed"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/lethe-gdpr/lethe/migrations"
)

// migrationLock is an arbitrary number that only Lethe's migrations lock.
const migrationLock = 0x6c65746865

func (p *postgres) migrate(ctx context.Context) error {
	// Several processes may start at once; River's migrator has no lock of its own.
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
		return err
	}
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock)
	}()
	if err := migrateOwn(ctx, p.sql, goose.DialectPostgres, migrations.Postgres, "postgres"); err != nil {
		return err
	}
	return migrateRiver(ctx, riverpgxv5.New(p.pool))
}

func (l *lite) migrate(ctx context.Context) error {
	err := migrateOwn(ctx, l.sql, goose.DialectSQLite3, migrations.SQLite, "sqlite")
	if err != nil {
		return err
	}
	return migrateRiver(ctx, riversqlite.New(l.sql))
}

func migrateOwn(
	ctx context.Context, db *sql.DB, dialect goose.Dialect, files embed.FS, folder string,
) error {
	sub, err := fs.Sub(files, folder)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, db, sub, goose.WithTableName("lethe_migrations"))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

func migrateRiver[T any](ctx context.Context, driver riverdriver.Driver[T]) error {
	m, err := rivermigrate.New(driver, nil)
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}
