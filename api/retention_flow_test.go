package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	openapi_types "github.com/oapi-codegen/runtime/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

const (
	logins = "shop.logins.short"
	// Four logins of the subject and two of somebody else are long due; one of each is of tomorrow.
	loginsSQL = shopSQL + `
CREATE TABLE logins (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), at TIMESTAMP NOT NULL);
CREATE INDEX logins_at ON logins (at);
CREATE INDEX logins_customer ON logins (customer_id);
INSERT INTO logins VALUES
  (1, 1, '2020-01-01 08:00:00'), (2, 1, '2020-01-02 08:00:00'), (3, 2, '2020-01-03 08:00:00'), (4, 1, '2020-01-04 08:00:00'),
  (5, 2, '2020-01-05 08:00:00'), (6, 1, '2020-01-06 08:00:00'),
  (7, 1, datetime('now', '+1 day')), (8, 2, datetime('now', '+1 day'));`
)

var loginsMap = strings.Replace(shopMap, "systems:\n", "deletion_classes:\n  short: {period: P30D, from: collection}\nsystems:\n", 1) + `
      logins:
        owned_by: {customer_id: customers}
        not_personal: [at]
        erase: delete
        retention: [{class: short, start: at, action: delete}]
`

func withLogins(t *testing.T, dataMap string, test func(t *testing.T, h *house)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, startWith(t, "", loginsSQL, dataMap))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, startWith(t, dbtest.Postgres(t), loginsSQL, dataMap))
	})
}

func (h *house) forecast() client.RuleForecast {
	h.t.Helper()
	f := read[client.Forecast](h, h.must(h.auditor.ForecastRetention(h.t.Context(), &client.ForecastRetentionParams{})))
	require.Len(h.t, f.Rules, 1)
	require.Nil(h.t, f.Rules[0].Problem)
	require.Len(h.t, f.Rules[0].Horizons, 4)
	return f.Rules[0]
}

// sweep starts a Sweep that works at once and follows it until it no longer does.
func (h *house) sweep() *client.Sweep {
	h.t.Helper()
	resp := h.must(h.operator.StartSweep(h.t.Context(), logins, &client.StartSweepParams{}, client.SweepOrder{Now: new(true)}))
	require.Equal(h.t, http.StatusAccepted, resp.StatusCode)
	s := read[client.Sweep](h, resp)
	require.Equal(h.t, "/v1/retention/sweeps/"+s.Id, resp.Header.Get("Location"))
	return h.followSweep(s.Id)
}

func (h *house) followSweep(id string) *client.Sweep {
	h.t.Helper()
	var s *client.Sweep
	require.Eventually(h.t, func() bool {
		s = read[client.Sweep](h, h.must(h.auditor.GetSweep(h.t.Context(), id)))
		return s.State != client.SweepStateRunning
	}, 30*time.Second, 20*time.Millisecond)
	return s
}

func (h *house) approveRule() {
	h.t.Helper()
	r := read[client.Rule](h, h.must(h.dpo.GetRule(h.t.Context(), logins)))
	require.True(h.t, r.NeedsApproval)
	r = read[client.Rule](h, h.must(h.dpo.ApproveRule(h.t.Context(), logins, client.RuleApproval{Hash: r.Hash})))
	require.False(h.t, r.NeedsApproval)
	require.Equal(h.t, "ada", *r.ApprovedBy)
	require.NotNil(h.t, r.NextRun)
}

func review() *openapi_types.Date {
	return &openapi_types.Date{Time: time.Now().UTC().AddDate(0, 6, 0)}
}

