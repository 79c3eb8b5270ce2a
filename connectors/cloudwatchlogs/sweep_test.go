package cloudwatchlogs_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/cloudwatchlogs"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

func period(s string) retention.Period {
	if s == "" {
		return retention.Period{}
	}
	p, err := retention.ParsePeriod(s)
	if err != nil {
		panic(err)
	}
	return p
}

// expire is a rule that sets a group's retention.
func expire(length, minimum string) connectors.Rule {
	return connectors.Rule{Rule: retention.Rule{
		Name: "logs.events.short", Action: retention.Expire, Start: retention.StartingPoint{Kind: retention.StartEvent},
		Class: retention.Class{Name: "short", Period: period(length), Minimum: period(minimum), Start: retention.Collection},
	}}
}

func TestRetentionOfARule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		period, minimum string
		days            int // 0: refused
	}{
		{"P30D", "", 30},
		{"P29D", "", 14},
		{"P1M", "", 14},       // February has 28 days
		{"P2M", "", 30},       // and with January 59
		{"P1Y", "", 365},      // a leap year has 366
		{"P1Y", "P1Y", 0},     // 365 is too short and 400 too long
		{"P400D", "P1Y", 400}, // above the minimum in every year
		{"P35D", "P30D", 30},
		{"P29D", "P15D", 0},
		{"P20Y", "", 3653},
		{"P0D", "", 0},
	} {
		w := setup(t)
		rule := expire(c.period, c.minimum)
		w.sys.Entity("events").Rules = []connectors.Rule{rule}
		w.Retain(group, 0)
		l, err := cloudwatchlogs.OpenImpatient(context.Background(), w.sys, connectors.Options{Now: w.now})
		if c.days == 0 {
			require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid}, "%v", c)
			continue
		}
		require.NoError(t, err, "%v", c)
		require.EqualValues(t, 1, due(t, l, "events", rule, connectors.Holds{}, start)[0].Rows)
		require.Equal(t, map[string]int64{" events expire": 1}, sums(sweep(t, l, "events", rule, connectors.Holds{}, start).Tallies()))
		require.Zero(t, due(t, l, "events", rule, connectors.Holds{}, start)[0].Rows, "%v", c)
		require.NoError(t, l.Close())

		w.event(start, "42") // and it is that many days
		w.Delay = 0
		w.move(time.Duration(c.days)*day - time.Second)
		require.Len(t, w.Dump(group), 1, "%v", c)
		w.move(time.Second)
		require.Empty(t, w.Dump(group), "%v", c)
	}
}

func due(t tester, l *cloudwatchlogs.Logs, entity string, r connectors.Rule, held connectors.Holds, before ...time.Time) []connectors.Due {
	t.Helper()
	q := connectors.DueQuery{Entity: entity, Rule: r, Held: held}
	for _, b := range before {
		q.Cuts = append(q.Cuts, connectors.Cut{Before: b, Zone: time.UTC})
	}
	out, err := l.Due(context.Background(), q)
	require.NoError(t, err)
	return out
}

func sweep(t tester, l *cloudwatchlogs.Logs, entity string, r connectors.Rule, held connectors.Holds, before time.Time) *connectortest.Journal {
	t.Helper()
	j := connectortest.NewJournal()
	_, err := l.Sweep(context.Background(), connectors.SweepJob{
		Entity: entity, Rule: r, Held: held, Cut: connectors.Cut{Before: before, Zone: time.UTC}, Journal: j,
	})
	require.NoError(t, err)
	return j
}

// heed tells of holds, with as much time to search as anybody wants.
func heed(t tester, l *cloudwatchlogs.Logs, entity string, r *connectors.Rule, held connectors.Holds) connectors.Heeded {
	t.Helper()
	out, err := l.Heed(context.Background(), connectors.HeedJob{Entity: entity, Rule: r, Held: held, Search: time.Minute})
	require.NoError(t, err)
	return out
}

