package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/config"
	"github.com/lethe-gdpr/lethe/internal/datamap"
)

// mapFlags are those of every command that works on a data map without a server.
func mapFlags(c *cobra.Command) {
	c.Flags().String("map", "lethe.yaml", "`file` of the data map (LETHE_MAP)")
	c.Flags().String("data", "lethe-data", "`folder` of the server's keys (LETHE_DATA)")
	c.Flags().Bool("json", false, "print JSON")
}

// readMap returns the configuration and the text of the data map that it names.
func readMap(c *cobra.Command) (config.Config, []byte, error) {
	loaded, err := loadConfig(c)
	if err != nil {
		return loaded, nil, err
	}
	text, err := os.ReadFile(loaded.Map)
	if errors.Is(err, os.ErrNotExist) {
		return loaded, nil, usageError{fmt.Errorf("there is no data map %s: `lethe init --from URL` drafts one from a database", loaded.Map)}
	}
	return loaded, text, err
}

// mapError names the file of a faulty map.
func mapError(path string, err error) error {
	var faults datamap.Faults
	if errors.As(err, &faults) {
		return usageError{fmt.Errorf("%s is not a valid data map:\n%w", path, err)}
	}
	return err
}

// eachSystem opens the systems of the map, all or the named ones, calls fn for each, and closes them. What is wrong with
// one keeps no other from its turn; fn is called for one that cannot be opened, too, when its Problem is asked for.
func eachSystem(c *cobra.Command, names []string, problems bool, fn func(ctx context.Context, s app.Opened) error) error {
	loaded, text, err := readMap(c)
	if err != nil {
		return err
	}
	systems, err := app.OpenMap(c.Context(), &loaded, os.LookupEnv, text, names...)
	if err != nil {
		return mapError(loaded.Map, err)
	}
	for _, s := range systems {
		one := s.Problem
		if one == nil || problems {
			one = fn(c.Context(), s)
		}
		if one = errors.Join(one, s.Close()); one != nil {
			err = errors.Join(err, fmt.Errorf("system %s: %w", s.Name, one))
		}
	}
	return err
}

// systemFindings is what check prints as JSON.
type systemFindings struct {
	System   string               `json:"system"`
	Findings []connectors.Finding `json:"findings"`
}

// grave reports whether one of the findings would end a request in needs_attention or a sweep as failed.
func grave(found []connectors.Finding) bool {
	return slices.ContainsFunc(found, func(f connectors.Finding) bool { return f.Severity == connectors.Error })
}

func newCheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [SYSTEM...]",
		Short: "Report everything that would make a request or a sweep fail or be incomplete",
		Long: `Compare the data map with what the systems really hold, and report everything that would make a request or a sweep fail
or be incomplete: tables and columns that the map forgot, missing privileges and indexes, masks that cannot hold in their
column, and more. It reads catalogues only, never a row, and changes nothing.

A system that cannot be opened or does not answer is a finding, too, and the others are checked all the same.

Exit code 3 when there is a finding of severity error: a request would end in needs_attention or, where the finding
names a rule, a sweep of that rule as failed.`,
		Example: "  SHOP_DSN=postgres://lethe@db.example.com/shop lethe check --map lethe.yaml",
		RunE: func(c *cobra.Command, args []string) error {
			all := []systemFindings{}
			failed := false
			loaded, text, err := readMap(c)
			if err != nil {
				return err
			}
			found, err := app.CheckMap(os.LookupEnv, text)
			if err != nil {
				return mapError(loaded.Map, err)
			}
			if len(args) == 0 && len(found) > 0 {
				all, failed = append(all, systemFindings{"data map", found}), grave(found)
			}
			err = eachSystem(c, args, true, func(ctx context.Context, s app.Opened) error {
				found, err := checkOne(ctx, s)
				if err != nil {
					return err
				}
				failed = failed || grave(found)
				all = append(all, systemFindings{s.Name, append([]connectors.Finding{}, found...)})
				return nil
			})
			if err != nil {
				return err
			}
			err = show(c, all, func(w io.Writer) {
				for _, s := range all {
					writeFindings(w, s)
				}
			})
			if err == nil && failed {
				return errFindings
			}
			return err
		},
	}
	mapFlags(c)
	return c
}

// Codes of what check finds whatever the connector.
const (
	findUnusable   = "unusable-system" // the settings of the system do not work
	findUnanswered = "unanswered"      // the system could not be checked to the end
)

// checkOne is Check of one system, where an error is a finding: it is no reason not to look at the other systems.
func checkOne(ctx context.Context, s app.Opened) ([]connectors.Finding, error) {
	code, err := findUnusable, s.Problem
	var found []connectors.Finding
	if err == nil {
		code = findUnanswered
		found, err = s.Check(ctx)
	}
	if err == nil || ctx.Err() != nil || grave(found) { // it says so itself
		return found, ctx.Err()
	}
	f := connectors.Finding{Code: code, Severity: connectors.Error, Message: err.Error()}
	var own *dsr.Error
	if errors.As(err, &own) {
		f.Hint = own.Hint
	}
	return append(found, f), nil
}

func writeFindings(w io.Writer, s systemFindings) {
	if len(s.Findings) == 0 {
		fmt.Fprintf(w, "%s: nothing to report\n", s.System)
		return
	}
	for _, f := range s.Findings {
		place := s.System
		for _, part := range []string{f.Entity, f.Field} {
			if part != "" {
				place += "." + part
			}
		}
		code := f.Code
		if f.Rule != "" {
			code += ", rule " + f.Rule
		}
		fmt.Fprintf(w, "%s: %s: %s (%s)\n", f.Severity, place, f.Message, code)
		if f.Hint != "" {
			fmt.Fprintf(w, "    %s\n", f.Hint)
		}
	}
}
