package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lethe-gdpr/lethe/client"
)

// work files both requests, one after the other, sweeps what is due, and adds the table that the map forgets.
func (d *demo) work(ctx context.Context) (*Result, error) {
	d.say("\nThe person: %s, known to us by one e-mail address.\n", SubjectEmail)

	d.say("\n1. They ask for a copy of their data (Art. 15). The agent files it, the officer approves.\n")
	access, err := d.carryOut(ctx, client.KindAccess)
	if err != nil {
		return nil, err
	}
	out := &Result{Access: AccessResult{State: access.request.State}}
	if access.request.State.Final() {
		if err := d.fetchPackage(ctx, access.request.Id, &out.Access); err != nil {
			return nil, err
		}
	}

	d.say("\n2. They ask to be erased (Art. 17). The agent files it, the officer approves the plan.\n")
	erasure, err := d.carryOut(ctx, client.KindErasure)
	if err != nil {
		return nil, err
	}
	out.Erasure = erasure.result()
	d.sayErasure(erasure, &out.Erasure)
	d.say("\n3. At night, retention: nothing stays past its time, nothing goes before it.\n")
	kept, err := d.retain(ctx)
	if err != nil {
		return nil, err
	}
	out.Retention = *kept
	for _, name := range []string{HelpdeskFile, AnalyticsFile} {
		if err := vacuum(ctx, d.file(name)); err != nil {
			return nil, fmt.Errorf("vacuum %s: %w", name, err)
		}
	}

	d.say("\n4. A later deployment adds a table that nobody told the map about. lethe check:\n")
	if err := addForgottenTable(ctx, d.file(HelpdeskFile), time.Now().UTC()); err != nil {
		return nil, fmt.Errorf("add the forgotten table: %w", err)
	}
	return out, d.check(ctx)
}

// carried is a Request that was followed to where it stands.
type carried struct {
	request *client.Request
	plan    *client.Plan
	tasks   []client.Task
}

// carryOut files a Request with the agent's key, approves its Plan with the officer's, and follows it to its end.
func (d *demo) carryOut(ctx context.Context, kind client.Kind) (*carried, error) {
	verified, method := true, "session"
	r, err := client.Read[client.Request](d.agent.FileRequest(ctx, &client.FileRequestParams{}, client.NewRequest{
		Kind: kind, Identifiers: client.Identifiers{{Name: "email", Value: SubjectEmail}},
		IdentityVerified: &verified, IdentityMethod: &method,
	}))
	if err != nil {
		return nil, err
	}
	d.say("   %s  %s\n", r.Id, "due "+r.Clock.Due.String())
	c := &carried{request: r}
	var seen int64
	for {
		if c.request, seen, err = d.progress(ctx, r.Id, seen); err != nil {
			return nil, err
		}
		switch s := c.request.State; {
		case s == client.StateAwaitingReview:
			if err := d.approve(ctx, c); err != nil {
				return nil, err
			}
		case s.Final(), s == client.StateNeedsAttention, s == client.StateDeferred:
			tasks, err := client.Read[client.TaskList](d.agent.ListTasks(ctx, r.Id))
			if err != nil {
				return nil, err
			}
			c.tasks = tasks.Tasks
			if s == client.StateNeedsAttention {
				d.say("   %s: %s %s\n", s, given(c.request.Reason), given(c.request.Hint))
			}
			return c, nil
		}
	}
}

// pollEvery is how often the demo looks, which is what a person would call live.
const pollEvery = 50 * time.Millisecond

// progress waits a moment and prints what is new in the timeline.
func (d *demo) progress(ctx context.Context, id string, seen int64) (*client.Request, int64, error) {
	select {
	case <-ctx.Done():
		return nil, seen, ctx.Err()
	case <-time.After(pollEvery):
	}
	r, err := client.Read[client.Request](d.agent.GetRequest(ctx, id))
	if err != nil {
		return nil, seen, err
	}
	page, err := client.Read[client.EventPage](d.agent.ListEvents(ctx, id, &client.ListEventsParams{After: &seen}))
	if err != nil {
		return nil, seen, err
	}
	for _, e := range page.Events {
		seen = e.Id
		d.say("   %s  %-8s  %-18s%s\n", e.At.Format("15:04:05.000"), e.Actor, e.Type, detailText(e))
	}
	return r, seen, nil
}

// detailText is what a reader wants of an event: the counts of a System, not hashes, and not the sum at the end, which
// is printed in words.
func detailText(e client.Event) string {
	if given(e.To) != given(e.From) && client.State(given(e.To)).Final() {
		return ""
	}
	s := ""
	for _, k := range slices.Sorted(maps.Keys(e.Detail)) {
		if v := e.Detail[k]; len(v) <= 20 && k != "by" && k != "round" {
			s += "  " + k + "=" + v
		}
	}
	return s
}

