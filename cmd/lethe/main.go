// Command lethe carries out GDPR data-subject requests across a company's systems and proves that it did. A file per
// command; none has logic of its own beyond reading options and printing.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // deadlines need the controller's zone where the image has no zone files

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Exit codes. They are mapped here and nowhere else.
const (
	exitOK          = 0
	exitFailed      = 1 // something went wrong
	exitUsage       = 2 // wrong flags, configuration or data map
	exitFindings    = 3 // what was asked for was found: errors of check, drift, a request that needs attention
	exitRefused     = 4 // the server refused the call
	exitUnavailable = 5 // the server or a system cannot be reached; try again
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		report(err)
	}
	os.Exit(exitCode(err))
}

// usageError is a wrong flag or argument.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// errFindings ends a command whose findings are already on standard output.
var errFindings = errors.New("findings")

func exitCode(err error) int {
	var (
		usage   usageError
		refused *client.Refused
		network *net.OpError // not net.Error, which every syscall.Errno is
		address *url.Error
	)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFindings):
		return exitFindings
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &refused):
		if refused.Status >= 500 {
			return exitUnavailable
		}
		return exitRefused
	case errors.As(err, &address), errors.As(err, &network), dsr.CodeOf(err) == dsr.CodeUnavailable:
		return exitUnavailable
	case dsr.CodeOf(err) == dsr.CodeInvalid:
		return exitUsage
	}
	return exitFailed
}

// report prints an error and, where there is one, what to do about it.
func report(err error) {
	if errors.Is(err, errFindings) {
		return
	}
	fmt.Fprintln(os.Stderr, "lethe:", err)
	var (
		own     *dsr.Error
		refused *client.Refused
		address *url.Error
		hint    string
	)
	switch {
	case errors.As(err, &own):
		hint = own.Hint
	case errors.As(err, &refused):
		if refused.Hint != nil {
			hint = *refused.Hint
		}
		if refused.Status == 401 {
			hint = "set LETHE_API_KEY, or LETHE_API_KEY_FILE to a file that holds the key"
		}
	case errors.As(err, &address):
		hint = "is `lethe serve` running there? --server or LETHE_SERVER says where"
	}
	if hint != "" {
		fmt.Fprintln(os.Stderr, "hint:", hint)
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "lethe",
		Short: "Carry out GDPR data-subject requests, and prove it",
		Long: `Lethe finds a person's data in your systems, erases or copies it as the law and your data map say, searches again,
and only then says that it is done.

Start here:
  lethe demo                       watch it happen to a small helpdesk, with nothing installed

On your own systems, in this order:
  lethe init --from URL            draft a data map (lethe.yaml) from a live database
  lethe check                      everything that would make a request fail or be incomplete
  lethe grants                     the SQL of a database user with no more rights than Lethe needs
  lethe plan --email ADDRESS       what an erasure would do, without doing it
  lethe serve                      the API and the workers
  lethe request new --kind erasure --email ADDRESS
  lethe request approve ID         a second person approves the plan
  lethe retention forecast         what the deletion rules of the map would delete, and when

Exit codes: 0 done, 1 failed, 2 wrong use or wrong map, 3 findings or drift, 4 the server refused, 5 cannot be reached.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
	}
	group(root)
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if err := c.ValidateRequiredFlags(); err != nil { // cobra would do it too, but not as wrong use
			return usageError{err}
		}
		return nil
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
	})
	root.PersistentFlags().String("config", "", "YAML `file` that says how this installation runs (LETHE_CONFIG)")
	root.AddGroup(
		&cobra.Group{ID: "start", Title: "Start:"},
		&cobra.Group{ID: "map", Title: "The data map:"},
		&cobra.Group{ID: "run", Title: "The server:"},
		&cobra.Group{ID: "api", Title: "Through the API:"},
	)
	for group, commands := range map[string][]*cobra.Command{
		"start": {newDemoCommand()},
		"map": {
			newInitCommand(), newCheckCommand(), newGrantsCommand(), newDriftCommand(), newPlanCommand(), newSchemaCommand(),
		},
		"run": {newServeCommand(), newMigrateCommand()},
		"api": {
			newRequestCommand(), newHoldCommand(), newRetentionCommand(), newSweepCommand(), newSystemCommand(), newAPIKeyCommand(),
		},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	return root
}

// group makes a command that only has others below it.
func group(c *cobra.Command) {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unknown command %q (see %s --help)", args[0], c.CommandPath())}
		}
		return c.Help()
	}
}

// exactArgs is cobra.ExactArgs with the exit code of wrong use.
func exactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(c, args); err != nil {
			return usageError{fmt.Errorf("%w: %s", err, c.UseLine())}
		}
		return nil
	}
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return info.Main.Version + " " + s.Value[:12]
		}
	}
	return info.Main.Version
}
