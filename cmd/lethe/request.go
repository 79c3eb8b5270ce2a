package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/dsr"
)

func newRequestCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "request",
		Short: "File requests, follow them, decide about them",
		Long: `File requests, follow them, decide about them. Everything goes through the API with your own key (LETHE_API_KEY), so
that the timeline says who decided, and whoever filed a request cannot approve its plan.`,
	}
	group(c)
	serverFlags(c)
	c.AddCommand(
		newRequestNewCommand(), newRequestListCommand(), newRequestFindCommand(), newRequestShowCommand(), newRequestWatchCommand(),
		newRequestApproveCommand(), newRequestDownloadCommand(),
	)
	c.AddCommand(newDecisionCommands()...)
	return c
}

// identifierFlags let a person be named; a value of - is read from standard input, because others on the machine can
// read a command line.
func identifierFlags(c *cobra.Command) func(in io.Reader) (client.Identifiers, error) {
	var (
		email string
		named []string
	)
	c.Flags().StringVar(&email, "email", "", "the person's `address`; - reads it from standard input")
	c.Flags().StringArrayVar(&named, "identifier", nil, "`name=value` of another identifier of the data map; may be given several times")
	return func(in io.Reader) (client.Identifiers, error) {
		if email != "" {
			named = append([]string{"email=" + email}, named...)
		}
		if len(named) == 0 {
			return nil, usageError{errors.New("name the person: --email ADDRESS or --identifier name=value")}
		}
		lines := bufio.NewScanner(in)
		var ids client.Identifiers
		for _, n := range named {
			name, value, ok := strings.Cut(n, "=")
			if !ok || value == "" {
				return nil, usageError{errors.New("--identifier must be name=value")}
			}
			if value == "-" {
				if !lines.Scan() {
					return nil, usageError{errors.New("standard input holds no line for the identifier " + name)}
				}
				value = lines.Text()
			}
			ids = append(ids, client.Identifier{Name: name, Value: value})
		}
		return ids, nil
	}
}

func newRequestNewCommand() *cobra.Command {
	var (
		kind, tenant, received, ground, verified, language string
		systems, purposes                                  []string
		duplicate, wait                                    bool
	)
	c := &cobra.Command{
		Use:   "new",
		Short: "File a request",
		Example: `  lethe request new --kind erasure --email ada@example.com --verified session
  pass show customer | lethe request new --kind access --email - --verified email_code --wait`,
		Args: exactArgs(0),
	}
	identifiers := identifierFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ids, err := identifiers(c.InOrStdin())
		if err != nil {
			return err
		}
		body := client.NewRequest{
			Kind: client.Kind(kind), Identifiers: ids, Tenant: optional(tenant), Ground: optional(client.Ground(ground)),
			Language: optional(language), LinkDuplicate: optional(duplicate), Scope: scopeOf(systems, purposes),
		}
		if verified != "" {
			body.IdentityVerified, body.IdentityMethod = optional(true), optional(verified)
		}
		if received != "" {
			at, err := time.Parse(time.DateOnly, received)
			if err != nil {
				return usageError{errors.New("--received must be a day such as 2026-03-31")}
			}
			body.ReceivedAt = optional(at.Add(12 * time.Hour)) // noon: the same day in every European time zone
		}
		api, err := connect(c)
		if err != nil {
			return err
		}
		r, err := client.Read[client.Request](api.FileRequest(c.Context(), &client.FileRequestParams{}, body))
		if err != nil {
			return err
		}
		if wait {
			if r, err = follow(c, api, r.Id, untilPersonIsNeeded); err != nil {
				return err
			}
		}
		return showEnd(c, r)
	}
	f := c.Flags()
	f.StringVar(&kind, "kind", "", "access, rectification, erasure, restriction, portability or objection")
	f.StringVar(&verified, "verified", "", "you have verified who the subject is, by this `method`: session, email_code, in_person …")
	f.StringVar(&tenant, "tenant", "", "the controller on whose behalf data is held, where the map has tenants")
	f.StringSliceVar(&systems, "system", nil, "limit the request to a system; may be given several times")
	f.StringSliceVar(&purposes, "purpose", nil, "limit the request to a purpose; may be given several times")
	f.StringVar(&received, "received", "", "`day` on which it arrived, 2026-03-31; today when absent")
	f.StringVar(&ground, "ground", "", "letter of Art. 17(1) for an erasure: a to f")
	f.StringVar(&language, "language", "", "of the copy and the notices: en, sv, de …")
	f.BoolVar(&duplicate, "link-duplicate", false, "link to an open request of the same subject instead of refusing")
	f.BoolVar(&wait, "wait", false, "follow it until it has ended or needs a person")
	required(c, "kind")
	return c
}