func TestARuleFromItsForecastToItsSweep(t *testing.T) {
	t.Parallel()
	withLogins(t, loginsMap, func(t *testing.T, h *house) {
		ctx := t.Context()
		f := h.forecast()
		require.EqualValues(t, 6, f.Horizons[0].Free)
		require.EqualValues(t, 8, f.Horizons[3].Free, "in 90 days the logins of tomorrow are due too")
		require.Equal(t, "needs-approval", *f.Would)

		// Nothing runs before a person has approved exactly this rule.
		order := client.SweepOrder{Now: new(true)}
		resp, err := h.operator.StartSweep(ctx, logins, &client.StartSweepParams{}, order)
		_ = h.refused("wrong-state", resp, err)
		resp, err = h.dpo.ApproveRule(ctx, logins, client.RuleApproval{Hash: "0000"})
		require.Equal(t, "The rule is another by now", h.refused("rule-hash-mismatch", resp, err).Title)
		resp, err = h.operator.ApproveRule(ctx, logins, client.RuleApproval{Hash: "0000"})
		_ = h.refused("forbidden", resp, err)
		resp, err = h.dpo.GetRule(ctx, "shop.orders.short")
		_ = h.refused("not-found", resp, err)
		h.approveRule()

		// The subject's are held; a repetition under the same key is the same hold.
		n := client.NewHold{
			Kind: client.HoldKindLegal, Reference: new("CASE-17/4"), Review: review(),
			Identifiers: &client.Identifiers{{Name: "email", Value: " Canary.Subject@Example.com"}},
		}
		params := &client.PlaceHoldParams{IdempotencyKey: new("hold-1")}
		resp, err = h.operator.PlaceHold(ctx, params, n)
		_ = h.refused("forbidden", resp, err)
		hold := read[client.Hold](h, h.must(h.dpo.PlaceHold(ctx, params, n)))
		require.Equal(t, hold, read[client.Hold](h, h.must(h.dpo.PlaceHold(ctx, params, n))))
		require.Positive(t, hold.Identifiers)
		require.Len(t, read[client.HoldPage](h, h.must(h.auditor.ListHolds(ctx, &client.ListHoldsParams{}))).Holds, 1)
		email := client.Identifier{Name: "email", Value: subject}
		require.Len(t, read[client.HoldPage](h, h.must(h.dpo.SearchHolds(ctx, client.HoldSearch{Identifier: email}))).Holds, 1)
		email.Value = other
		require.Empty(t, read[client.HoldPage](h, h.must(h.dpo.SearchHolds(ctx, client.HoldSearch{Identifier: email}))).Holds)

		dry := read[client.RuleForecast](h, h.must(
			h.operator.StartSweep(ctx, logins, &client.StartSweepParams{}, client.SweepOrder{DryRun: new(true)})))
		require.EqualValues(t, 4, dry.Horizons[0].Held, "%+v", dry)
		require.EqualValues(t, 2, dry.Horizons[0].Free)
		require.Equal(t, 8, h.rows("logins"), "nothing was told to be deleted")

		s := h.sweep()
		require.Equal(t, client.SweepStateDone, s.State, "%v %v", val(s.Reason), val(s.Hint))
		require.Equal(t, "olga", s.StartedBy)
		require.EqualValues(t, 2, *s.Due)
		require.EqualValues(t, 4, s.Held)
		require.EqualValues(t, 0, *s.Left)
		require.Equal(t, 6, h.rows("logins"))
		require.Contains(t, s.Results, client.ReceiptLine{Entity: "logins", Method: client.MethodDelete, Count: 2})
		require.Contains(t, s.Results, client.ReceiptLine{Entity: "logins", Method: client.MethodHeld, Count: 4})

		// Lifted by a person who saw the hold as it is, and then the rest is due.
		resp, err = h.dpo.LiftHold(ctx, hold.Id, &client.LiftHoldParams{IfMatch: client.ETag(hold.Version + 1)})
		_ = h.refused("conflict", resp, err)
		system := h.caller("cases", dsr.RoleDPO, true)
		resp, err = system.LiftHold(ctx, hold.Id, &client.LiftHoldParams{IfMatch: client.ETag(hold.Version)})
		_ = h.refused("forbidden", resp, err)
		next := client.HoldReview{Review: openapi_types.Date{Time: review().AddDate(0, 1, 0)}}
		hold = read[client.Hold](h, h.must(
			h.dpo.ReviewHold(ctx, hold.Id, &client.ReviewHoldParams{IfMatch: client.ETag(hold.Version)}, next)))
		require.Equal(t, next.Review.String(), hold.Review.String())
		hold = read[client.Hold](h, h.must(h.dpo.LiftHold(ctx, hold.Id, &client.LiftHoldParams{IfMatch: client.ETag(hold.Version)})))
		require.Equal(t, "ada", *hold.LiftedBy)
		resp, err = h.dpo.LiftHold(ctx, hold.Id, &client.LiftHoldParams{IfMatch: client.ETag(hold.Version)})
		_ = h.refused("wrong-state", resp, err)
		require.Empty(t, read[client.HoldPage](h, h.must(h.auditor.ListHolds(ctx, &client.ListHoldsParams{}))).Holds)
		require.EqualValues(t, 4, *h.sweep().Due)
		require.Equal(t, 2, h.rows("logins"))

		h.everySweep(2)
		h.nothingLeaked()
	})
}

