package main

import (
	"context"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/demo"
)

func newDemoCommand() *cobra.Command {
	o := demo.Options{}
	var verbose bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Watch an access and an erasure request go through a database",
		Long: `Make a small helpdesk in SQLite, start Lethe on it, and carry out an access and an erasure request for a person who is all
over it: what is found, what is kept and why, what is erased, and what a second search finds. Then report a table that the
data map forgot, and keep serving so that you can try commands. Nothing needs to be installed. The files are in a temporary
folder, removed when you stop it, unless --dir says where, or --exit leaves them for you to look at.`,
		Example: "  lethe demo\n  lethe demo --exit --json --dir /tmp/helpdesk",
		Args:    exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out, o.Log, o.Lethe = c.OutOrStdout(), c.ErrOrStderr(), self()
			if verbose {
				o.Logger = slog.New(slog.NewTextHandler(o.Log, nil))
			}
			o.Serve = func(ctx context.Context, a *app.App) error {
				return reloading(ctx, a, slog.New(slog.NewTextHandler(o.Log, nil)))
			}
			return demo.Run(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.Dir, "dir", "", "`folder` for the files, which stay there; a temporary one when absent")
	c.Flags().BoolVar(&o.Exit, "exit", false, "end when the requests have ended instead of serving on")
	c.Flags().BoolVar(&o.JSON, "json", false, "print one JSON object on standard output, the rest on standard error")
	c.Flags().StringVar(&o.Listen, "listen", "", "`address` of the API; a free loopback port when absent")
	c.Flags().BoolVar(&verbose, "verbose", false, "print the log, too")
	return c
}

// self is how the user can call this program again.
func self() string {
	path, err := os.Executable()
	if err != nil || strings.Contains(path, "go-build") {
		return "go run ./cmd/lethe"
	}
	return os.Args[0]
}
