package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
)

func newSweepCommand() *cobra.Command {
	var now, dryRun, wait bool
	c := &cobra.Command{
		Use:   "sweep RULE",
		Short: "Carry out a deletion rule",
		Long: `Carry out a deletion rule of the data map: delete or pseudonymise what is due, minus what is held or blocked, gently and
within the rule's caps. Every night this happens by itself. Where a sweep of the rule is under way, it is that one.

Exit code 3 when it is over a cap and stopped, or has failed.`,
		Example: `  lethe sweep shop.orders.accounting --dry-run
  lethe sweep shop.orders.accounting --now --wait`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			order := client.SweepOrder{Now: optional(now), DryRun: optional(dryRun)}
			resp, err := api.StartSweep(c.Context(), args[0], &client.StartSweepParams{}, order)
			if dryRun {
				f, err := client.Read[client.RuleForecast](resp, err)
				if err != nil {
					return err
				}
				return show(c, f, func(w io.Writer) {
					writeForecast(w, []client.RuleForecast{*f})
					fmt.Fprintln(w, "\nNothing was deleted.")
				})
			}
			s, err := client.Read[client.Sweep](resp, err)
			if err == nil && wait {
				s, err = followSweep(c.Context(), api, s)
			}
			if err != nil {
				return err
			}
			return showSweepEnd(c, s)
		},
	}
	serverFlags(c)
	c.Flags().BoolVar(&now, "now", false, "outside the nightly window too")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "count only")
	c.Flags().BoolVar(&wait, "wait", false, "follow it until it has ended or needs a person")
	return c
}

