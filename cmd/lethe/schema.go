package main

import (
	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/datamap"
)

func newSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the data map, for editors",
		Long: `Print the JSON Schema of the data map. Editors that know the YAML language server use it after this first line of a map:
  # yaml-language-server: $schema=./lethe.schema.json`,
		Example: "  lethe schema > lethe.schema.json",
		Args:    exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := datamap.JSONSchema(app.Kinds())
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(append(text, '\n'))
			return err
		},
	}
}
