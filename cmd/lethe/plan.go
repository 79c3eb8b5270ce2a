package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

func newPlanCommand() *cobra.Command {
	var (
		kind, tenant      string
		systems, purposes []string
	)
	c := &cobra.Command{
		Use:   "plan",
		Short: "Preview what a request would do, per entity and method",
		Long: `Search the systems of the data map for a person and print what a request would do: how many rows of each entity would be
deleted, masked or kept, and why. It reads only, files nothing and leaves nothing behind.

Exit code 3 when such a request would need attention.`,
		Example: "  lethe plan --email ada@example.com\n  lethe plan --kind access --identifier user_id=42",
		Args:    exactArgs(0),
	}
	identifiers := identifierFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ids, err := identifiers(c.InOrStdin())
		if err != nil {
			return err
		}
		loaded, text, err := readMap(c)
		if err != nil {
			return err
		}
		n := engine.NewRequest{
			Kind: dsr.Kind(kind), Tenant: tenant, Scope: dsr.Scope{Systems: systems, Purposes: purposes}, Verified: true,
		}
		for _, id := range ids {
			n.Identifiers = append(n.Identifiers, engine.RawIdentifier{Name: id.Name, Value: dsr.NewSecret(id.Value)})
		}
		p, err := app.Preview(c.Context(), &loaded, os.LookupEnv, text, n)
		if err != nil {
			return mapError(loaded.Map, err)
		}
		if err := show(c, p, func(w io.Writer) { writePreview(w, p) }); err != nil || len(p.Problems) == 0 {
			return err
		}
		return errFindings
	}
	mapFlags(c)
	f := c.Flags()
	f.StringVar(&kind, "kind", "erasure", "erasure or access")
	f.StringVar(&tenant, "tenant", "", "the controller on whose behalf data is held, where the map has tenants")
	f.StringSliceVar(&systems, "system", nil, "only this system; may be given several times")
	f.StringSliceVar(&purposes, "purpose", nil, "only this purpose; may be given several times")
	return c
}

func writePreview(w io.Writer, p *engine.Preview) {
	row(w, "SYSTEM", "ENTITY", "METHOD", "ROWS", "WHY IT STAYS")
	for _, l := range p.Lines {
		row(w, l.System, l.Entity, l.Method, l.Count, staysOf(l))
	}
	if len(p.Lines) == 0 {
		fmt.Fprintln(w, "Nothing was found.")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Learned)) {
		fmt.Fprintf(w, "Learned on the way: %d × %s\n", p.Learned[name], name)
	}
	for _, u := range p.Unsearched {
		fmt.Fprintln(w, "Not searched:", u)
	}
	for _, copied := range p.Copies {
		fmt.Fprintln(w, "Copy elsewhere:", copied.What, copied.Ends, copied.Recipient)
	}
	for _, problem := range p.Problems {
		fmt.Fprintln(w, "Problem:", problem.Code, problem.System, problem.Entity, problem.Hint)
	}
}
