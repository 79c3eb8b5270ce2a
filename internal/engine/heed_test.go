package engine_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/cloudwatchlogs"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/cloudwatchserver"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

const webRule = "logs.events.short"

// groupHouse is a house over log groups: /web has a rule that sets its retention, /other one that nobody has approved, and
// the retention of /theirs is none of the map's. In each there is an event of user 42.
func groupHouse(t *testing.T) (*house, *cloudwatchserver.Server) {
	t.Helper()
	h := open(t, dbtest.SQLite(t), nil, func(c *engine.Config) {
		auto(c)
		c.Kinds = append(c.Kinds, cloudwatchlogs.Kinds()...)
	})
	s := cloudwatchserver.New(h.time.Now)
	s.AccessKey, s.Secret = "AKEXAMPLE", "not a secret"
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	for _, group := range []string{"/web", "/other", "/theirs"} {
		s.Put(group, "a", h.time.Now(), `{"user":"42"}`)
		s.Retain(group, 90)
	}
	h.activate(`version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers: {user_id: {kind: opaque}}
deletion_classes: {short: {period: P30D, from: collection}}
systems:
  logs:
    connector: cloudwatchlogs
    region: eu-north-1
    endpoint: ` + web.URL + `
    access_key: AKEXAMPLE
    secret_key: not a secret
    entities:
      events: {group: /web, format: jsonl, fields: {user: {identifier: user_id}}, erase: expire, retention: [{class: short, start: event_time, action: expire, review: never}]}
      others: {group: /other, format: jsonl, fields: {user: {identifier: user_id}}, erase: expire, retention: [{class: short, start: event_time, action: expire}]}
      theirs: {group: /theirs, format: jsonl, fields: {user: {identifier: user_id}}, erase: expire}
`)
	h.sweepNow(webRule)
	h.drain()
	require.Equal(t, 30, s.Retention("/web"))
	return h, s
}

func (h *house) holdUser(id string) *dsr.Hold {
	h.t.Helper()
	h.time.forward(time.Minute) // sweeps that follow come after those before
	held, err := h.PlaceHold(h.t.Context(), officer, engine.NewHold{
		Identifiers: []engine.RawIdentifier{{Name: "user_id", Value: dsr.NewSecret(id)}}, Reference: "T-1", Review: h.time.Now().AddDate(1, 0, 0),
	})
	require.NoError(h.t, err)
	return held
}

// unheard are the entities of which check says that a setting deletes what may be held.
func (h *house) unheard() (entities []string) {
	h.t.Helper()
	found, err := h.CheckSystem(h.t.Context(), officer, "logs")
	require.NoError(h.t, err)
	for _, f := range found.Findings {
		if f.Code == "hold-unheard" {
			require.Equal(h.t, connectors.Warning, f.Severity)
			entities = append(entities, f.Entity)
		}
	}
	return entities
}

// While a hold reaches a log group the retention that a rule set is lifted; it is set again when the hold is lifted. What
// Lethe did not set it leaves, and says so.
func TestAHoldLiftsWhatARuleSet(t *testing.T) {
	t.Parallel()
	h, s := groupHouse(t)
	require.Empty(t, h.unheard())
	held := h.holdUser("42")
	h.drain()
	require.Zero(t, s.Retention("/web"))
	require.Equal(t, []int{90, 90}, []int{s.Retention("/other"), s.Retention("/theirs")})
	require.Equal(t, []string{"others", "theirs"}, h.unheard())
	last := h.sweeps()[0]
	require.EqualValues(t, 1, h.swept(last.ID, retention.SweepDone).Held, "held, and not due")
	f, err := h.Forecast(t.Context(), officer, webRule)
	require.NoError(t, err)
	require.EqualValues(t, 1, f.Rules[0].Horizons[0].Held)
	require.Zero(t, f.Rules[0].Horizons[0].Free())
	h.night()
	require.Zero(t, s.Retention("/web"), "night after night")

	_, err = h.LiftHold(t.Context(), officer, held.ID, held.Version)
	require.NoError(t, err)
	h.drain()
	require.Equal(t, 30, s.Retention("/web"))
	require.Empty(t, h.unheard())
	h.holdUser("7")
	h.drain()
	require.Equal(t, 30, s.Retention("/web"), "who is held has nothing here")
}

// A hold is heard where no sweep may run, too: the setting deletes all the same.
func TestAHoldIsHeardWhereNoSweepRuns(t *testing.T) {
	t.Parallel()
	for name, halt := range map[string]struct{ stop, start func(h *house) error }{
		"paused": {
			func(h *house) error { _, err := h.PauseRule(h.t.Context(), officer, webRule); return err },
			func(h *house) error { _, err := h.ResumeRule(h.t.Context(), officer, webRule); return err },
		},
		"stopped": {
			func(h *house) error { _, err := h.StopSweeps(h.t.Context(), officer, "test"); return err },
			func(h *house) error { _, err := h.StartSweeps(h.t.Context(), officer); return err },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, s := groupHouse(t)
			require.NoError(t, halt.stop(h))
			held := h.holdUser("42")
			h.drain()
			require.Zero(t, s.Retention("/web"))

			s.Retain("/web", 30) // somebody sets it by hand, or what is held came later
			require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickDeferred}))
			require.Zero(t, s.Retention("/web"))

			_, err := h.LiftHold(t.Context(), officer, held.ID, held.Version)
			require.NoError(t, err)
			h.drain()
			require.Zero(t, s.Retention("/web"), "a rule that does not run sets nothing")
			require.NoError(t, halt.start(h))
			h.night()
			require.Equal(t, 30, s.Retention("/web"))
		})
	}
	t.Run("changed", func(t *testing.T) {
		t.Parallel()
		h, s := groupHouse(t)
		h.approveRule("logs.others.short")
		h.sweepNow("logs.others.short")
		h.drain()
		require.Equal(t, 30, s.Retention("/other"))
		m, err := h.CurrentMap(t.Context())
		require.NoError(t, err)
		h.activate(strings.Replace(string(m.YAML), "P30D", "P60D", 1))
		h.holdUser("42")
		h.drain()
		require.Zero(t, s.Retention("/other"), "what it set under its last approval deletes as before")
	})
}

// Where it is not known what a hold covers it may cover anything.
func TestAHoldThatCannotBeResolvedIsHeard(t *testing.T) {
	t.Parallel()
	h, s := groupHouse(t)
	h.holdUser("7")
	m, err := h.CurrentMap(t.Context())
	require.NoError(t, err)
	h.activate(strings.NewReplacer("user_id: {kind", "customer: {kind", "identifier: user_id", "identifier: customer").Replace(string(m.YAML)))
	require.NoError(t, h.Heed(t.Context(), engine.Heed{}))
	require.Zero(t, s.Retention("/web"))
}
