package retention_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

func tickets() retention.Rule {
	return retention.Rule{
		Name: "help.tickets.support",
		Class: retention.Class{
			Name: "support", Start: retention.EndOfProcess,
			Period: retention.Period{Years: 2}, Minimum: retention.Period{Years: 1}, Grace: retention.Period{Days: 7},
		},
		Start: retention.StartingPoint{
			Kind: retention.StartField, Field: "closed_at", Null: retention.NullKeep,
			Latest: []retention.Related{{Entity: "replies", Field: "sent_at"}, {Entity: "calls", Field: "ended_at"}},
		},
		When:   []dsr.Condition{{Field: "status", Values: []string{"closed", "spam"}}, {Field: "invoice", Null: true}},
		Action: retention.Delete,
		Cap:    retention.Cap{Rows: 5000},
	}
}

// TestHash: an approval is of what is deleted. Whatever changes that changes the hash, and nothing else does.
func TestHash(t *testing.T) {
	t.Parallel()
	base := tickets()
	hash := base.Hash("{}")
	for name, change := range map[string]func(r *retention.Rule){
		"cap":                 func(r *retention.Rule) { r.Cap = retention.Cap{Rows: 1, Share: 0.1, Growth: 2} },
		"grace":               func(r *retention.Rule) { r.Class.Grace = retention.Period{} },
		"review":              func(r *retention.Rule) { r.Unreviewed = true },
		"order of conditions": func(r *retention.Rule) { r.When[0], r.When[1] = r.When[1], r.When[0] },
		"order of values":     func(r *retention.Rule) { r.When[0].Values = []string{"spam", "closed"} },
		"order of relations":  func(r *retention.Rule) { l := r.Start.Latest; l[0], l[1] = l[1], l[0] },
	} {
		r := tickets()
		change(&r)
		require.Equal(t, hash, r.Hash("{}"), name)
	}
	for name, change := range map[string]func(r *retention.Rule){
		"name":           func(r *retention.Rule) { r.Name = "help.tickets.spam" },
		"period":         func(r *retention.Rule) { r.Class.Period.Days++ },
		"minimum":        func(r *retention.Rule) { r.Class.Minimum.Days++ },
		"from":           func(r *retention.Rule) { r.Class.Start = retention.EndOfCalendarYear },
		"fiscal year":    func(r *retention.Rule) { r.Class.FiscalYear = june },
		"kind of start":  func(r *retention.Rule) { r.Start.Kind = retention.StartObject },
		"start":          func(r *retention.Rule) { r.Start.Field = "created_at" },
		"related":        func(r *retention.Rule) { r.Start.Latest[0].Field = "read_at" },
		"one related":    func(r *retention.Rule) { r.Start.Latest = r.Start.Latest[:1] },
		"missing start":  func(r *retention.Rule) { r.Start.Null = retention.NullDue },
		"other start":    func(r *retention.Rule) { r.Start.NullField = "created_at" },
		"value":          func(r *retention.Rule) { r.When[0].Values = []string{"closed", "open"} },
		"fewer values":   func(r *retention.Rule) { r.When[0].Values = r.When[0].Values[:1] },
		"null":           func(r *retention.Rule) { r.When[1] = dsr.Condition{Field: "invoice", NotNull: true} },
		"no condition":   func(r *retention.Rule) { r.When = r.When[:1] },
		"action":         func(r *retention.Rule) { r.Action = retention.Pseudonymise },
		"values swapped": func(r *retention.Rule) { r.When[0].Values, r.When[1].Values = nil, r.When[0].Values },
	} {
		r := tickets()
		change(&r)
		require.NotEqual(t, hash, r.Hash("{}"), name)
	}
	require.NotEqual(t, hash, base.Hash(`{"note":"redact"}`))
	require.Equal(t, tickets(), base, "hashing changes nothing")
}

func TestValidate(t *testing.T) {
	t.Parallel()
	events := func(r *retention.Rule) {
		r.Start = retention.StartingPoint{Kind: retention.StartEvent}
		r.Class.Start, r.Class.Minimum, r.When, r.Action = retention.Collection, retention.Period{}, nil, retention.Expire
	}
	for name, c := range map[string]struct {
		change func(r *retention.Rule)
		field  string
	}{
		"as it is":               {func(*retention.Rule) {}, ""},
		"due before the minimum": {func(r *retention.Rule) { r.Start.Null = retention.NullDue }, "if_null"},
		"due without a minimum": {func(r *retention.Rule) {
			r.Start.Null, r.Class.Minimum = retention.NullDue, retention.Period{}
		}, ""},
		"end of process unsaid": {func(r *retention.Rule) { r.Start.Null, r.Start.Latest = "", nil }, "if_null"},
		"end of relationship unsaid": {func(r *retention.Rule) {
			r.Start.Null, r.Start.Latest, r.Class.Start = "", nil, retention.EndOfRelationship
		}, "if_null"},
		"latest unsaid":              {func(r *retention.Rule) { r.Start.Null, r.Class.Start = "", retention.Collection }, "if_null"},
		"collection unsaid":          {func(r *retention.Rule) { r.Start.Null, r.Start.Latest, r.Class.Start = "", nil, retention.Collection }, ""},
		"expire":                     {events, ""},
		"an event always has a time": {func(r *retention.Rule) { events(r); r.Start.Null = retention.NullKeep }, "if_null"},
		"expire by a field":          {func(r *retention.Rule) { r.Action = retention.Expire }, "action"},
		"expire at a year's end":     {func(r *retention.Rule) { events(r); r.Class.Start = retention.EndOfFiscalYear }, "action"},
		"expire under conditions":    {func(r *retention.Rule) { events(r); r.When = tickets().When }, "action"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := tickets()
			c.change(&r)
			err := r.Validate()
			if c.field == "" {
				require.NoError(t, err)
				return
			}
			var e *dsr.Error
			require.True(t, errors.As(err, &e))
			require.Equal(t, c.field, e.Field)
			require.NotEmpty(t, e.Hint)
		})
	}
}