// everySweep walks the list in pages of one by its cursor, newest first.
func (h *house) everySweep(n int) {
	h.t.Helper()
	var got []client.Sweep
	params := &client.ListSweepsParams{Limit: new(1), Rule: new(logins), State: &[]client.SweepState{client.SweepStateDone}}
	for {
		resp := h.must(h.auditor.ListSweeps(h.t.Context(), params))
		link := resp.Header.Get("Link")
		page := read[client.SweepPage](h, resp)
		got = append(got, page.Sweeps...)
		require.Equal(h.t, page.NextCursor == nil, link == "")
		if params.Cursor = page.NextCursor; params.Cursor == nil {
			break
		}
	}
	require.Len(h.t, got, n)
	for i := 1; i < n; i++ {
		require.True(h.t, got[i-1].CreatedAt.After(got[i].CreatedAt))
	}
}

func TestASweepAboveItsCapAsks(t *testing.T) {
	t.Parallel()
	capped := strings.Replace(loginsMap, "action: delete}]", "action: delete, cap: {rows: 5}}]", 1)
	withLogins(t, capped, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.approveRule()
		require.Equal(t, "over-cap", *h.forecast().Would)
		s := h.sweep()
		require.Equal(t, client.SweepStateStopped, s.State)
		require.Equal(t, "Stopped: 6 due, cap 5. Nothing deleted.", *s.Hint)
		require.Equal(t, 8, h.rows("logins"))

		approve := func(by *client.Client, version, due int64) (*http.Response, error) {
			return by.ApproveSweep(ctx, s.Id, &client.ApproveSweepParams{IfMatch: client.ETag(version)}, client.SweepApproval{Due: due})
		}
		resp, err := approve(h.operator, s.Version, 6)
		_ = h.refused("forbidden", resp, err)
		resp, err = approve(h.dpo, s.Version-1, 6)
		_ = h.refused("conflict", resp, err)
		resp, err = approve(h.dpo, s.Version, 7)
		other := h.refused("due-mismatch", resp, err)
		require.Equal(t, "due", *other.Field)
		require.Equal(t, "Another count is due", other.Title)
		require.Equal(t, 8, h.rows("logins"), "nothing was approved, so nothing was done")
		read[client.Sweep](h, h.must(approve(h.dpo, s.Version, 6)))
		s = h.followSweep(s.Id)
		require.Equal(t, client.SweepStateDone, s.State, "%v %v", val(s.Reason), val(s.Hint))
		require.Equal(t, "ada", *s.ApprovedBy)
		require.Equal(t, 2, h.rows("logins"))
	})
}

func TestStoppingAndPausing(t *testing.T) {
	t.Parallel()
	withLogins(t, loginsMap, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.approveRule()
		order := client.SweepOrder{Now: new(true)}
		for range 2 { // twice is once
			st := read[client.RetentionStatus](h, h.must(h.operator.StopSweeps(ctx, client.SweepStop{Reason: "incident"})))
			require.Equal(t, "olga", st.Stopped.By)
			require.Equal(t, "incident", st.Stopped.Reason)
			require.Nil(t, st.Rules[0].NextRun)
		}
		resp, err := h.dpo.StartSweep(ctx, logins, &client.StartSweepParams{}, order)
		_ = h.refused("wrong-state", resp, err)
		r := read[client.Rule](h, h.must(h.operator.PauseRule(ctx, logins)))
		require.Equal(t, "olga", *r.PausedBy)
		st := read[client.RetentionStatus](h, h.must(h.operator.StartSweeps(ctx)))
		require.Nil(t, st.Stopped)
		require.NotNil(t, st.Rules[0].PausedAt, "a rule that was paused on its own stays so")
		resp, err = h.dpo.StartSweep(ctx, logins, &client.StartSweepParams{}, order)
		_ = h.refused("wrong-state", resp, err)
		require.Nil(t, read[client.Rule](h, h.must(h.operator.ResumeRule(ctx, logins))).PausedAt)
		require.Equal(t, client.SweepStateDone, h.sweep().State)
		require.Equal(t, 2, h.rows("logins"))
	})
}

