package connectors_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

func TestUnfinished(t *testing.T) {
	t.Parallel()
	on := func(d int) time.Time { return time.Date(2031, 5, d, 0, 0, 0, 0, time.UTC) }
	type waits map[time.Time]int64 // a day, zero for none, and its rows
	for name, c := range map[string]struct {
		days, want waits
		last       time.Time
	}{
		"nothing":              {waits{}, waits{}, time.Time{}},
		"one day":              {waits{on(1): 3}, waits{on(1): 3}, on(1)},
		"two":                  {waits{on(2): 1, on(1): 3}, waits{on(1): 3, on(2): 1}, on(2)},
		"more":                 {waits{on(2): 1, on(1): 3, on(9): 2}, waits{on(1): 3, on(9): 3}, on(9)},
		"none known":           {waits{{}: 4}, waits{{}: 4}, time.Time{}},
		"some known, one none": {waits{{}: 4, on(3): 1, on(5): 2}, waits{{}: 4, on(3): 1, on(5): 2}, time.Time{}},
	} {
		got := waits{}
		for _, r := range connectors.Unfinished(dsr.Residue{Subject: "s", Entity: "bills"}, c.days) {
			require.Equal(t, "s", r.Subject, name)
			require.Equal(t, dsr.CauseMinimum, r.Waits.Cause, name)
			day := time.Time{}
			if r.Waits.Ends != nil {
				day = *r.Waits.Ends
			}
			require.NotContains(t, got, day, name)
			got[day] = r.Count
		}
		require.Equal(t, c.want, got, name)
		last := connectors.LastDay(c.days)
		require.Equal(t, c.last.IsZero(), last == nil, name)
		if last != nil {
			require.Equal(t, c.last, *last, name)
		}
	}
}

func TestMinima(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Stockholm")
	require.NoError(t, err)
	rule := func(name string, minimum int) connectors.Rule {
		return connectors.Rule{Rule: retention.Rule{Name: name, Class: retention.Class{
			Name: name, Period: retention.Period{Years: 9}, Minimum: retention.Period{Years: minimum}, Start: retention.EndOfCalendarYear,
		}}}
	}
	s := connectors.System{Zone: zone, Entities: []connectors.Entity{{Rules: []connectors.Rule{rule("a", 0), rule("b", 2)}}}}
	today := s.Today(time.Date(2029, 12, 31, 23, 30, 0, 0, time.UTC)) // the new year has begun there
	minima := s.Entities[0].Minima(today)
	require.Len(t, minima, 1)
	require.Equal(t, "b", minima[0].Rule.Name)
	require.True(t, time.Date(2028, 1, 1, 0, 0, 0, 0, zone).Equal(minima[0].Before))
	require.Equal(t, retention.Period{Years: 2}, minima[0].Rule.Class.Period)
	require.Equal(t, retention.Period{Years: 9}, s.Entities[0].Rules[1].Class.Period)
	s.Zone = nil
	require.Equal(t, time.UTC, s.Today(today).Location())
}
