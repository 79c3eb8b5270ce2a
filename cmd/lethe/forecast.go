package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
)

func newRetentionForecastCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forecast [RULE...]",
		Short: "Count what rules make due now, and in 7, 30 and 90 days",
		Long: `Count what rules make due now, and in 7, 30 and 90 days, and say what a sweep that is started now would meet. What is held
or blocked is not part of the counts. It reads only. What is due in an object or a file that cannot be read nobody knows; how
many of them there are, and why, is said beside what a sweep would meet: it does all the rest.

Exit code 3 when a rule could not be counted, or not in whole.`,
		Example: "  lethe retention forecast\n  lethe retention forecast shop.orders.accounting --json",
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			f, err := readForecast(c, api, args)
			if err != nil {
				return err
			}
			if err := show(c, f, func(w io.Writer) { writeForecast(w, f.Rules) }); err != nil {
				return err
			}
			for i := range f.Rules {
				if r := &f.Rules[i]; r.Problem != nil || unreadable(r) != "" {
					return errFindings
				}
			}
			return nil
		},
	}
}

func readForecast(c *cobra.Command, api *client.Client, rules []string) (*client.Forecast, error) {
	params := &client.ForecastRetentionParams{}
	if len(rules) > 0 {
		params.Rule = &rules
	}
	return client.Read[client.Forecast](api.ForecastRetention(c.Context(), params))
}

func writeForecast(w io.Writer, rules []client.RuleForecast) {
	row(w, "RULE", "ACTION", "NOW", "7 DAYS", "30 DAYS", "90 DAYS", "SIZE NOW", "HELD", "BLOCKED", "A SWEEP NOW")
	for i := range rules {
		r := &rules[i]
		cells := []any{r.Rule, r.Action}
		for n := range 4 {
			if n < len(r.Horizons) {
				cells = append(cells, thousands(r.Horizons[n].Free))
			} else {
				cells = append(cells, "?")
			}
		}
		if len(r.Horizons) > 0 {
			now := r.Horizons[0]
			goes := float64(now.Bytes) * float64(now.Free) / float64(max(1, now.Rows)) // of everything that is due
			cells = append(cells, size(int64(goes)), thousands(now.Held), blocked(now.Blocked, now.BlockedBy))
		} else {
			cells = append(cells, "?", "?", "?")
		}
		row(w, append(cells, meets(r))...)
	}
	if len(rules) == 0 {
		fmt.Fprintln(w, "The data map has no deletion rules.")
	}
}

// meets says what a sweep that is started now would meet.
func meets(r *client.RuleForecast) string {
	if r.Problem != nil {
		return "cannot be counted: " + *r.Problem
	}
	var parts []string
	if r.Would != nil {
		parts = append(parts, given(r.Hint))
	}
	if some := unreadable(r); some != "" {
		parts = append(parts, some)
	}
	return strings.Join(parts, "; ")
}

// unreadable says how much could not be read for what is due now, and why: "3 unreadable (2 unreadable-content, 1 log-file)".
func unreadable(r *client.RuleForecast) string {
	if r == nil || len(r.Horizons) == 0 || len(r.Horizons[0].Unreadable) == 0 {
		return ""
	}
	var all int64
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(r.Horizons[0].Unreadable)) {
		n := r.Horizons[0].Unreadable[code]
		all += n
		parts = append(parts, thousands(n)+" "+code)
	}
	return thousands(all) + " unreadable (" + strings.Join(parts, ", ") + ")"
}

func blocked(n int64, by []string) string {
	if n == 0 || len(by) == 0 {
		return thousands(n)
	}
	return thousands(n) + " by " + strings.Join(by, ", ")
}

func newRetentionSimulateCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Compare what a changed data map would delete with what the present one does",
		Long: `Compare what the rules of a changed data map make due now with what those of the server's present map do, on real counts:
for the pull request that changes the map. It reads only, and the server keeps nothing of the map.

Exit code 3 when a rule could not be counted, or not in whole, or check finds an error that would stop it.`,
		Example: "  lethe retention simulate --map lethe.yaml",
		Args:    exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := os.ReadFile(file)
			if err != nil {
				return usageError{err}
			}
			api, err := connect(c)
			if err != nil {
				return err
			}
			sim, err := client.Read[client.Simulation](
				api.SimulateRetention(c.Context(), client.NewSimulation{Map: string(text)}))
			if err != nil {
				return refusedMap(file, err)
			}
			if err := show(c, sim, func(w io.Writer) { writeSimulation(w, sim) }); err != nil {
				return err
			}
			for _, d := range sim.Rules {
				if problemOf(&d) != "" {
					return errFindings
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&file, "map", "", "`file` of the changed data map")
	required(c, "map")
	return c
}

// refusedMap says what the server has against a data map as check does.
func refusedMap(file string, err error) error {
	var refused *client.Refused
	if !errors.As(err, &refused) || given(refused.Field) != "map" || refused.Errors == nil {
		return err
	}
	var faults []string
	for _, f := range *refused.Errors {
		faults = append(faults, f.Message)
	}
	return usageError{fmt.Errorf("%s is not a valid data map:\n%s", file, strings.Join(faults, "\n"))}
}

func writeSimulation(w io.Writer, sim *client.Simulation) {
	row(w, "RULE", "CHANGE", "DUE NOW", "WITH THE CHANGED MAP", "DIFFERENCE", "PROBLEM")
	for _, d := range sim.Rules {
		before, knownBefore := dueNow(d.Before)
		after, knownAfter := dueNow(d.After)
		difference := "?"
		if knownBefore && knownAfter {
			difference = signed(after - before)
		}
		row(w, d.Rule, d.Change, unless(!knownBefore, before), unless(!knownAfter, after), difference, problemOf(&d))
	}
	fmt.Fprintf(w, "\nCompared with version %d of the data map. Nothing was changed.\n", sim.MapVersion)
}

// problemOf says why a rule could not be counted, or not in whole, or what check has against it under the changed map.
func problemOf(d *client.RuleDifference) string {
	if f := d.After; f != nil && f.Problem == nil && f.Would != nil {
		return *f.Would + ": " + given(f.Hint)
	}
	for _, f := range []*client.RuleForecast{d.After, d.Before} {
		if f != nil && f.Problem != nil {
			return *f.Problem
		}
		if some := unreadable(f); some != "" {
			return some
		}
	}
	return ""
}

// dueNow is what a rule may delete now; a rule that is not there deletes nothing.
func dueNow(f *client.RuleForecast) (n int64, known bool) {
	switch {
	case f == nil:
		return 0, true
	case len(f.Horizons) == 0:
		return 0, false
	}
	return f.Horizons[0].Free, true
}

func unless(unknown bool, n int64) string {
	if unknown {
		return "?"
	}
	return thousands(n)
}

func signed(n int64) string {
	if n > 0 {
		return "+" + thousands(n)
	}
	return thousands(n)
}

// thousands writes a count as people read it: 41,200.
func thousands(n int64) string {
	s, sign := strconv.FormatInt(n, 10), ""
	if n < 0 {
		s, sign = s[1:], "-"
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// size writes an estimate of bytes; nothing when it is not known.
func size(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	value, unit := float64(bytes), "B"
	for _, next := range []string{"kB", "MB", "GB", "TB"} {
		if value < 1000 {
			break
		}
		value, unit = value/1000, next
	}
	return fmt.Sprintf("%.3g %s", value, unit)
}
