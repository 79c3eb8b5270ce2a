package datamap_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// load reads a good map after changing its text: pairs of what stands there and what to write instead.
func load(t *testing.T, file string, changes ...string) *datamap.Map {
	t.Helper()
	text, err := os.ReadFile("testdata/good/" + file)
	require.NoError(t, err)
	changed := string(text)
	for i := 0; i < len(changes); i += 2 {
		require.Contains(t, changed, changes[i])
		changed = strings.Replace(changed, changes[i], changes[i+1], 1)
	}
	m, err := datamap.Load([]byte(changed), env, kinds)
	require.NoError(t, err)
	return m
}

func names(rules []datamap.Rule) []string {
	var all []string
	for _, r := range rules {
		all = append(all, r.Name)
	}
	return all
}

func TestRules(t *testing.T) {
	t.Parallel()
	m := load(t, "shop.yaml")
	require.Equal(t, []string{
		"shop.customers.dormant", "shop.sales.orders.support", "shop.sales.orders.accounting", "shop.sales.orders.last",
	}, names(m.Rules()))

	dormant, ok := m.Rule("shop.customers.dormant")
	require.True(t, ok)
	require.Equal(t, "shop", dormant.System)
	require.Equal(t, "customers", dormant.Entity)
	require.Empty(t, cmp.Diff(connectors.Rule{Rule: retention.Rule{
		Name:  "shop.customers.dormant",
		Class: retention.Class{Name: "dormant", Period: retention.Period{Years: 3}, Start: retention.EndOfRelationship},
		Start: retention.StartingPoint{
			Kind: retention.StartField, Field: "created_at", Null: retention.NullOther, NullField: "imported_at",
			Latest: []retention.Related{{Entity: "sales.orders", Field: "placed_at"}, {Entity: "messages", Field: "sent_at"}},
		},
		When: []dsr.Condition{
			{Field: "status", Values: []string{"active", "7"}},
			{Field: "deleted_at", Null: true},
			{Field: "plan", NotNull: true},
			{Field: "tier", Values: []string{"not_null"}},
		},
		Action: retention.Delete,
		Cap:    retention.Cap{Rows: 5000, Share: 0.1, Growth: 3},
	}}, dormant.Rule))

	support, _ := m.Rule("shop.sales.orders.support")
	require.Equal(t, retention.Period{Years: 1}, support.Class.Minimum)
	require.Equal(t, retention.Period{Days: 7}, support.Class.Grace)
	require.Equal(t, map[string]mask.Spec{
		"ip": {Kind: mask.Null}, "customer_id": {Kind: mask.HMAC, Domain: "orders"},
	}, support.Masks)
	require.Empty(t, support.Earlier)

	last, _ := m.Rule("shop.sales.orders.last")
	require.True(t, last.Unreviewed)
	require.Equal(t, retention.NullDue, last.Start.Null)
	require.Len(t, last.Earlier, 1)
	require.Equal(t, "shop.sales.orders.accounting", last.Earlier[0].Name)
	_, ok = m.Rule("shop.orders.accounting")
	require.False(t, ok)
}

func TestRulesOfALake(t *testing.T) {
	t.Parallel()
	m := load(t, "lake.yaml")
	require.Equal(t, []string{"lake.application.raw", "lake.events.objects", "lake.events.records"}, names(m.Rules()))
	require.Equal(t, dsr.Expire, m.System("lake").Entity("application").Erase)
	expire, _ := m.Rule("lake.application.raw")
	require.Equal(t, retention.StartingPoint{Kind: retention.StartEvent}, expire.Start)
	objects, _ := m.Rule("lake.events.objects")
	require.Equal(t, retention.StartingPoint{Kind: retention.StartObject}, objects.Start)
	records, _ := m.Rule("lake.events.records")
	require.Equal(t, retention.StartingPoint{Kind: retention.StartField, Field: "happened.at"}, records.Start)
	require.Equal(t, []dsr.Condition{{Field: "tag:kind", Values: []string{"raw"}}}, records.When)
	quoted := load(t, "lake.yaml", "start: object_age", `start: "object_age"`)
	objects, _ = quoted.Rule("lake.events.objects")
	require.Equal(t, retention.StartingPoint{Kind: retention.StartField, Field: "object_age"}, objects.Start)
}

