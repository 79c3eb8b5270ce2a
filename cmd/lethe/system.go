package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
)

func newSystemCommand() *cobra.Command {
	c := &cobra.Command{Use: "system", Short: "Show the systems of the server's data map"}
	group(c)
	serverFlags(c)
	c.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List systems, their work and their last check",
		Args:  exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			list, err := client.Read[client.SystemList](api.ListSystems(c.Context()))
			if err != nil {
				return err
			}
			return show(c, list.Systems, func(w io.Writer) {
				row(w, "SYSTEM", "CONNECTOR", "ENTITIES", "PENDING", "FAILED", "FINDINGS", "PROBLEM")
				for _, s := range list.Systems {
					row(w, s.Name, s.Connector, s.Entities, s.Pending, s.Failed, len(s.Findings), given(s.Problem))
				}
			})
		},
	}, &cobra.Command{
		Use:   "check NAME",
		Short: "Let the server check one system now",
		Args:  exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			result, err := client.Read[client.CheckResult](api.CheckSystem(c.Context(), args[0]))
			if err != nil {
				return err
			}
			errors := 0
			err = show(c, result, func(w io.Writer) {
				for _, f := range result.Findings {
					row(w, f.Severity, f.Code, given(f.Entity), given(f.Field), f.Message)
				}
			})
			for _, f := range result.Findings {
				if f.Severity == "error" {
					errors++
				}
			}
			if err == nil && errors > 0 {
				return errFindings
			}
			return err
		},
	})
	return c
}