// A hold on anything in the group lifts its retention, by a sweep or as soon as it is heeded, and the sweep after it sets
// that again.
func TestRetentionAndHolds(t *testing.T) {
	t.Parallel()
	rule := expire("P7D", "")
	fresh := func() (*world, *cloudwatchlogs.Logs) {
		w := setup(t)
		w.sys.Entity("events").Rules = []connectors.Rule{rule}
		w.sys.Entity("sessions").Settings["group"] = group
		w.event(start, "42")
		w.Put(group, "user/7/a", start, `{"user":{"id":"x"}}`)
		return w, w.open(t)
	}
	for name, held := range map[string]connectors.Holds{
		"an event":           {Subjects: batch("42")},
		"a stream":           {Subjects: batch("7")},
		"part of the entity": {Entities: []connectors.Frozen{{Entity: "events", When: []dsr.Condition{{Field: "email", NotNull: true}}}}},
		"another entity":     {Entities: []connectors.Frozen{{Entity: "sessions"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, l := fresh()
			w.Delay = 0
			lift := map[string]func(){
				"by a sweep": func() {
					require.Equal(t, map[string]int64{" events held": 1}, sums(sweep(t, l, "events", rule, held, start).Tallies()))
				},
				"heeded": func() {
					require.Equal(t, connectors.Heeded{Stay: []string{"the retention of the log group /shop/web, 7 days"}},
						heed(t, l, "events", nil, held), "nothing is changed without a rule")
					require.Equal(t, connectors.Heeded{Lifted: true}, heed(t, l, "events", &rule, held))
					require.Equal(t, connectors.Heeded{}, heed(t, l, "events", &rule, held), "twice is once")
				},
			}
			for how, fn := range lift {
				require.Equal(t, map[string]int64{" events expire": 1}, sums(sweep(t, l, "events", rule, connectors.Holds{}, start).Tallies()), how)
				require.Equal(t, 7, w.Retention(group), how)
				for range 2 { // it has to go, and then it has to stay away
					require.Equal(t, []connectors.Due{{Rows: 1, Held: 1, Total: 1, Bytes: 91}}, due(t, l, "events", rule, held, start), how)
					fn()
					require.Zero(t, w.Retention(group), how)
					fn = lift["by a sweep"]
				}
			}
			w.move(40 * day)
			require.Len(t, w.Dump(group), 2)
			require.Equal(t, []connectors.Due{{Rows: 1, Total: 1, Bytes: 91}}, due(t, l, "events", rule, connectors.Holds{}, start))
			sweep(t, l, "events", rule, connectors.Holds{}, start)
			require.Empty(t, w.Dump(group), "lifted")
		})
	}
	t.Run("what cannot be read", func(t *testing.T) {
		t.Parallel()
		w, l := fresh()
		sweep(t, l, "events", rule, connectors.Holds{}, start)
		held := connectors.Holds{Subjects: batch("nobody")}
		require.Equal(t, connectors.Heeded{}, heed(t, l, "events", &rule, held))
		w.Put(group, "web-1", start, "no JSON")
		require.EqualValues(t, 1, due(t, l, "events", rule, held, start)[0].Held)
		require.Equal(t, connectors.Heeded{Lifted: true}, heed(t, l, "events", &rule, held))
		require.Equal(t, map[string]int64{" events held": 1}, sums(sweep(t, l, "events", rule, held, start).Tallies()))
		require.Zero(t, w.Retention(group))
	})
	t.Run("no time to search", func(t *testing.T) {
		t.Parallel()
		w, l := fresh()
		out, err := l.Heed(context.Background(), connectors.HeedJob{Entity: "events", Rule: &rule, Held: connectors.Holds{Subjects: batch("nobody")}})
		require.NoError(t, err)
		require.True(t, out.Lifted, "anything may be held")
		require.Zero(t, w.Retention(group))
		w.Govern(group, "everything-a-year", 365)
		require.Equal(t, connectors.Heeded{Stay: []string{"the retention of the log group /shop/web, 365 days, by the account-level policy everything-a-year"}},
			heed(t, l, "events", &rule, connectors.Holds{Subjects: batch("42")}))
	})
	w, l := fresh()
	sweep(t, l, "events", rule, connectors.Holds{Subjects: batch("1")}, start)
	w.Delay = 0
	w.move(7 * day)
	require.Empty(t, w.Dump(group), "who is held has nothing here")
}

// A sweep that was killed between setting the retention and saying so says so later.
func TestInterruptedRetention(t *testing.T) {
	t.Parallel()
	w := setup(t)
	rule := expire("P7D", "")
	w.sys.Entity("events").Rules = []connectors.Rule{rule}
	l := w.open(t)
	j := connectortest.NewJournal()
	job := connectors.SweepJob{Entity: "events", Rule: rule, Cut: connectors.Cut{Before: start}, Journal: j}
	_, err := l.Sweep(j.FailAt(context.Background(), cloudwatchlogs.StepSet, 1), job)
	require.ErrorIs(t, err, context.Canceled)
	j.Heal()
	_, err = l.Sweep(context.Background(), job)
	require.NoError(t, err)
	require.Equal(t, []connectors.Tally{{Entity: "events", Method: dsr.Expire, Rows: 1, Resolved: true}}, j.Tallies())
	_, err = l.Sweep(context.Background(), job)
	require.NoError(t, err)
	require.Len(t, j.Tallies(), 1)
}

// A policy of the account that overrides what is set is no success.
func TestAccountPolicy(t *testing.T) {
	t.Parallel()
	w := setup(t)
	rule := expire("P7D", "")
	w.sys.Entity("events").Rules = []connectors.Rule{rule}
	w.Govern(group, "everything-a-year", 365)
	l := w.open(t)
	_, err := l.Sweep(context.Background(), connectors.SweepJob{Entity: "events", Rule: rule, Journal: connectortest.NewJournal()})
	require.True(t, connectors.IsPermanent(err))
	found, err := l.Check(context.Background())
	require.NoError(t, err)
	require.Equal(t, []string{"error account-retention events", "warning other-retention events"}, codes(found))
}

func TestRulesRefused(t *testing.T) {
	t.Parallel()
	two := func(w *world) {
		w.sys.Entity("events").Rules = []connectors.Rule{expire("P7D", "")}
		other := *w.sys.Entity("events")
		other.Name, other.Rules = "more", []connectors.Rule{expire("P30D", "")}
		w.sys.Entities = append(w.sys.Entities[:1:1], other, w.sys.Entities[1])
	}
	one := func(entity string, change func(*connectors.Rule)) func(*world) {
		return func(w *world) {
			r := expire("P30D", "")
			change(&r)
			w.sys.Entity(entity).Rules = []connectors.Rule{r}
		}
	}
	for name, change := range map[string]func(*world){
		"two retentions":   two,
		"delete events":    one("events", func(r *connectors.Rule) { r.Action = retention.Delete }),
		"expire streams":   one("sessions", func(*connectors.Rule) {}),
		"a field":          one("events", func(r *connectors.Rule) { r.Start = retention.StartingPoint{Kind: retention.StartField, Field: "at"} }),
		"with a condition": one("events", func(r *connectors.Rule) { r.When = []dsr.Condition{{Field: "a", Null: true}} }),
	} {
		w := setup(t)
		change(w)
		_, err := cloudwatchlogs.Open(context.Background(), w.sys, connectors.Options{})
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid}, name)
	}
}

