package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/config"
)

// loadConfig reads the file of --config or LETHE_CONFIG and the environment, then the flags that were given. Flags
// are named like keys.
func loadConfig(c *cobra.Command) (config.Config, error) {
	path, _ := c.Flags().GetString("config")
	if path == "" {
		path = os.Getenv("LETHE_CONFIG")
	}
	// A flag is a variable that wins over the environment, so that it is validated with everything else.
	env := func(name string) (string, bool) {
		for _, v := range config.Variables() {
			if f := c.Flags().Lookup(v[1]); v[0] == name && f != nil && f.Changed {
				return f.Value.String(), true
			}
		}
		return os.LookupEnv(name)
	}
	loaded, err := config.Load(path, env)
	if err != nil {
		return loaded, usageError{err}
	}
	return loaded, nil
}

func databaseFlags(c *cobra.Command) {
	c.Flags().String("database", "", "control database: postgres://… or sqlite:///path (LETHE_DATABASE; control.db in --data)")
	c.Flags().String("data", "lethe-data", "`folder` of keys, packages and the embedded database (LETHE_DATA)")
}

// ServeOptions are what serve was told.
type ServeOptions struct {
	Config config.Config
	Notice io.Writer
}

func newServeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the API and the workers",
		Long: `Run the API and the workers in one process, on SQLite in ./lethe-data unless --database names PostgreSQL.

The first start writes an API key to lethe-data/bootstrap-key. On PostgreSQL run "lethe migrate" first; there --role api
and --role worker split the work across machines, which then share the folder of --data (keys and packages).

SIGTERM stops gracefully: no new work is taken and running work reaches a checkpoint. SIGHUP reads the data map again.`,
		Example: `  lethe serve
  lethe serve --database postgres://lethe@db.example.com/lethe --map /etc/lethe/lethe.yaml --role worker`,
		Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			loaded, err := loadConfig(c)
			if err != nil {
				return err
			}
			return runServe(c.Context(), ServeOptions{Config: loaded, Notice: c.ErrOrStderr()})
		},
	}
	databaseFlags(c)
	c.Flags().String("map", "lethe.yaml", "`file` of the data map (LETHE_MAP)")
	c.Flags().String("listen", "127.0.0.1:8080", "`address` of the API (LETHE_LISTEN)")
	c.Flags().String("role", config.RoleAll, "all, api or worker (LETHE_ROLE)")
	c.Flags().String("tls.certificate", "", "`file` of the API's certificate, PEM (LETHE_TLS_CERTIFICATE)")
	c.Flags().String("tls.key", "", "`file` of its key, PEM (LETHE_TLS_KEY)")
	c.Flags().String("log.level", "info", "debug, info, warn or error (LETHE_LOG_LEVEL)")
	c.Flags().String("log.format", "json", "json or text (LETHE_LOG_FORMAT)")
	return c
}

// stopWithin bounds a graceful stop: a slice takes at most 30 s.
const stopWithin = 60 * time.Second

func runServe(ctx context.Context, o ServeOptions) error {
	log := o.Config.Logger(o.Notice)
	a, err := app.New(ctx, app.Options{Config: o.Config, Logger: log, Notice: o.Notice})
	if err != nil {
		return err
	}
	err = a.Start(ctx)
	if err == nil {
		err = reloading(ctx, a, log)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return errors.Join(err, a.Stop(last))
}

// reloading reads the data map again at each SIGHUP until ctx ends or the API stops listening.
func reloading(ctx context.Context, a *app.App, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-a.Failed():
			return fmt.Errorf("the API stopped listening: %w", err)
		case <-hangup:
			if err := a.ReloadMap(ctx); err != nil {
				log.ErrorContext(ctx, "the data map was not read again; the one before stays", "cause", err)
			}
		}
	}
}