func TestSimulatingAMap(t *testing.T) {
	t.Parallel()
	withLogins(t, loginsMap, func(t *testing.T, h *house) {
		ctx := t.Context()
		simulate := func(text string) *client.Simulation {
			return read[client.Simulation](h, h.must(h.operator.SimulateRetention(ctx, client.NewSimulation{Map: text})))
		}
		same := simulate(loginsMap).Rules
		require.Len(t, same, 1)
		require.Equal(t, client.RuleDifferenceChangeSame, same[0].Change)
		changed := simulate(strings.Replace(loginsMap, "P30D", "P50Y", 1)).Rules[0]
		require.Equal(t, client.RuleDifferenceChangeChanged, changed.Change)
		require.EqualValues(t, 6, changed.Before.Horizons[0].Free)
		require.EqualValues(t, 0, changed.After.Horizons[0].Free)
		elsewhere := simulate(strings.Replace(loginsMap, "dsn: ${SHOP_DSN}", "dsn: sqlite:///elsewhere.db", 1)).Rules[0]
		require.Contains(t, *elsewhere.After.Problem, "other-access")
		resp, err := h.operator.SimulateRetention(ctx, client.NewSimulation{Map: "canary.subject: [" + subject})
		require.NotContains(t, h.refused("invalid", resp, err).Error(), "canary")
		resp, err = h.operator.SimulateRetention(ctx, client.NewSimulation{Map: strings.Replace(loginsMap, "P30D", subject, 1) + "unknown: 1\n"})
		wrong := *h.refused("invalid", resp, err).Errors
		require.Len(t, wrong, 2)
		for _, f := range wrong {
			require.Equal(t, "map", f.Field)
			require.Regexp(t, `^line \d+, column \d+: `, f.Message)
			require.NotContains(t, f.Message, "canary")
		}
		require.Equal(t, 8, h.rows("logins"))
		h.nothingLeaked()
	})
}

// What is held outlives an erasure, which says so, and goes when the hold is lifted.
func TestAHoldOutlivesAnErasure(t *testing.T) {
	t.Parallel()
	withLogins(t, loginsMap, func(t *testing.T, h *house) {
		ctx := t.Context()
		hold := read[client.Hold](h, h.must(h.dpo.PlaceHold(ctx, &client.PlaceHoldParams{}, client.NewHold{
			Kind: client.HoldKindLegal, Reference: new("CASE-17/4"), Review: review(), System: new("shop"), Entity: new("logins"),
			When: &[]client.Condition{{Field: "at", NotNull: new(true)}},
		})))
		r := h.file(h.portal, filingOf(client.KindErasure))
		r = h.follow(r.Id, client.StateAwaitingReview)
		resp, err := h.approve(h.dpo, r)
		require.NoError(t, err)
		read[client.Request](h, resp)
		h.follow(r.Id, client.StateDeferred)
		require.Equal(t, 8, h.rows("logins"))
		read[client.Hold](h, h.must(h.dpo.LiftHold(ctx, hold.Id, &client.LiftHoldParams{IfMatch: client.ETag(hold.Version)})))
		require.Eventually(t, func() bool {
			return read[client.Request](h, h.must(h.dpo.GetRequest(ctx, r.Id))).State.Final()
		}, 30*time.Second, 20*time.Millisecond)
		require.Equal(t, 3, h.rows("logins"))
		h.nothingLeaked()
	})
}
