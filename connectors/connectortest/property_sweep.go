package connectortest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// The tables of random sweeps: accounts own orders, alone or with a shop, orders own lines, two accounts own a parcel
// and its slips, and accounts own groups with their boards as members.
func sweepTables(flat bool) Dataset {
	accounts := table("accounts", columns(integer("id"), words("email"), words("kind"), optional(moment("start")), optional(day("other"))), "id")
	if flat {
		return Dataset{Tables: []Table{accounts}}
	}
	return Dataset{Tables: []Table{
		accounts,
		table("shops", columns(integer("id"), words("kind")), "id"),
		table("groups", columns(integer("id"), words("kind")), "id"),
		table("links", columns(integer("id"), integer("account_id"), integer("group_id")), "id").refers("account_id", "accounts").refers("group_id", "groups"),
		table("orders", columns(integer("id"), optional(integer("account_id")), optional(integer("shop_id")), words("kind"), moment("start")), "id").
			refers("account_id", "accounts").refers("shop_id", "shops"),
		table("lines", columns(integer("id"), integer("order_id"), words("kind"), optional(words("text"))), "id").refers("order_id", "orders"),
		table("parcels", columns(integer("id"), integer("sender_id"), optional(integer("receiver_id")), words("kind"), moment("start")), "id").
			refers("sender_id", "accounts").refers("receiver_id", "accounts"),
		table("slips", columns(integer("id"), integer("parcel_id"), optional(integer("account_id")), words("kind")), "id").
			refers("parcel_id", "parcels").refers("account_id", "accounts"),
		table("boards", columns(integer("id"), integer("group_id"), words("kind")), "id").refers("group_id", "groups"),
	}}
}

func midnight(zone *time.Location) time.Time { return time.Date(2024, 3, 31, 0, 0, 0, 0, zone) }

