package store

import (
	"context"
	"database/sql"
	"embed"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/lethe-gdpr/lethe/migrations"
)

func (p *postgres) migrate(ctx context.Context) error {
	// Several processes may start at once; the lock belongs to goose's session, so River's follow under their own.
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	err = migrateOwn(ctx, p.sql, goose.DialectPostgres, migrations.Postgres, "postgres", goose.WithSessionLocker(locker))
	if err != nil {
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
	ctx context.Context, db *sql.DB, dialect goose.Dialect, files embed.FS, folder string, opts ...goose.ProviderOption,
) error {
	sub, err := fs.Sub(files, folder)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, db, sub, append(opts, goose.WithTableName("lethe_migrations"))...)
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