// drop is a rule that deletes streams.
func drop() connectors.Rule {
	return connectors.Rule{Rule: retention.Rule{
		Name: "logs.sessions.short", Action: retention.Delete, Start: retention.StartingPoint{Kind: retention.StartEvent},
		Class: retention.Class{Name: "short", Period: period("P7D"), Start: retention.Collection},
	}}
}

// Streams go by their newest event, also by one that the list of streams does not know of yet, and empty ones by when
// they were made.
func TestSweepStreams(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Lag = time.Hour
	w.Page, w.EmptyPages = 2, 1
	cut := start.Add(-7 * day)
	w.move(-8 * day)
	w.Put(users, "user/1/old", cut.Add(-time.Hour), "x")
	w.Put(users, "user/2/revived", cut.Add(-time.Hour), "x")
	w.Put(users, "user/3/held", cut.Add(-time.Millisecond), "x")
	w.Put(users, "user/4/on-the-cut", cut, "x")
	w.Put(users, "other/5", cut.Add(-time.Hour), "not of the pattern")
	w.move(8 * day)
	w.Put(users, "user/2/revived", start, "x")
	w.sys.Entity("sessions").Rules = []connectors.Rule{drop()}
	l := w.open(t)
	held := connectors.Holds{Subjects: batch("3")}
	require.Equal(t, []connectors.Due{{Rows: 2, Held: 1, Total: 4}, {Rows: 3, Held: 1, Total: 4}, {Rows: 0, Total: 4}},
		due(t, l, "sessions", drop(), held, cut, cut.Add(time.Hour), cut.Add(-day)))
	j := sweep(t, l, "sessions", drop(), held, cut)
	require.Equal(t, map[string]int64{" sessions delete": 1, " sessions held": 1}, sums(j.Tallies()))
	require.Equal(t, []string{"other/5", "user/2/revived", "user/3/held", "user/4/on-the-cut"}, w.Streams(users))
}

