package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
)

func newRetentionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "retention",
		Short: "See what deletion rules would do, approve them, stop them",
		Long: `See what the deletion rules of the data map would do before they do it, approve them, pause them, stop them all. A rule
that is new or has changed deletes nothing before a person has approved it. ` + "`lethe sweep RULE`" + ` carries one out.`,
		Example: `  lethe retention forecast
  lethe retention approve shop.orders.accounting
  lethe retention stop --reason incident`,
	}
	group(c)
	serverFlags(c)
	c.AddCommand(
		newRetentionRulesCommand(), newRetentionForecastCommand(), newRetentionSimulateCommand(), newRetentionApproveCommand(),
		newRetentionSweepsCommand(), newRetentionApproveSweepCommand(), newRetentionStopCommand(),
		newRuleCommand("pause", "Stop a rule's sweep within a second and let none begin",
			func(ctx context.Context, api *client.Client, rule string) (*http.Response, error) {
				return api.PauseRule(ctx, rule)
			}),
		newRuleCommand("resume", "Let a paused rule go on where it was",
			func(ctx context.Context, api *client.Client, rule string) (*http.Response, error) {
				return api.ResumeRule(ctx, rule)
			}),
		&cobra.Command{
			Use:   "start",
			Short: "Let sweeps go on that `stop` stopped",
			Args:  exactArgs(0),
			RunE: func(c *cobra.Command, _ []string) error {
				api, err := connect(c)
				if err != nil {
					return err
				}
				return showStatus(c, func() (*http.Response, error) { return api.StartSweeps(c.Context()) })
			},
		},
	)
	return c
}

func newRetentionRulesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rules",
		Short: "List the deletion rules and where they stand",
		Args:  exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			return showStatus(c, func() (*http.Response, error) { return api.ListRules(c.Context()) })
		},
	}
}

func newRetentionStopCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "stop",
		Short: "Stop every sweep within a second and let none begin",
		Args:  exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			return showStatus(c, func() (*http.Response, error) {
				return api.StopSweeps(c.Context(), client.SweepStop{Reason: reason})
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "operator", "a short code, for example incident; not free text")
	return c
}

func showStatus(c *cobra.Command, call func() (*http.Response, error)) error {
	st, err := client.Read[client.RetentionStatus](call())
	if err != nil {
		return err
	}
	return show(c, st, func(w io.Writer) { writeStatus(w, st) })
}

func writeStatus(w io.Writer, st *client.RetentionStatus) {
	row(w, "RULE", "PERIOD", "FROM", "START", "ACTION", "DUE", "HELD", "BLOCKED", "NEXT RUN")
	for i := range st.Rules {
		r := &st.Rules[i]
		row(w, r.Name, r.Period, r.From, startOf(r.Start), r.Action, counted(r.Due), counted(r.Held), counted(r.Blocked),
			standing(r, st.Stopped != nil))
	}
	if len(st.Rules) == 0 {
		fmt.Fprintln(w, "The data map has no deletion rules.")
	}
	if s := st.Stopped; s != nil {
		fmt.Fprintf(w, "\nEvery sweep is stopped since %s by %s (%s). `lethe retention start` lets them go on.\n",
			s.At.Format(time.RFC3339), s.By, s.Reason)
	}
}

// startOf is a starting point in a few words.
func startOf(s client.RuleStart) string {
	if s.Latest != nil {
		parts := *s.Latest
		if s.Field != nil {
			parts = append([]string{*s.Field}, parts...)
		}
		return "latest of " + strings.Join(parts, ", ")
	}
	if s.Field != nil {
		return *s.Field
	}
	return string(s.Kind)
}

// standing is when a rule runs next, or why it does not.
func standing(r *client.Rule, stopped bool) string {
	switch {
	case r.Action == client.ActionNext:
		return "with the rules after it"
	case r.PausedAt != nil:
		return "paused by " + given(r.PausedBy)
	case r.NeedsApproval:
		return "waits for approval"
	case stopped:
		return "stopped"
	case r.NextRun != nil:
		return r.NextRun.Format(time.DateTime)
	}
	return ""
}

func newRuleCommand(
	verb, short string, call func(ctx context.Context, api *client.Client, rule string) (*http.Response, error),
) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " RULE",
		Short: short,
		Args:  exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			return showRule(c, api, func() (*http.Response, error) { return call(c.Context(), api, args[0]) })
		},
	}
}

// showRule shows a rule after a decision about it, and that every sweep is stopped where that keeps it from running.
func showRule(c *cobra.Command, api *client.Client, call func() (*http.Response, error)) error {
	r, err := client.Read[client.Rule](call())
	if err != nil {
		return err
	}
	all, err := client.Read[client.RetentionStatus](api.ListRules(c.Context()))
	if err != nil {
		return err
	}
	return show(c, r, func(w io.Writer) {
		writeStatus(w, &client.RetentionStatus{Rules: []client.Rule{*r}, Stopped: all.Stopped})
	})
}

func newRetentionApproveCommand() *cobra.Command {
	var hash string
	c := &cobra.Command{
		Use:   "approve RULE",
		Short: "Approve a new or changed rule (disposition review)",
		Long: `Approve a rule that is new or has changed. Without --hash nothing is approved: what it makes due is printed with the
command that approves exactly this rule. It then runs at its next scheduled time.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			if hash != "" {
				return showRule(c, api, func() (*http.Response, error) {
					return api.ApproveRule(c.Context(), args[0], client.RuleApproval{Hash: hash})
				})
			}
			r, err := client.Read[client.Rule](api.GetRule(c.Context(), args[0]))
			if err != nil {
				return err
			}
			f, err := readForecast(c, api, args)
			if err != nil {
				return err
			}
			return show(c, map[string]any{"rule": r, "forecast": f}, func(w io.Writer) {
				writeForecast(w, f.Rules)
				fmt.Fprintf(w, "\nNothing is approved yet. What is deleted cannot be brought back. To approve this rule:\n"+
					"  lethe retention approve %s --hash %s\n", r.Name, r.Hash)
			})
		},
	}
	c.Flags().StringVar(&hash, "hash", "", "the rule that you have seen")
	return c
}

func counted(n *int64) string {
	if n == nil {
		return ""
	}
	return thousands(*n)
}