// drawArchive draws a map and rows whose starting points lie around a midnight.
func drawArchive(rt *rapid.T, flat bool, zone *time.Location) (*connectors.System, Dataset) {
	d := sweepTables(flat)
	plain := func(name string) connectors.Entity {
		return connectors.Entity{Name: name, Erase: dsr.Delete, NotPersonal: []string{"kind"}}
	}
	accounts, orders, lines := plain("accounts"), plain("orders"), plain("lines")
	accounts.Fields = []connectors.Field{{Name: "email", Identifier: "email"}}
	kind := func(label string) string { return rapid.SampledFrom([]string{"x", "y"}).Draw(rt, label) }
	start := func(label string, null bool) any {
		offsets := []int{-86400 * 400, -86400, -3600, -1, 0, 1, 3600, 86400}
		n := rapid.IntRange(0, len(offsets)).Draw(rt, label)
		if n == len(offsets) && null {
			return nil
		}
		return midnight(zone).Add(time.Duration(offsets[n%len(offsets)]) * time.Second).UTC().Format(time.RFC3339)
	}
	n := rapid.IntRange(0, 7).Draw(rt, "accounts")
	for i := range n {
		r := Row{"id": i + 1, "email": address(i + 1), "kind": kind(fmt.Sprint("account", i)), "start": start(fmt.Sprint("start", i), true)}
		if k := rapid.IntRange(-2, 2).Draw(rt, fmt.Sprint("other", i)); k < 2 {
			r["other"] = midnight(zone).AddDate(0, 0, k).Format(time.DateOnly)
		}
		d.add("accounts", r)
	}
	if flat {
		return &connectors.System{Name: "random", Identifiers: kinds(), Entities: []connectors.Entity{accounts}}, d
	}
	groups, links, shops := plain("groups"), plain("links"), plain("shops")
	links.NotPersonal, links.OwnedBy, links.Owns = nil, owners(owner("account_id", "accounts")), owners(owner("group_id", "groups"))
	orders.OwnedBy = owners(owner("account_id", "accounts"))
	if rapid.Bool().Draw(rt, "shops own") {
		orders.OwnedBy = append(orders.OwnedBy, owner("shop_id", "shops"))
	}
	if rapid.Bool().Draw(rt, "orders let go") {
		orders.OnOwnerErased = emptied("account_id", "shop_id")
	}
	switch rapid.SampledFrom([]string{"", "", "mask", "keep", "minimum"}).Draw(rt, "orders.erase") {
	case "mask":
		orders.Erase, orders.Masks = dsr.Mask, masks{"account_id": toNull, "shop_id": toNull}
	case "keep":
		orders.Erase, orders.Keep = dsr.Keep, accounting()
	case "minimum":
		rule := deletes("start")
		rule.Class.Period, rule.Class.Minimum = retention.Period{Years: 1000}, retention.Period{Years: 1000}
		rule.When = []dsr.Condition{{Field: "kind", Values: []string{"x"}}}
		orders.Rules = []connectors.Rule{rule}
	}
	lines.OwnedBy, lines.NotPersonal = owners(owner("order_id", "orders")), []string{"kind", "text"}
	if rapid.IntRange(0, 3).Draw(rt, "lines.erase") == 0 {
		lines.Erase, lines.Masks = dsr.Mask, masks{"text": toNull}
	}
	for i := range 2 {
		d.add("shops", Row{"id": i + 1, "kind": "x"})
		d.add("groups", Row{"id": i + 1, "kind": "x"})
	}
	parcels, slips, boards := plain("parcels"), plain("slips"), plain("boards")
	parcels.OwnedBy = owners(owner("sender_id", "accounts"), owner("receiver_id", "accounts"))
	if rapid.Bool().Draw(rt, "parcels let go") {
		parcels.OnOwnerErased = emptied("receiver_id")
	}
	switch rapid.SampledFrom([]string{"", "", "mask", "keep", "minimum"}).Draw(rt, "parcels.erase") {
	case "mask":
		parcels.Erase, parcels.Masks = dsr.Mask, masks{"receiver_id": toNull}
	case "keep":
		parcels.Erase, parcels.Keep = dsr.Keep, accounting()
	case "minimum":
		rule := deletes("start")
		rule.Class.Period, rule.Class.Minimum = retention.Period{Years: 1000}, retention.Period{Years: 1000}
		rule.When = []dsr.Condition{{Field: "kind", Values: []string{"x"}}}
		parcels.Rules = []connectors.Rule{rule}
	}
	slips.OwnedBy = owners(owner("parcel_id", "parcels"), owner("account_id", "accounts"))
	boards.OwnedBy = owners(owner("group_id", "groups"))
	for _, e := range []*connectors.Entity{&slips, &boards, &groups} {
		if rapid.IntRange(0, 3).Draw(rt, e.Name+".erase") == 0 {
			e.Erase, e.Keep = dsr.Keep, accounting()
		}
	}
	count := rapid.IntRange(0, 6).Draw(rt, "orders")
	for i := range count {
		r := Row{"id": i + 1, "kind": kind(fmt.Sprint("order", i)), "start": start(fmt.Sprint("order start", i), false)}
		if a := rapid.IntRange(0, n).Draw(rt, fmt.Sprint("order account", i)); a > 0 {
			r["account_id"] = a
		}
		if s := rapid.IntRange(0, 2).Draw(rt, fmt.Sprint("order shop", i)); s > 0 && len(orders.OwnedBy) > 1 {
			r["shop_id"] = s
		}
		d.add("orders", r)
	}
	if count > 0 {
		for i := range rapid.IntRange(0, 5).Draw(rt, "lines") {
			d.add("lines", Row{"id": i + 1, "kind": "x", "text": "t", "order_id": rapid.IntRange(1, count).Draw(rt, fmt.Sprint("line", i))})
		}
	}
	if n > 0 {
		for i := range rapid.IntRange(0, 4).Draw(rt, "links") {
			d.add("links", Row{"id": i + 1, "account_id": rapid.IntRange(1, n).Draw(rt, fmt.Sprint("link", i)), "group_id": rapid.IntRange(1, 2).Draw(rt, fmt.Sprint("group", i))})
		}
		for i := range rapid.IntRange(0, 2).Draw(rt, "boards") {
			d.add("boards", Row{"id": i + 1, "group_id": i + 1, "kind": "x"})
		}
		sent := rapid.IntRange(0, 6).Draw(rt, "parcels")
		for i := range sent {
			r := Row{
				"id": i + 1, "sender_id": rapid.IntRange(1, n).Draw(rt, fmt.Sprint("sender", i)),
				"kind": kind(fmt.Sprint("parcel", i)), "start": start(fmt.Sprint("parcel start", i), false),
			}
			if to := rapid.IntRange(0, n).Draw(rt, fmt.Sprint("receiver", i)); to > 0 {
				r["receiver_id"] = to
			}
			d.add("parcels", r)
		}
		if sent > 0 {
			for i := range rapid.IntRange(0, 3).Draw(rt, "slips") {
				r := Row{"id": i + 1, "parcel_id": rapid.IntRange(1, sent).Draw(rt, fmt.Sprint("slip", i)), "kind": "x"}
				if a := rapid.IntRange(0, n).Draw(rt, fmt.Sprint("slip account", i)); a > 0 {
					r["account_id"] = a
				}
				d.add("slips", r)
			}
		}
	}
	return &connectors.System{Name: "random", Identifiers: kinds(), Entities: byName([]connectors.Entity{
		accounts, orders, lines, groups, links, shops, parcels, slips, boards,
	})}, d
}