// followSweep returns the Sweep when it no longer works.
func followSweep(ctx context.Context, api *client.Client, s *client.Sweep) (*client.Sweep, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for s.State == client.SweepStateRunning {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		var err error
		if s, err = client.Read[client.Sweep](api.GetSweep(ctx, s.Id)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func showSweepEnd(c *cobra.Command, s *client.Sweep) error {
	err := show(c, s, func(w io.Writer) { writeSweep(w, s) })
	if err != nil || s.State != client.SweepStateStopped && s.State != client.SweepStateFailed {
		return err
	}
	return errFindings
}

// done is how many of the due rows a sweep handled by a method: those of its own entity, so that they add up to what was
// due.
func done(s *client.Sweep, method client.Method) int64 {
	var n int64
	for _, l := range s.Results {
		if l.Entity == s.Entity && l.Method == method {
			n += l.Count
		}
	}
	return n
}

// with says which rows of other entities went with those that were due, or changed because of them.
func with(s *client.Sweep) string {
	var parts []string
	for _, l := range s.Results {
		if l.Entity != s.Entity && l.Count > 0 && l.Method != client.MethodHeld && l.Method != client.MethodBlocked {
			part := thousands(l.Count) + " " + l.Entity
			if l.Method != client.MethodDelete {
				part += " (" + string(l.Method) + ")"
			}
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}

func writeSweep(w io.Writer, s *client.Sweep) {
	if given(s.Hint) != "" {
		fmt.Fprintln(w, *s.Hint)
	}
	row(w, "Sweep", s.Id)
	row(w, "Rule", s.Rule)
	row(w, "State", s.State)
	if given(s.Reason) != "" {
		row(w, "Reason", *s.Reason)
	}
	row(w, "Started by", s.StartedBy)
	row(w, "Starts before", s.Before.Format(time.RFC3339))
	row(w, "Due", unless(s.Due == nil, given(s.Due)))
	row(w, "Deleted", thousands(done(s, client.MethodDelete)))
	if along := with(s); along != "" {
		row(w, "With them", along)
	}
	row(w, "Pseudonymised", thousands(done(s, client.MethodMask)))
	row(w, "Held", thousands(s.Held))
	row(w, "Blocked", blocked(s.Blocked, s.BlockedBy))
	if n := done(s, client.MethodFailed); n > 0 {
		row(w, "Failed", thousands(n))
	}
	if s.Left != nil {
		row(w, "Still due", thousands(*s.Left))
	}
	m := s.Measures
	if m.Transactions > 0 {
		row(w, "Freed", size(m.Bytes))
		row(w, "Worked", fmt.Sprintf("%.1f s in %s transactions, the longest %.0f ms",
			m.WorkedSeconds, thousands(m.Transactions), 1000*m.LongestSeconds))
	}
	for _, why := range slices.Sorted(maps.Keys(m.PausedSeconds)) {
		row(w, "Waited", fmt.Sprintf("%.1f s: %s", m.PausedSeconds[why], why))
	}
	if s.State == client.SweepStateStopped && s.Due != nil {
		fmt.Fprintf(w, "\nTo let it delete what is due, this once:\n  lethe retention approve-sweep %s --due %d\n", s.Id, *s.Due)
	}
}

func writeSweeps(w io.Writer, all []client.Sweep) {
	row(w, "STARTED", "SWEEP", "RULE", "STATE", "DUE", "DELETED", "PSEUDONYMISED", "HELD", "BLOCKED", "WHAT HAPPENED")
	for i := range all {
		s := &all[i]
		row(w, s.CreatedAt.Format(time.DateTime), s.Id, s.Rule, s.State, unless(s.Due == nil, given(s.Due)),
			thousands(done(s, client.MethodDelete)), thousands(done(s, client.MethodMask)), thousands(s.Held),
			blocked(s.Blocked, s.BlockedBy), given(s.Hint))
	}
}

func newRetentionApproveSweepCommand() *cobra.Command {
	var due int64
	c := &cobra.Command{
		Use:   "approve-sweep SWEEP",
		Short: "Let a sweep go on, this once, that is stopped over a cap",
		Long: `Let a sweep go on that is stopped over a cap. Without --due nothing is approved: the sweep is printed with the command that
approves exactly its count.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			s, err := client.Read[client.Sweep](api.GetSweep(c.Context(), args[0]))
			if err == nil && due > 0 {
				s, err = client.Read[client.Sweep](api.ApproveSweep(c.Context(), s.Id,
					&client.ApproveSweepParams{IfMatch: client.ETag(s.Version)}, client.SweepApproval{Due: due}))
			}
			if err != nil {
				return err
			}
			return show(c, s, func(w io.Writer) { writeSweep(w, s) })
		},
	}
	c.Flags().Int64Var(&due, "due", 0, "the count that you have seen")
	return c
}

func newRetentionSweepsCommand() *cobra.Command {
	var (
		rule, system string
		states       []string
		all          bool
	)
	c := &cobra.Command{
		Use:   "sweeps [SWEEP]",
		Short: "List sweeps, newest first, or show one",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("name one sweep, or none for all")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				s, err := client.Read[client.Sweep](api.GetSweep(c.Context(), args[0]))
				if err != nil {
					return err
				}
				return show(c, s, func(w io.Writer) { writeSweep(w, s) })
			}
			params := &client.ListSweepsParams{Rule: optional(rule), System: optional(system)}
			if len(states) > 0 {
				var in []client.SweepState
				for _, s := range states {
					in = append(in, client.SweepState(s))
				}
				params.State = &in
			}
			found := []client.Sweep{}
			for {
				page, err := client.Read[client.SweepPage](api.ListSweeps(c.Context(), params))
				if err != nil {
					return err
				}
				found = append(found, page.Sweeps...)
				if params.Cursor = page.NextCursor; !all || given(params.Cursor) == "" {
					break
				}
			}
			return show(c, found, func(w io.Writer) {
				writeSweeps(w, found)
				if given(params.Cursor) != "" {
					fmt.Fprintln(w, "There are more: --all")
				}
			})
		},
	}
	c.Flags().StringVar(&rule, "rule", "", "only this rule's")
	c.Flags().StringVar(&system, "system", "", "only this system's")
	c.Flags().StringSliceVar(&states, "state", nil, "running, paused, stopped, done, failed or ended; may be given several times")
	c.Flags().BoolVar(&all, "all", false, "every page, not only the first")
	return c
}