// TestCut: a rule cuts where its class says, and waits for the rules before it that move on.
func TestCut(t *testing.T) {
	t.Parallel()
	m := load(t, "shop.yaml")
	today := time.Date(2032, 1, 1, 9, 0, 0, 0, m.Controller.Zone)
	last, _ := m.Rule("shop.sales.orders.last")
	cut := last.Cut(today)
	require.Equal(t, m.Controller.Zone, cut.Zone)
	require.Equal(t, "2029-01-02T00:00:00+01:00", cut.Before.Format(time.RFC3339))
	require.Len(t, cut.After, 2)
	require.Equal(t, "shop.sales.orders.accounting", cut.After[0].Rule.Name)
	require.Equal(t, "2024-07-01T00:00:00+02:00", cut.After[0].Before.Format(time.RFC3339), "the fiscal year that ended in June 2024")
	require.Equal(t, "shop.sales.orders.support", cut.After[1].Rule.Name, "nothing goes before a statutory minimum, whichever rule it is due by")
	require.Equal(t, "2031-01-02T00:00:00+01:00", cut.After[1].Before.Format(time.RFC3339), "P1Y of the class and not P2Y, its period")
	support, _ := m.Rule("shop.sales.orders.support")
	require.Empty(t, support.Cut(today).After, "what is masked stays")
	older, _ := load(t, "shop.yaml", "start: placed_at, action: next", "start: placed_at, action: delete").Rule("shop.sales.orders.last")
	cut = older.Cut(today)
	require.Len(t, cut.After, 2)
	require.Equal(t, "2025-07-01T00:00:00+02:00", cut.After[1].Before.Format(time.RFC3339), "P6Y by law")
}

// TestRuleHash: an approval ends when the rule, its masks, or a rule that it waits for changes, and with nothing else.
func TestRuleHash(t *testing.T) {
	t.Parallel()
	hash := func(m *datamap.Map, name string) string {
		r, ok := m.Rule(name)
		require.True(t, ok)
		return r.Hash()
	}
	base := load(t, "shop.yaml")
	seen := map[string]bool{}
	for _, r := range base.Rules() {
		require.False(t, seen[r.Hash()], "two rules have one hash")
		seen[r.Hash()] = true
	}
	masks := load(t, "shop.yaml", "mask: {ip: null, customer_id", "mask: {ip: redact, customer_id")
	support, last := "shop.sales.orders.support", "shop.sales.orders.last"
	require.NotEqual(t, hash(base, support), hash(masks, support))
	require.Equal(t, hash(base, last), hash(masks, last), "a rule before it that does not move on decides nothing")
	waits := load(t, "shop.yaml", "start: placed_at, action: next", "start: booked_at, action: next")
	require.NotEqual(t, hash(base, last), hash(waits, last))
	require.Equal(t, hash(base, support), hash(waits, support))
	other := load(t, "shop.yaml", "rows: 5000", "rows: 1", "grace: P7D", "grace: P1D", ", review: never", "")
	for _, r := range base.Rules() {
		require.Equal(t, r.Hash(), hash(other, r.Name), r.Name)
	}
}

// TestRuleHashReaches: an approval also ends when the words of a rule stay the same and the map leads it somewhere else,
// or makes more go with its rows.
func TestRuleHashReaches(t *testing.T) {
	t.Parallel()
	base := load(t, "shop.yaml")
	hash := func(m *datamap.Map, name string) string {
		r, ok := m.Rule(name)
		require.True(t, ok)
		return r.Hash()
	}
	const dormant, support = "shop.customers.dormant", "shop.sales.orders.support"
	for what, c := range map[string]struct {
		from, to string
		changes  []string // the rules that need another approval
	}{
		"another table":     {"      customers:\n", "      customers:\n        table: staff\n", []string{dormant}},
		"a child's table":   {"      messages:\n", "      messages:\n        table: mails\n", []string{dormant}},
		"no longer tenant":  {"      messages:\n        tenant: account_id\n", "      messages:\n        shared: true\n", []string{dormant}},
		"another child":     {"groups: {shared: true,", "groups: {shared: true, owned_by: {customer_id: customers},", []string{dormant}},
		"no minimum":        {"support: {period: P2Y, from: end_of_process, minimum: P1Y", "support: {period: P2Y, from: end_of_process", []string{dormant, support}},
		"another database":  {"dsn: ${SHOP_DSN}", "dsn: test://other.example.com/shop", []string{dormant, support}},
		"another time zone": {"Europe/Stockholm", "Europe/Helsinki", []string{dormant, support}},
		"what is not part":  {"accessed_by: [{columns: [reader_account, reader_id], entity: customers, references: [account_id, id]}]", "purposes: [invoicing]", nil},
		"limits and copies": {"connections: 4", "connections: 2", nil},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			m := load(t, "shop.yaml", c.from, c.to)
			for _, name := range []string{dormant, support} {
				require.Equal(t, slices.Contains(c.changes, name), hash(base, name) != hash(m, name), name)
			}
		})
	}
	const objects = "lake.events.objects"
	require.NotEqual(t, hash(load(t, "lake.yaml"), objects), hash(load(t, "lake.yaml", "events/**.json.gz", `"**"`), objects))
}

func TestKeptForEver(t *testing.T) {
	t.Parallel()
	require.Empty(t, load(t, "shop.yaml").Findings())
	m := load(t, "shop.yaml", "          - {class: accounting, start: placed_at, action: next}\n", "", ", minimum: P6Y", "")
	found := m.Findings()
	require.Len(t, found, 1)
	require.Equal(t, datamap.FindKeepWithoutRule, found[0].Code)
	require.Equal(t, connectors.Warning, found[0].Severity)
	require.Equal(t, "shop.sales.orders", found[0].Entity)
}
