package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/datamap/drift"
)

// baseline is the schema of each system as it was when the map was last reviewed.
type baseline map[string]connectors.Schema

func newDriftCommand() *cobra.Command {
	var (
		ci                bool
		against, baseFile string
	)
	c := &cobra.Command{
		Use:   "drift [SYSTEM...]",
		Short: "Compare the data map with what the systems have, for CI",
		Long: `Compare the data map with the tables and columns that the systems really have: what is new, and what is gone. Run it in CI
against a database that the migrations were applied to. It reads catalogues only.

With --baseline, changed types and keys are found too; --save-baseline writes such a file after a review.

Exit code 3 when there is drift that a request would fail on. --ci prints SARIF, which code hosts show beside the map.`,
		Example: `  lethe drift --ci > drift.sarif
  lethe drift --save-baseline lethe.schema-baseline.json && lethe drift --baseline lethe.schema-baseline.json`,
		RunE: func(c *cobra.Command, args []string) error {
			old := baseline{}
			if against != "" {
				text, err := os.ReadFile(against)
				if err != nil {
					return usageError{err}
				}
				if err := json.Unmarshal(text, &old); err != nil {
					return usageError{fmt.Errorf("%s is not a baseline: write one with --save-baseline", against)}
				}
			}
			now, all, located := baseline{}, []systemFindings{}, []drift.Located{}
			err := eachSystem(c, args, false, func(ctx context.Context, s app.Opened) error {
				schema, err := s.Describe(ctx)
				if err != nil {
					return err
				}
				now[s.Name] = schema
				var before *connectors.Schema
				if b, ok := old[s.Name]; ok {
					before = &b
				}
				found := drift.Compare(s.System, schema, before)
				all = append(all, systemFindings{s.Name, append([]connectors.Finding{}, found...)})
				for _, f := range found {
					located = append(located, drift.Located{Finding: f, System: s.Name})
				}
				return nil
			})
			if err != nil {
				return err
			}
			if baseFile != "" {
				if err := saveBaseline(baseFile, now); err != nil {
					return err
				}
			}
			if ci {
				loaded, _, err := readMap(c)
				if err != nil {
					return err
				}
				err = drift.SARIF(c.OutOrStdout(), version(), filepath.ToSlash(loaded.Map), located)
				if err != nil {
					return err
				}
			} else if err := show(c, all, func(w io.Writer) {
				for _, s := range all {
					writeFindings(w, s)
				}
			}); err != nil {
				return err
			}
			for _, s := range all {
				if drift.Failed(s.Findings) {
					return errFindings
				}
			}
			return nil
		},
	}
	mapFlags(c)
	c.Flags().BoolVar(&ci, "ci", false, "print SARIF 2.1.0")
	c.Flags().StringVar(&against, "baseline", "", "`file` of the schema that the map was last reviewed against")
	c.Flags().StringVar(&baseFile, "save-baseline", "", "write the schema of now to this `file`")
	return c
}

func saveBaseline(path string, b baseline) error {
	text, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}