func scopeOf(systems, purposes []string) *client.Scope {
	if len(systems)+len(purposes) == 0 {
		return nil
	}
	s := &client.Scope{}
	if len(systems) > 0 {
		s.Systems = &systems
	}
	if len(purposes) > 0 {
		s.Purposes = &purposes
	}
	return s
}

func newRequestListCommand() *cobra.Command {
	var (
		kind, tenant string
		states       []string
		all          bool
	)
	c := &cobra.Command{
		Use:   "list",
		Short: "List requests, nearest deadline first",
		Args:  exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			params := &client.ListRequestsParams{Kind: optional(client.Kind(kind)), Tenant: optional(tenant)}
			if len(states) > 0 {
				var in []client.State
				for _, s := range states {
					in = append(in, client.State(s))
				}
				params.State = &in
			}
			found := []client.Request{}
			for {
				page, err := client.Read[client.RequestPage](api.ListRequests(c.Context(), params))
				if err != nil {
					return err
				}
				found = append(found, page.Requests...)
				if params.Cursor = page.NextCursor; !all || given(params.Cursor) == "" {
					break
				}
			}
			return show(c, found, func(w io.Writer) {
				writeRequests(w, found)
				if given(params.Cursor) != "" {
					fmt.Fprintln(w, "There are more: --all")
				}
			})
		},
	}
	c.Flags().StringVar(&kind, "kind", "", "only this kind")
	c.Flags().StringSliceVar(&states, "state", nil, "only this state; may be given several times")
	c.Flags().StringVar(&tenant, "tenant", "", "only this tenant's")
	c.Flags().BoolVar(&all, "all", false, "every page, not only the first")
	return c
}

func writeRequests(w io.Writer, rs []client.Request) {
	row(w, "DUE", "REQUEST", "KIND", "STATE", "FILED BY", "REASON")
	for _, r := range rs {
		row(w, r.Clock.Due, r.Id, r.Kind, r.State, r.FiledBy, given(r.Reason))
	}
}

func newRequestFindCommand() *cobra.Command {
	return findCommand("request", "the requests of", func(c *cobra.Command, api *client.Client, id client.Identifier, tenant *client.Tenant) error {
		found, err := client.Read[client.RequestPage](api.SearchRequests(c.Context(), client.Search{Identifier: id, Tenant: tenant}))
		if err != nil {
			return err
		}
		return show(c, found.Requests, func(w io.Writer) { writeRequests(w, found.Requests) })
	})
}

// findCommand is a command that finds what belongs to one person.
func findCommand(
	of, what string, find func(c *cobra.Command, api *client.Client, id client.Identifier, tenant *client.Tenant) error,
) *cobra.Command {
	var tenant string
	c := &cobra.Command{
		Use:     "find",
		Short:   "Find " + what + " one person by an exact identifier",
		Example: "  lethe " + of + " find --email - < address.txt",
		Args:    exactArgs(0),
	}
	identifiers := identifierFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ids, err := identifiers(c.InOrStdin())
		if err != nil {
			return err
		}
		if len(ids) != 1 {
			return usageError{errors.New("name one identifier")}
		}
		api, err := connect(c)
		if err != nil {
			return err
		}
		return find(c, api, ids[0], optional(tenant))
	}
	c.Flags().StringVar(&tenant, "tenant", "", "the controller on whose behalf data is held, where the map has tenants")
	return c
}

// details is what show prints as JSON.
type details struct {
	Request *client.Request `json:"request"`
	Plan    *client.Plan    `json:"plan,omitempty"`
	Tasks   []client.Task   `json:"tasks"`
	Events  []client.Event  `json:"events"`
}

func newRequestShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a request, its plan, tasks and timeline",
		Args:  exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			d, err := readDetails(c.Context(), api, args[0])
			if err != nil {
				return err
			}
			return show(c, d, func(w io.Writer) { writeDetails(w, d) })
		},
	}
}

func readDetails(ctx context.Context, api *client.Client, id string) (*details, error) {
	r, err := client.Read[client.Request](api.GetRequest(ctx, id))
	if err != nil {
		return nil, err
	}
	d := &details{Request: r}
	if d.Plan, err = readPlan(ctx, api, id); err != nil {
		return nil, err
	}
	tasks, err := client.Read[client.TaskList](api.ListTasks(ctx, id))
	if err != nil {
		return nil, err
	}
	events, err := client.Read[client.EventPage](api.ListEvents(ctx, id, &client.ListEventsParams{}))
	if err != nil {
		return nil, err
	}
	d.Tasks, d.Events = tasks.Tasks, events.Events
	return d, nil
}

// readPlan returns nil when there is no Plan yet.
func readPlan(ctx context.Context, api *client.Client, id string) (*client.Plan, error) {
	p, err := client.Read[client.Plan](api.GetPlan(ctx, id))
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == 404 {
		return nil, nil
	}
	return p, err
}

func writeRequest(w io.Writer, r *client.Request) {
	row(w, "Request", r.Id)
	row(w, "Kind", r.Kind)
	row(w, "State", r.State)
	if given(r.Reason) != "" {
		row(w, "Reason", *r.Reason)
	}
	if given(r.Hint) != "" {
		row(w, "Hint", *r.Hint)
	}
	due := r.Clock.Due.String()
	if r.Clock.Paused {
		due += " (the clock is paused)"
	}
	row(w, "Due", due)
	row(w, "Filed by", r.FiledBy)
	if given(r.ApprovedBy) != "" {
		row(w, "Approved by", *r.ApprovedBy)
	}
}

func showRequest(c *cobra.Command, r *client.Request) error {
	return show(c, r, func(w io.Writer) { writeRequest(w, r) })
}

// showEnd is showRequest, with exit code 3 when the Request needs attention.
func showEnd(c *cobra.Command, r *client.Request) error {
	if err := showRequest(c, r); err != nil || r.State != client.StateNeedsAttention {
		return err
	}
	return errFindings
}

func writePlan(w io.Writer, lines []client.PlanLine) {
	row(w, "SYSTEM", "ENTITY", "METHOD", "UP TO", "WHY IT STAYS")
	for _, l := range lines {
		row(w, l.System, l.Entity, l.Method, l.Count, staysOfClient(l))
	}
}

func writeDetails(w io.Writer, d *details) {
	writeRequest(w, d.Request)
	if d.Plan != nil {
		fmt.Fprintf(w, "\nPlan %s\n", d.Plan.Hash)
		writePlan(w, d.Plan.Lines)
		for _, u := range d.Plan.Unsearched {
			fmt.Fprintln(w, "Not searched:", u)
		}
		for _, copied := range d.Plan.Copies {
			fmt.Fprintln(w, "Copy elsewhere:", copied.What, given(copied.Ends), given(copied.Recipient))
		}
	}
	fmt.Fprintln(w, "\nTasks")
	row(w, "SYSTEM", "PHASE", "STATE", "ROWS", "RESIDUE", "REASON")
	for _, t := range d.Tasks {
		var rows, residue int64
		if t.Receipt != nil {
			for _, l := range t.Receipt.Lines {
				rows += l.Count
			}
			residue = t.Receipt.Residue
		}
		row(w, t.System, t.Phase, t.State, rows, residue, given(t.Reason))
		if t.Residue == nil {
			continue
		}
		for _, left := range *t.Residue {
			if x := left.Waits; x != nil {
				fmt.Fprintf(w, "  %d of %s: %s\n", left.Count, left.Entity, stays{cause: dsr.Cause(x.Cause), ends: x.Ends})
			}
		}
	}
	fmt.Fprintln(w, "\nTimeline")
	for _, e := range d.Events {
		row(w, e.At.Format(time.RFC3339), e.Actor, e.Type, given(e.To))
	}
}

func newRequestWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a request until it has ended or needs a person",
		Long:  `Follow a request until it has ended (exit code 0), or waits for a person (exit code 3).`,
		Args:  exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			r, err := follow(c, api, args[0], untilPersonIsNeeded)
			if err != nil {
				return err
			}
			if err := showRequest(c, r); err != nil || r.State.Final() {
				return err
			}
			return errFindings
		},
	}
}

func untilPersonIsNeeded(s client.State) bool {
	switch s {
	case client.StateDiscovering, client.StateRunning, client.StateVerifying:
		return false
	}
	return true
}

// follow prints the timeline to standard error as it grows and returns the Request when enough says so of its state.
func follow(c *cobra.Command, api *client.Client, id string, enough func(client.State) bool) (*client.Request, error) {
	var after int64
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := client.Read[client.Request](api.GetRequest(c.Context(), id))
		if err != nil {
			return nil, err
		}
		events, err := client.Read[client.EventPage](api.ListEvents(c.Context(), id, &client.ListEventsParams{After: &after}))
		if err != nil {
			return nil, err
		}
		for _, e := range events.Events {
			after = e.Id
			fmt.Fprintln(c.ErrOrStderr(), e.At.Format(time.TimeOnly), e.Type, given(e.To))
		}
		if enough(r.State) {
			return r, nil
		}
		select {
		case <-c.Context().Done():
			return nil, c.Context().Err()
		case <-tick.C:
		}
	}
}

func newRequestApproveCommand() *cobra.Command {
	var hash string
	var wait bool
	c := &cobra.Command{
		Use:   "approve ID",
		Short: "Approve a request's plan",
		Long: `Approve a request's plan. Without --plan nothing is approved: the plan is printed with the command that approves exactly
it. Whoever filed the request cannot approve it.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			r, err := client.Read[client.Request](api.GetRequest(c.Context(), args[0]))
			if err != nil {
				return err
			}
			if hash == "" {
				p, err := client.Read[client.Plan](api.GetPlan(c.Context(), args[0]))
				if err != nil {
					return err
				}
				return show(c, p, func(w io.Writer) {
					writePlan(w, p.Lines)
					fmt.Fprintf(w, "\nNothing is approved yet. What is erased cannot be brought back. To approve this plan:\n"+
						"  lethe request approve %s --plan %s\n", p.Request, p.Hash)
				})
			}
			r, err = client.Read[client.Request](api.ApproveRequest(c.Context(), args[0],
				&client.ApproveRequestParams{IfMatch: r.ETag()}, client.Approval{PlanHash: hash}))
			if err != nil {
				return err
			}
			if wait {
				if r, err = follow(c, api, r.Id, untilPersonIsNeeded); err != nil {
					return err
				}
			}
			return showEnd(c, r)
		},
	}
	c.Flags().StringVar(&hash, "plan", "", "`hash` of the plan that you have read")
	c.Flags().BoolVar(&wait, "wait", false, "follow the request until it has ended or needs a person")
	return c
}

func newRequestDownloadCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "download ID",
		Short: "Download the copy of a subject's data",
		Long: `Download the copy of a subject's data, a zip file, through a one-time link. The download is logged. The file is written
readable by you only; it must not exist.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			if output == "" {
				output = args[0] + ".zip"
			}
			size, err := download(c.Context(), api, args[0], output)
			if err != nil {
				return err
			}
			return show(c, map[string]any{"file": output, "size": size}, func(w io.Writer) {
				fmt.Fprintf(w, "%s, %d bytes\n", output, size)
			})
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`file` to write (ID.zip)")
	return c
}

// download opens the file before it spends the link.
func download(ctx context.Context, api *client.Client, id, output string) (size int64, err error) {
	f, err := os.OpenFile(output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(output))
		}
	}()
	link, err := client.Read[client.PackageLink](api.CreatePackageLink(ctx, id, &client.CreatePackageLinkParams{}))
	if err != nil {
		return 0, err
	}
	address := given(link.Url)
	resp, err := api.DownloadPackage(ctx, address[strings.LastIndex(address, "/")+1:])
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if err := client.Check(resp); err != nil {
		return 0, err
	}
	if size, err = io.Copy(f, resp.Body); err != nil {
		return 0, fmt.Errorf("the download broke off, ask for it again: %w", err)
	}
	return size, nil
}
