package dsr_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
)

func plan() *dsr.Plan {
	return &dsr.Plan{
		Request: "req_1", Kind: dsr.Erasure, MapHash: "m", Commitments: []string{"b", "a"},
		Lines: []dsr.PlanLine{
			{System: "shop", Entity: "orders", Method: dsr.Keep, Count: 5, Exception: &dsr.Exception{Article: "17(3)(b)"}},
			{System: "shop", Entity: "customers", Method: dsr.Delete, Count: 1},
			{System: "shop", Entity: "messages", Method: dsr.Release, Count: 2},
		},
	}
}

func TestPlanHash(t *testing.T) {
	t.Parallel()
	base := plan().Hash()
	same := map[string]func(*dsr.Plan){
		"order":      func(p *dsr.Plan) { p.Sort() },
		"counts":     func(p *dsr.Plan) { p.Lines[0].Count = 9 },
		"end date":   func(p *dsr.Plan) { now := time.Now(); p.Lines[0].Exception.Ends = &now },
		"created at": func(p *dsr.Plan) { p.CreatedAt = time.Now() },
	}
	for name, change := range same {
		p := plan()
		change(p)
		require.Equal(t, base, p.Hash(), name)
	}
	other := map[string]func(*dsr.Plan){
		"map":        func(p *dsr.Plan) { p.MapHash = "n" },
		"identifier": func(p *dsr.Plan) { p.Commitments = append(p.Commitments, "c") },
		"method":     func(p *dsr.Plan) { p.Lines[1].Method = dsr.Mask },
		"exception":  func(p *dsr.Plan) { p.Lines[0].Exception.Statute = "x" },
		"line":       func(p *dsr.Plan) { p.Lines = p.Lines[:1] },
		"request":    func(p *dsr.Plan) { p.Request = "req_2" },
		"kind":       func(p *dsr.Plan) { p.Kind = dsr.Access },
	}
	for name, change := range other {
		p := plan()
		change(p)
		require.NotEqual(t, base, p.Hash(), name)
	}
}

func TestDrift(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*dsr.Plan)
		want   []string
	}{
		"nothing":      {func(*dsr.Plan) {}, nil},
		"fewer":        {func(p *dsr.Plan) { p.Lines = p.Lines[:1]; p.Commitments = nil }, nil},
		"within bound": {func(p *dsr.Plan) { p.Lines[0].Count = 105 }, nil},
		"over bound":   {func(p *dsr.Plan) { p.Lines[0].Count = 106 }, []string{"count:shop.orders.keep"}},
		"new method": {
			func(p *dsr.Plan) { p.Lines[1].Method = dsr.Anchor },
			[]string{"new:shop.customers.anchor"},
		},
		"released row lost its other owners": {
			func(p *dsr.Plan) {
				p.Lines = append(p.Lines, dsr.PlanLine{System: "shop", Entity: "messages", Method: dsr.Delete, Count: 100})
			},
			nil,
		},
		"more than was released": {
			func(p *dsr.Plan) {
				p.Lines = append(p.Lines, dsr.PlanLine{System: "shop", Entity: "messages", Method: dsr.Delete, Count: 101})
			},
			[]string{"count:shop.messages.delete"},
		},
		"more waits": {
			func(p *dsr.Plan) {
				p.Lines = append(p.Lines, dsr.PlanLine{System: "logs", Entity: "app", Method: dsr.Wait, Count: 900})
			},
			nil,
		},
		"new but empty": {func(p *dsr.Plan) { p.Lines[1].Method, p.Lines[1].Count = dsr.Anchor, 0 }, nil},
		"identifier":    {func(p *dsr.Plan) { p.Commitments = append(p.Commitments, "c") }, []string{"identifier"}},
		"map":           {func(p *dsr.Plan) { p.MapHash = "n" }, []string{"map"}},
	} {
		now := plan()
		c.change(now)
		require.Equal(t, c.want, plan().Drift(now, dsr.DefaultBounds), name)
	}
	require.EqualValues(t, 11_000, dsr.DefaultBounds.Most(10_000))
}

// What waited when the Plan was approved may be erased later; what is above it is drift.
func TestDriftOfWhatWaited(t *testing.T) {
	t.Parallel()
	approved := plan()
	approved.Lines = append(approved.Lines, dsr.PlanLine{System: "logs", Entity: "app", Method: dsr.Wait, Count: 500})
	for count, want := range map[int64][]string{600: nil, 601: {"count:logs.app.delete"}} {
		now := plan()
		now.Lines = append(now.Lines, dsr.PlanLine{System: "logs", Entity: "app", Method: dsr.Delete, Count: count})
		require.Equal(t, want, approved.Drift(now, dsr.DefaultBounds))
	}
	other := plan()
	other.Lines = append(other.Lines, dsr.PlanLine{System: "logs", Entity: "old", Method: dsr.Delete, Count: 1})
	require.Equal(t, []string{"new:logs.old.delete"}, approved.Drift(other, dsr.DefaultBounds))
}

// What is anchored for rows that a law wants goes with them; what is anchored for others was approved to stay.
func TestDriftOfAnchors(t *testing.T) {
	t.Parallel()
	anchored := dsr.PlanLine{System: "crm", Entity: "people", Method: dsr.Anchor, Count: 1}
	waits := dsr.PlanLine{System: "crm", Entity: "bills", Method: dsr.Wait, Count: 2, Exception: &dsr.Exception{Cause: dsr.CauseMinimum}}
	elsewhere := waits
	elsewhere.System = "shop"
	now := plan()
	now.Lines = append(now.Lines, dsr.PlanLine{System: "crm", Entity: "people", Method: dsr.Delete, Count: 1})
	for _, c := range []struct {
		lines []dsr.PlanLine
		want  []string
	}{
		{[]dsr.PlanLine{anchored, waits}, nil},
		{[]dsr.PlanLine{anchored, elsewhere}, []string{"new:crm.people.delete"}},
		{[]dsr.PlanLine{anchored}, []string{"new:crm.people.delete"}},
		{[]dsr.PlanLine{waits}, []string{"new:crm.people.delete"}},
	} {
		approved := plan()
		approved.Lines = append(approved.Lines, c.lines...)
		require.Equal(t, c.want, approved.Drift(now, dsr.DefaultBounds), c.lines)
	}
}

func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	id := dsr.Identifier{Name: "email", Value: dsr.NewSecret("canary@example.com")}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		require.NotContains(t, fmt.Sprintf(format, id), "canary")
		require.NotContains(t, fmt.Sprintf(format, &id), "63616e617279")
	}
	require.Equal(t, "canary@example.com", id.Value.Reveal())
}
