package connectortest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// law is a minimum of two years from a day in a row's column since; a row without one has not begun it.
func law(when ...dsr.Condition) connectors.Rule {
	return connectors.Rule{Rule: retention.Rule{
		Name: "law", Action: retention.Delete, When: when,
		Class: retention.Class{Name: "law", Period: retention.Period{Years: 3}, Minimum: retention.Period{Years: 2}, Start: retention.EndOfProcess},
		Start: retention.StartingPoint{Kind: retention.StartField, Field: "since", Null: retention.NullKeep},
	}}
}

// lawDay is the day on which the cases of minima begin.
func lawDay(zone *time.Location) time.Time { return time.Date(2030, 6, 1, 9, 0, 0, 0, zone) }

// since gives each row of the tables one of some days; an empty one is none.
func since(d Dataset, days ...string) Dataset {
	out := Dataset{Tables: slices.Clone(d.Tables)}
	for i := range out.Tables {
		t := &out.Tables[i]
		t.Columns = append(slices.Clone(t.Columns), optional(day("since")))
		t.Rows = slices.Clone(t.Rows)
		for n := range t.Rows {
			t.Rows[n] = maps.Clone(t.Rows[n])
			if start := days[n%len(days)]; start != "" {
				t.Rows[n]["since"] = start
			}
		}
	}
	return out
}

// openOn opens the connector with a clock that stands on a day.
func (w *world) openOn(t *testing.T, today time.Time) connectors.Connector {
	t.Helper()
	c := w.Open(t, private(w.sys), connectors.Options{Pseudonyms: keyring{}, Now: func() time.Time { return today }}, w.chunk)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// testMinimum: rows whose statutory minimum has not ended stay as they are, wait, and go when it has; all else goes at once.
func testMinimum(t *testing.T, b Backend) {
	sys, d := b.sample()
	zone := time.FixedZone("", 2*60*60)
	sys.Zone = zone
	w := setup(t, b, sys, since(d, "2029-01-15", "2020-02-29", "2030-05-01", ""))
	some := dsr.Condition{Field: "id", Values: []string{"1", "3", "4", "1001"}}
	var list []string
	for _, e := range sys.Entities {
		list = append(list, e.Name)
	}
	for _, name := range list {
		for _, chunk := range []int{0, 1} {
			rules := map[string][]connectors.Rule{"all": {law()}}
			if name != "memberships" {
				rules["some"] = []connectors.Rule{law(some)}
			}
			for which, rule := range rules {
				t.Run(fmt.Sprintf("%s %s, chunk %d", which, name, chunk), func(t *testing.T) {
					w := *w
					w.Load(t, w.data)
					w.sys, w.chunk = private(sys), chunk
					w.sys.Entity(name).Rules = rule
					w.minimum(t, name)
				})
			}
		}
	}
}

// minimum erases two people while rows of an entity are under a minimum, when the first of them no longer is, and when
// only those are whose period has not begun.
func (w *world) minimum(t *testing.T, entity string) {
	t.Helper()
	on := func(y int, m time.Month, d, hour int) time.Time { return time.Date(y, m, d, hour, 0, 0, 0, w.sys.Zone) }
	c := w.openOn(t, lawDay(w.sys.Zone))
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("b", bert)})
	for _, s := range batch {
		found, err := c.Locate(context.Background(), connectors.Query{Batch: connectors.Batch{s}})
		require.NoError(t, err)
		got := map[string]int64{}
		for _, n := range found.Counts {
			got[n.Entity+" "+string(n.Method)] += n.Rows
			require.Equal(t, n.Method == dsr.Wait, n.Exception != nil && n.Exception.Cause == dsr.CauseMinimum, n)
		}
		require.Empty(t, cmp.Diff(expectLocated(w.sys, w.data, s, lawDay(w.sys.Zone)), got), s.Ref)
	}
	j := NewJournal()
	for _, today := range []time.Time{lawDay(w.sys.Zone), on(2031, 1, 14, 23), on(2031, 1, 15, 0), on(2132, 5, 1, 0)} {
		c := w.openOn(t, today)
		require.NoError(t, eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: j}))
		require.Empty(t, diff(w.data.rows(), expectOn(w.sys, w.data, batch, connectors.Holds{}, today).after, w.dump(t)), today)
		require.Empty(t, w.data.dangling(w.dump(t)), today)
		left, err := c.Verify(context.Background(), connectors.Search{Batch: batch, Keys: j})
		require.NoError(t, err)
		require.Empty(t, w.heldBack(t, batch, left, dsr.CauseMinimum), today)
		w.ends(t, entity, batch, left, today)
		j = j.Next()
	}
}

// ends compares the days until which rows of an entity wait with those on which their minima end: the first and the last
// are said, and that there is none where nobody knows it.
func (w *world) ends(t *testing.T, entity string, batch connectors.Batch, left []dsr.Residue, today time.Time) {
	t.Helper()
	now := w.data.with(w.dump(t))
	o := everything(w.sys, now)
	wanted := expect(w.sys, now, batch).fates[entity]
	var want, got []string
	say := func(list *[]string, day time.Time) {
		if text := day.UTC().Format(time.RFC3339); !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
	for _, f := range o.rows {
		if f.e.Name == entity && f.e.Keep == nil && o.young(f, today) && wanted[f.key].action != "" {
			say(&want, o.lastLawful(f, w.sys.Zone))
		}
	}
	for _, r := range left {
		switch {
		case r.Entity != entity:
		case r.Waits.Ends == nil:
			say(&got, time.Time{})
		default:
			require.True(t, r.Waits.Ends.After(today), r)
			say(&got, *r.Waits.Ends)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	require.Subset(t, want, got, today)
	if len(want) > 0 {
		require.Contains(t, got, want[0], today)
		require.Contains(t, got, want[len(want)-1], today)
		if len(want) > 1 && want[0] < "0002" { // the first is that nobody knows it
			require.Contains(t, got, want[1], today)
		}
	}
}