// An earlier rule that moves on to the next keeps what is not due by it.
func TestSweepAfterNext(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Put(users, "user/1/a", start.Add(-10*day), "x")
	w.Put(users, "user/2/a", start.Add(-20*day), "x")
	w.sys.Entity("sessions").Rules = []connectors.Rule{drop()}
	j := connectortest.NewJournal()
	_, err := w.open(t).Sweep(context.Background(), connectors.SweepJob{Entity: "sessions", Rule: drop(), Journal: j, Cut: connectors.Cut{
		Before: start.Add(-7 * day), After: []connectors.Bound{{Before: start.Add(-15 * day)}},
	}})
	require.NoError(t, err)
	require.Equal(t, []string{"user/1/a"}, w.Streams(users))
}

// Whatever interrupts a sweep of streams, what is due goes once, what is held is said once, and nothing else goes.
func TestInterruptedSweep(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := setup(t)
		w.Page = rapid.IntRange(1, 3).Draw(t, "page")
		want, left := map[string]int64{}, 0
		for i := range rapid.IntRange(1, 10).Draw(t, "streams") {
			u := rapid.SampledFrom([]string{"1", "3"}).Draw(t, "user")
			age := rapid.SampledFrom([]time.Duration{0, 6 * day, 8 * day}).Draw(t, "age")
			w.Put(users, fmt.Sprintf("user/%s/%d", u, i), start.Add(-age), "x")
			switch {
			case age < 7*day:
				left++
			case u == "3":
				left++
				want[" sessions held"]++
			default:
				want[" sessions delete"]++
			}
		}
		w.sys.Entity("sessions").Rules = []connectors.Rule{drop()}
		l := w.open(t)
		j := connectortest.NewJournal()
		job := connectors.SweepJob{
			Entity: "sessions", Rule: drop(), Held: connectors.Holds{Subjects: batch("3")}, Journal: j,
			Cut: connectors.Cut{Before: start.Add(-7 * day), Zone: time.UTC},
		}
		for range rapid.IntRange(0, 4).Draw(t, "interruptions") {
			ctx, cancel := context.WithCancel(context.Background())
			at, n := rapid.IntRange(1, 5).Draw(t, "at"), 0
			one := job
			switch rapid.SampledFrom([]string{"cancel", "lost answer", "yield", "stop"}).Draw(t, "how") {
			case "cancel":
				j.AtStep(func(int, string) {
					if n++; n == at {
						cancel()
					}
				})
			case "lost answer":
				j.OnSave(nil, func(n int) error { return onlyAt(n, at) })
			case "yield":
				one.Deadline = w.now()
			case "stop":
				one.Pace.Stop = func() bool { n++; return n == at }
			}
			_, _ = l.Sweep(ctx, one)
			cancel()
			j.Heal()
			if rapid.Bool().Draw(t, "a day passes") {
				w.move(25 * time.Hour)
			}
		}
		_, err := l.Sweep(context.Background(), job)
		require.NoError(t, err)
		require.Equal(t, want, sums(j.Tallies()))
		require.Len(t, w.Streams(users), left)
	})
}
