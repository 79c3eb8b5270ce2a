package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/config"
	"github.com/lethe-gdpr/lethe/internal/datamap/draft"
)

// InitOptions are what init was told.
type InitOptions struct {
	From     string // URL of the database
	System   string // its name in the map
	Output   string // "-" is standard output
	Fragment bool
	Out      io.Writer
}

func newInitCommand() *cobra.Command {
	o := InitOptions{}
	c := &cobra.Command{
		Use:   "init",
		Short: "Draft a data map from a live database",
		Long: `Draft a data map from a live database: who the persons are, which columns say something about them, and how rows lead to
them. Only the catalogue is read (names, types, keys, comments), never a row. Each guess carries its reason as a
comment, and what only a person can know is marked "# DECIDE:".

The URL does not go into the map, which reads it from an environment variable. To keep its password off the command
line, put the URL into LETHE_FROM, or into a file that LETHE_FROM_FILE names.`,
		Example: `  lethe init --from sqlite:///var/lib/shop.db
  LETHE_FROM_FILE=/run/secrets/shop-dsn lethe init --system shop`,
		Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.From == "" {
				var err error
				if o.From, _, err = config.Secret(os.LookupEnv, "LETHE_FROM"); err != nil {
					return usageError{err}
				}
			}
			if o.From == "" {
				return usageError{errors.New("say which database: --from postgres://…, mysql://… or sqlite:///path, or LETHE_FROM")}
			}
			o.Out = c.OutOrStdout()
			return runInit(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.From, "from", "", "`URL` of the database (LETHE_FROM, LETHE_FROM_FILE)")
	c.Flags().StringVar(&o.System, "system", "shop", "`name` of the system in the map")
	c.Flags().StringVarP(&o.Output, "output", "o", "lethe.yaml", "`file` to write, which must not exist; - is standard output")
	c.Flags().BoolVar(&o.Fragment, "fragment", false, "only what goes under systems: of a map that exists")
	return c
}

func runInit(ctx context.Context, o InitOptions) error {
	u, err := url.Parse(o.From)
	if err != nil {
		return usageError{errors.New("--from is not a URL")} // the parser's own error repeats the password
	}
	kind := slices.IndexFunc(app.Kinds(), func(k connectors.Kind) bool { return slices.Contains(k.Schemes, u.Scheme) })
	if kind < 0 {
		var schemes []string
		for _, k := range app.Kinds() {
			schemes = append(schemes, k.Schemes...)
		}
		return usageError{fmt.Errorf("--from must begin with one of %s", strings.Join(schemes, "://, ")+"://")}
	}
	system := &connectors.System{
		Name: o.System, Connector: app.Kinds()[kind].Name, Settings: map[string]any{"dsn": o.From},
	}
	opened, err := app.Open(ctx, system, connectors.Options{Now: time.Now})
	if err != nil {
		return err
	}
	schema, err := opened.Describe(ctx)
	if err = errors.Join(err, opened.Close()); err != nil {
		return err
	}
	text, err := draft.Draft(schema, draft.Options{System: o.System, Connector: system.Connector, Fragment: o.Fragment})
	if err != nil {
		return err
	}
	if o.Output == "-" {
		_, err := o.Out.Write(text)
		return err
	}
	f, err := os.OpenFile(o.Output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return usageError{fmt.Errorf("%s exists: choose another file with --output, or - for standard output", o.Output)}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(o.Out, "Wrote %s: %d entities, %d places marked DECIDE for you to read.\n",
		o.Output, len(schema.Entities), strings.Count(string(text), "DECIDE:"))
	variable := strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(o.System)) + "_DSN"
	fmt.Fprintf(o.Out, "Next: set %s to the database's URL, then lethe check --map %s\n", variable, o.Output)
	return nil
}
