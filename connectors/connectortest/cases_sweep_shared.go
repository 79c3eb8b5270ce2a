package connectortest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// parcels are accounts and what pairs of them own together: parcels with slips, and groups with boards, as members.
// Accounts 1 to 4 are due by their start and 5 is not; 6 is due and owns the kept invoice.
func parcels() (*connectors.System, Dataset) {
	d := Dataset{Tables: []Table{
		table("accounts", columns(integer("id"), words("email"), day("start")), "id"),
		table("groups", columns(integer("id"), words("kind")), "id"),
		table("boards", columns(integer("id"), integer("group_id")), "id").refers("group_id", "groups"),
		table("links", columns(integer("id"), integer("account_id"), integer("group_id")), "id").refers("account_id", "accounts").refers("group_id", "groups"),
		table("invoices", columns(integer("id"), integer("account_id")), "id").refers("account_id", "accounts"),
		table("parcels", columns(integer("id"), integer("sender_id"), optional(integer("receiver_id")), day("start")), "id").
			refers("sender_id", "accounts").refers("receiver_id", "accounts"),
		table("slips", columns(integer("id"), integer("parcel_id")), "id").refers("parcel_id", "parcels"),
	}}
	for i := range 6 {
		start := fmt.Sprintf("2020-01-0%d", i+1)
		if i == 4 {
			start = "2025-01-01"
		}
		d.add("accounts", Row{"id": i + 1, "email": address(i + 1), "start": start})
	}
	d.add("invoices", Row{"id": 1, "account_id": 6})
	d.add("parcels",
		Row{"id": 1, "sender_id": 1, "receiver_id": 2, "start": "2021-01-01"},
		Row{"id": 2, "sender_id": 2, "receiver_id": 3, "start": "2021-01-01"},
		Row{"id": 3, "sender_id": 5, "receiver_id": 4, "start": "2021-01-01"})
	d.add("slips", Row{"id": 1, "parcel_id": 1}, Row{"id": 2, "parcel_id": 2}, Row{"id": 3, "parcel_id": 3})
	d.add("groups", Row{"id": 1, "kind": "x"})
	d.add("boards", Row{"id": 1, "group_id": 1})
	d.add("links", Row{"id": 1, "account_id": 1, "group_id": 1}, Row{"id": 2, "account_id": 4, "group_id": 1})
	plain := func(name string, owned ...connectors.Owner) connectors.Entity {
		return connectors.Entity{Name: name, Erase: dsr.Delete, OwnedBy: owned}
	}
	accounts, groups, links, invoices := plain("accounts"), plain("groups"), plain("links", owner("account_id", "accounts")), plain("invoices", owner("account_id", "accounts"))
	accounts.Fields = []connectors.Field{{Name: "email", Identifier: "email"}}
	groups.NotPersonal = []string{"kind"}
	links.Owns = owners(owner("group_id", "groups"))
	invoices.Erase, invoices.Keep = dsr.Keep, accounting()
	return &connectors.System{Name: "parcels", Identifiers: kinds(), Entities: byName([]connectors.Entity{
		accounts, groups, links, invoices, plain("boards", owner("group_id", "groups")), plain("slips", owner("parcel_id", "parcels")),
		plain("parcels", owner("sender_id", "accounts"), owner("receiver_id", "accounts")),
	})}, d
}

// testSweepShared: what several due rows own together goes with all of them and stays with any of them, whichever chunk
// each is in. One that must stay and cannot let go blocks them, and is named.
func testSweepShared(t *testing.T, b Backend) {
	sys, d := parcels()
	w := setup(t, b, sys, d)
	keep := func(s *connectors.System, name string) {
		s.Entity(name).Erase, s.Entity(name).Keep = dsr.Keep, accounting()
	}
	chains := func(d Dataset) Dataset { // 1, 2 and 3 are tied to 6, which the invoice blocks
		return d.add("parcels", Row{"id": 4, "sender_id": 3, "receiver_id": 6, "start": "2021-01-01"})
	}
	for name, c := range map[string]struct {
		change  func(s *connectors.System)
		more    func(d Dataset) Dataset
		blocked int64
		by      string
	}{
		"all go":              {func(*connectors.System) {}, nil, 1, "[invoices]"},
		"let go":              {func(s *connectors.System) { s.Entity("parcels").OnOwnerErased = emptied("receiver_id") }, nil, 1, "[invoices]"},
		"one must stay":       {func(*connectors.System) {}, chains, 4, "[invoices parcels]"},
		"kept":                {func(s *connectors.System) { keep(s, "parcels") }, nil, 4, "[invoices parcels]"},
		"a grandchild kept":   {func(s *connectors.System) { keep(s, "slips") }, nil, 4, "[invoices slips]"},
		"a kept group":        {func(s *connectors.System) { keep(s, "groups") }, nil, 3, "[groups invoices]"},
		"a group's kept rows": {func(s *connectors.System) { keep(s, "boards") }, nil, 3, "[boards invoices]"},
		"a minimum": {func(s *connectors.System) {
			rule := deletes("start")
			rule.Class.Period, rule.Class.Minimum = retention.Period{Years: 1000}, retention.Period{Years: 1000}
			s.Entity("parcels").Rules = []connectors.Rule{rule}
		}, nil, 4, "[invoices parcels]"},
		"masked": {func(s *connectors.System) {
			s.Entity("parcels").Erase, s.Entity("parcels").Masks = dsr.Mask, masks{"receiver_id": toNull}
		}, nil, 3, "[invoices parcels]"},
	} {
		w.data = d
		if c.more != nil {
			_, own := parcels()
			w.data = c.more(own)
		}
		for _, chunk := range []int{0, 1, 2, 3} {
			w.Load(t, w.data)
			w.sys = private(sys)
			w.chunk = chunk
			c.change(w.sys)
			conn := w.open(t)
			r := ruling{entity: "accounts", rule: deletes("start"), cut: at(cutAt)}
			label := fmt.Sprintf("%s, chunk %d", name, chunk)
			want := expectSweep(w.sys, w.data, r).due
			require.Equal(t, c.blocked, want.Blocked, label)
			require.Equal(t, c.by, fmt.Sprint(want.BlockedBy), label)
			w.dueNow(t, conn, r, w.data, label)
			w.swept(t, r, sweep(t, conn, r), label)
			once := w.dump(t)
			for at := range tallied(sweep(t, conn, r).Tallies()) {
				require.Equal(t, "accounts "+string(dsr.Blocked), at, "%s: again", label)
			}
			require.Empty(t, cmp.Diff(once, w.dump(t)), "%s: twice is once", label)
			require.NoError(t, conn.Close())
		}
	}
}
