package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/config"
)

func newMigrateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the control database's schema up to date",
		Long: `Bring the control database's schema up to date: Lethe's own tables, then the job queue's. It may run while older
processes work, several times, and from several machines at once. The embedded SQLite migrates by itself.`,
		Example: `  LETHE_DATABASE_PASSWORD_FILE=/run/secrets/db lethe migrate --database postgres://lethe@db.example.com/lethe`,
		Args:    exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			loaded, err := loadConfig(c)
			if err != nil {
				return err
			}
			return runMigrate(c.Context(), loaded, c.OutOrStdout())
		},
	}
	databaseFlags(c)
	return c
}

func runMigrate(ctx context.Context, c config.Config, out io.Writer) error {
	s, err := app.OpenStore(ctx, &c, c.Logger(io.Discard))
	if err != nil {
		return err
	}
	if err := s.Migrate(ctx); err != nil {
		return errors.Join(err, s.Close())
	}
	fmt.Fprintln(out, "The control database is up to date.")
	return s.Close()
}
