package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
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
		Short: "Watch requests and retention go through a small helpdesk",
		Long: `Make a small helpdesk of databases, a bucket, log files and a log group, start Lethe on it, and carry out an access and an
erasure request for a person who is all over it: what is found, what is kept and why, what is erased, what a second search
finds, and what can only go later. Then let retention delete what is past its time, report a table that the data map
forgot, and keep serving so that you can try commands. Nothing needs to be installed. The files are in a temporary folder,
removed when you stop it, unless --dir says where, or --exit leaves them for you to look at.`,
		Example: "  lethe demo\n  lethe demo --exit --json --dir /tmp/helpdesk",
		Args:    exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out, o.Log, o.Lethe = c.OutOrStdout(), c.ErrOrStderr(), self()
			program, err := os.Executable()
			if err != nil {
				return err
			}
			o.S3 = func() *exec.Cmd {
				s3 := exec.CommandContext(context.WithoutCancel(c.Context()), program, c.Name(), demoS3)
				s3.Stderr = os.Stderr
				return s3
			}
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
	c.AddCommand(&cobra.Command{
		Use: demoS3, Hidden: true, Short: "Be the demo's S3 server", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error { return demo.ServeS3(c.Context(), c.InOrStdin()) },
	})
	return c
}

// demoS3 is the command by which the demo starts its S3 server, in a process of its own.
const demoS3 = "s3-server"

// self is how the user can call this program again.
func self() string {
	path, err := os.Executable()
	if err != nil || strings.Contains(path, "go-build") {
		return "go run ./cmd/lethe"
	}
	return os.Args[0]
}