// drawRuling draws a rule, its cut-off and what is held.
func drawRuling(rt *rapid.T, sys *connectors.System, zone *time.Location) ruling {
	r := ruling{entity: "accounts", rule: deletes("start")}
	r.cut = connectors.Cut{Before: midnight(zone).AddDate(0, 0, rapid.IntRange(-1, 1).Draw(rt, "cut")), Zone: zone}
	if sys.Entity("orders") != nil && rapid.IntRange(0, 3).Draw(rt, "of orders") == 0 {
		r.entity = "orders"
	} else {
		if rapid.IntRange(0, 3).Draw(rt, "by day") == 0 {
			r.rule.Start.Field = "other"
		}
		r.rule.Start.Null = rapid.SampledFrom([]retention.NullStart{retention.NullKeep, retention.NullDue, retention.NullOther}).Draw(rt, "null")
		if r.rule.Start.Null == retention.NullOther {
			r.rule.Start.NullField = "other"
		}
		if sys.Entity("orders") != nil && rapid.IntRange(0, 3).Draw(rt, "latest") == 0 {
			r.rule.Start.Latest = []retention.Related{{Entity: "orders", Field: "start"}}
		}
		if rapid.IntRange(0, 3).Draw(rt, "after") == 0 {
			earlier := deletes("other")
			earlier.Action = retention.Next
			earlier.Start.Null = rapid.SampledFrom([]retention.NullStart{retention.NullKeep, retention.NullDue}).Draw(rt, "after null")
			r.cut.After = []connectors.Bound{{Rule: earlier, Before: r.cut.Before.AddDate(0, 0, -1)}}
		}
		if rapid.IntRange(0, 3).Draw(rt, "pseudonymise") == 0 {
			r.rule.Action, r.rule.Masks = retention.Pseudonymise, masks{"email": toRandom, "kind": constant("z")}
		}
	}
	if rapid.IntRange(0, 2).Draw(rt, "when") == 0 {
		r.rule.When = []dsr.Condition{{Field: "kind", Values: []string{"x"}}}
	}
	if rapid.Bool().Draw(rt, "holds") {
		for i := range 3 {
			if rapid.IntRange(0, 2).Draw(rt, fmt.Sprint("held", i+1)) == 0 {
				r.held.Subjects = append(r.held.Subjects, subject(fmt.Sprint("h", i+1), address(i+1)))
			}
		}
		for i := range sys.Entities {
			name := sys.Entities[i].Name
			if rapid.IntRange(0, 5).Draw(rt, name+".held") == 0 {
				r.held.Entities = append(r.held.Entities, connectors.Frozen{Entity: name, When: []dsr.Condition{{Field: "id", Values: []string{"1", "2"}}}})
			}
		}
	}
	return r
}

