package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/internal/app"
)

func newGrantsCommand() *cobra.Command {
	var principal string
	c := &cobra.Command{
		Use:   "grants [SYSTEM...]",
		Short: "Print the least privilege that Lethe needs in each system",
		Long: `Print the statements that give Lethe's user in each system the rights that the data map needs, and no more. Read them,
then run them as the system's administrator.`,
		Example: "  lethe grants --for lethe shop > grants.sql",
		RunE: func(c *cobra.Command, args []string) error {
			return eachSystem(c, args, false, func(ctx context.Context, s app.Opened) error {
				g, ok := s.Connector.(connectors.Granter)
				if !ok {
					fmt.Fprintf(c.OutOrStdout(), "-- %s: %s has no rights of its own to grant\n", s.Name, s.System.Connector)
					return nil
				}
				text, err := g.Grants(ctx, principal)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "-- %s\n%s\n", s.Name, text)
				return err
			})
		},
	}
	mapFlags(c)
	c.Flags().StringVar(&principal, "for", "lethe", "name of Lethe's `user` in the system")
	return c
}