func (d *demo) approve(ctx context.Context, c *carried) error {
	plan, err := client.Read[client.Plan](d.dpo.GetPlan(ctx, c.request.Id))
	if err != nil {
		return err
	}
	c.plan = plan
	d.say("   The plan:\n")
	w := tabwriter.NewWriter(d.out, 0, 4, 2, ' ', 0)
	for _, l := range plan.Lines {
		fmt.Fprintf(w, "     %s.%s\t%s\t%d\t%s\n", l.System, l.Entity, l.Method, l.Count, why(l.Exception))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = client.Read[client.Request](d.dpo.ApproveRequest(ctx, c.request.Id,
		&client.ApproveRequestParams{IfMatch: c.request.ETag()}, client.Approval{PlanHash: plan.Hash}))
	return err
}

func why(e *client.Exception) string {
	if e == nil {
		return ""
	}
	if e.Cause != nil && *e.Cause == client.CauseRetention {
		s := "cannot be deleted singly"
		if e.Ends != nil {
			s += ": its log group's own retention removes it, by " + e.Ends.Format(time.DateOnly)
		}
		return s
	}
	s := "stays: Art. " + e.Article
	if e.Statute != nil {
		s += ", " + *e.Statute
	}
	if e.Ends != nil {
		s += ", until " + e.Ends.Format(time.DateOnly)
	} else if e.Class != nil {
		s += ", ends with the rule " + *e.Class
	}
	return s
}

func given(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// result sums up the receipts of an erasure.
func (c *carried) result() ErasureResult {
	out := ErasureResult{State: c.request.State, Systems: []string{}, DeferredUntil: c.request.DeferredUntil}
	if c.plan != nil {
		for _, l := range c.plan.Lines {
			out.Found += l.Count
		}
	}
	for _, t := range c.tasks {
		out.Systems = append(out.Systems, t.System)
		if t.Receipt == nil {
			continue
		}
		out.Residue += t.Receipt.Residue
		for _, l := range t.Receipt.Lines {
			switch l.Method {
			case client.MethodDelete:
				out.Deleted += l.Count
			case client.MethodKeep:
				out.Kept += l.Count
			case client.MethodExpire:
				out.Expiring += l.Count
			case client.MethodMask, client.MethodRedact, client.MethodRelease, client.MethodAnchor:
				out.Pseudonymized += l.Count
			}
		}
	}
	slices.Sort(out.Systems)
	return out
}

func (d *demo) sayErasure(c *carried, r *ErasureResult) {
	d.say("   %s: %d found in %s; %d deleted, %d changed, %d kept, %d expire; searched again: %d left.\n",
		r.State, r.Found, strings.Join(r.Systems, ", "), r.Deleted, r.Pseudonymized, r.Kept, r.Expiring, r.Residue)
	if r.DeferredUntil != nil {
		d.say("   They are answered now. On %s Lethe searches once more for what expires, then forgets who it was.\n",
			r.DeferredUntil.Format(time.DateOnly))
	}
	if c.plan == nil {
		return
	}
	for _, l := range c.plan.Lines {
		if l.Exception != nil {
			d.say("   %s.%s %s\n", l.System, l.Entity, why(l.Exception))
		}
	}
	for _, e := range c.plan.Copies {
		d.say("   Still in %s of %s, which end %s after the erasure.\n", e.What, given(e.System), given(e.Ends))
	}
}

// fetchPackage downloads the copy through a one-time link that the officer makes.
func (d *demo) fetchPackage(ctx context.Context, id string, out *AccessResult) (err error) {
	info, err := client.Read[client.Package](d.dpo.GetPackage(ctx, id))
	if err != nil {
		return err
	}
	link, err := client.Read[client.PackageLink](d.dpo.CreatePackageLink(ctx, id, &client.CreatePackageLinkParams{}))
	if err != nil {
		return err
	}
	address := given(link.Url)
	resp, err := d.dpo.DownloadPackage(ctx, address[strings.LastIndex(address, "/")+1:])
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := client.Check(resp); err != nil {
		return err
	}
	f, err := os.OpenFile(d.file(PackageFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	out.Package, out.Records = d.file(PackageFile), info.Records
	d.say("   completed: %d records in %s (open its index.html: it works offline).\n", out.Records, out.Package)
	return nil
}

func (d *demo) check(ctx context.Context) error {
	result, err := client.Read[client.CheckResult](d.agent.CheckSystem(ctx, "helpdesk"))
	if err != nil {
		return err
	}
	for _, f := range result.Findings {
		place := strings.TrimSuffix(given(f.Entity)+"."+given(f.Field), ".")
		d.say("   %s: %s: %s\n", f.Severity, place, f.Message)
		if given(f.Hint) != "" {
			d.say("     %s\n", *f.Hint)
		}
	}
	return nil
}

// tryThis prints commands for whoever wants to go on. What they need to know, secrets among it, is in a file.
func (d *demo) tryThis(url string) error {
	env := fmt.Sprintf("export LETHE_SERVER='%s' LETHE_API_KEY_FILE='%s' LETHE_MAP='%s' LETHE_DATA='%s'\n",
		url, d.file("agent.key"), d.file(MapFile), d.file(dataFolder))
	for _, name := range variables {
		value, _ := d.env(name)
		env += fmt.Sprintf("export %s='%s'\n", name, value)
	}
	if err := os.WriteFile(d.file(EnvFile), []byte(env), 0o600); err != nil {
		return err
	}
	d.say(`
Lethe keeps serving on %[1]s until you press Ctrl-C. To try in another terminal:

  . %[2]s
  %[3]s request list
  %[3]s plan --email customer7@example.com
  %[3]s retention forecast
  %[3]s hold list

A new request now stops in needs_attention, because of the forgotten table. Tell the map about it, under entities of
helpdesk, let Lethe read it again, and carry a request out yourself:

  sed -i 's|^      invoices:|      newsletter_signups: {owned_by: {customer_id: customers}, fields: {email: {identifier: email}}, not_personal: [created_at], erase: delete}\n&|' %[4]s
  %[3]s check
  kill -HUP %[6]d
  %[3]s request new --kind erasure --email customer7@example.com --verified session --wait
  LETHE_API_KEY_FILE=%[5]s %[3]s request approve ID
`, url, d.file(EnvFile), d.o.Lethe, d.file(MapFile), d.file("officer.key"), os.Getpid())
	return nil
}