// testRandomSweeps: for any rule, rows, holds, time zone, chunk and interruption nothing due stays and nothing goes
// before its time, and the counts are exact.
func testRandomSweeps(t *testing.T, b Backend) {
	zones := []string{"UTC", "Europe/Stockholm", "America/New_York", "Pacific/Kiritimati"}
	if b.LocalTimes {
		zones = zones[:1]
	}
	sys, d := b.archive()
	w := setup(t, b, sys, d)
	sweeper(t, w.open(t))
	b.random(t, func(rt *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(rt, "zone"))
		if err != nil {
			rt.Fatal(err)
		}
		sys, d := drawArchive(rt, b.Flat, zone)
		r := drawRuling(rt, sys, zone)
		b.Load(t, d)
		sweepRandomly(t, rt, b, sys, d, r)
	})
}

func sweepRandomly(t *testing.T, rt *rapid.T, b Backend, sys *connectors.System, d Dataset, r ruling) {
	chunk := rapid.SampledFrom([]int{0, 1, 2}).Draw(rt, "chunk")
	open := func() connectors.Connector {
		return b.Open(t, private(sys), connectors.Options{Pseudonyms: keyring{}, Now: time.Now}, chunk)
	}
	c := open()
	defer func() { _ = c.Close() }()
	check := func(what string, difference any) {
		if text := fmt.Sprint(difference); text != "[]" && text != "" {
			rt.Fatalf("%s:\n%s", what, text)
		}
	}
	ctx := context.Background()
	want := expectSweep(sys, d, r)
	q := connectors.DueQuery{Entity: r.entity, Rule: r.rule, Cuts: []connectors.Cut{r.cut}, Held: r.held}
	due := func(what string, want connectors.Due) {
		got, err := c.(connectors.Sweeper).Due(ctx, q)
		if err != nil || len(got) != 1 {
			rt.Fatalf("Due: %v", err)
		}
		if got[0].Total == 0 {
			want.Total = 0
		}
		if len(got[0].BlockedBy) > 0 != (want.Blocked > 0) {
			rt.Fatalf("%s: %d are blocked by %v", what, want.Blocked, got[0].BlockedBy)
		}
		got[0].Bytes, got[0].BlockedBy, want.BlockedBy = 0, nil, nil // of a chain the first or the last may be to blame
		check(what, cmp.Diff(want, got[0]))
	}
	due("due", want.due)
	j := NewJournal()
	job := r.job(j)
	if rapid.Bool().Draw(rt, "slices") {
		job.Deadline = time.Now().Add(-time.Second)
	}
	run := ctx
	if at := rapid.IntRange(0, 20).Draw(rt, "interrupted"); at > 0 {
		interrupted, cancel := context.WithCancel(ctx)
		defer cancel()
		run = interrupted
		j.AtStep(func(i int, _ string) {
			if i == at {
				cancel()
			}
		})
	}
	for i := 0; ; i++ {
		_, err := c.(connectors.Sweeper).Sweep(run, job)
		check("dangling references", d.dangling(d.canonical(b.Dump(t))))
		if err == nil {
			break
		}
		if connectors.IsPermanent(err) || i > 200 {
			rt.Fatalf("Sweep: %v", err)
		}
		if run.Err() != nil { // interrupted: another worker takes over
			_ = c.Close()
			c, run = open(), ctx
			j.Heal()
		}
	}
	got := d.canonical(b.Dump(t))
	check("state", diff(d.rows(), want.after, got))
	check("tallies", cmp.Diff(want.counts, tallied(j.Tallies())))
	due("due afterwards", expectSweep(sys, d.with(got), r).due)
}
