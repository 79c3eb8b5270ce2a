package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/logfiles"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// logsRule is the rule of [logsHouse].
const logsRule = "logs.visits.short"

// logsHouse is a house over a folder of logs, in each file some events that are due.
func logsHouse(t *testing.T, more string, files map[string]int) (*house, string) {
	t.Helper()
	root := t.TempDir()
	for name, n := range files {
		writeEvents(t, filepath.Join(root, name), n)
	}
	h := open(t, dbtest.SQLite(t), nil, func(c *engine.Config) {
		auto(c)
		c.Kinds = append(c.Kinds, logfiles.Kinds()...)
	})
	h.activate(`version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers: {email: {kind: email}}
deletion_classes:
  short: {period: P30D, from: collection}
systems:
  logs:
    connector: logfiles
    root: ` + root + `
    entities:
      visits:
        files: "*.log"
        live: live.log
        format: jsonl
        time: at
        fields: {email: {identifier: email}}
        erase: delete
        retention: [{class: short, start: event_time, action: delete, review: never` + more + `}]
`)
	return h, root
}

// writeEvents writes so many events that are due.
func writeEvents(t *testing.T, path string, n int) {
	t.Helper()
	line := `{"email":"p@example.com","at":"2026-01-05T08:00:00Z"}` + "\n"
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat(line, n)), 0o600))
}

func damage(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte("this is no JSON\n"), 0o600))
}

func files(t *testing.T, root string) (names []string) {
	t.Helper()
	found, err := os.ReadDir(root)
	require.NoError(t, err)
	for _, f := range found {
		if !strings.HasPrefix(f.Name(), ".") {
			names = append(names, f.Name())
		}
	}
	return names
}

// A file that cannot be read does not keep its rule from running, night after night: all else that is due goes, and the
// sweep ends as failed, with what there is of it.
func TestASweepGoesOnPastWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	h, root := logsHouse(t, "", map[string]int{"a.log": 3, "b.log": 2})
	damage(t, filepath.Join(root, "aa.log"))
	f, err := h.Forecast(t.Context(), officer, logsRule)
	require.NoError(t, err)
	require.Empty(t, f.Rules[0].Problem)
	require.Empty(t, f.Rules[0].Would, "a sweep would delete")
	require.EqualValues(t, 5, f.Rules[0].Horizons[0].Free())
	for _, at := range f.Rules[0].Horizons {
		require.Equal(t, map[dsr.Code]int64{dsr.CodeUnreadable: 1}, at.Unreadable)
	}
	for night, want := range []int64{5, 1} {
		h.night()
		s := h.swept(h.sweeps()[0].ID, retention.SweepFailed)
		require.Equal(t, string(dsr.CodeUnreadable), s.Reason)
		require.Contains(t, s.Hint, "1 unreadable-content (aa.log")
		require.EqualValues(t, want, *s.Due, "night %d", night)
		require.EqualValues(t, want, s.Count(dsr.Delete))
		require.EqualValues(t, 1, s.Count(dsr.Failed))
		require.Equal(t, []string{"aa.log"}, files(t, root))
		writeEvents(t, filepath.Join(root, "c.log"), 1)
	}
	writeEvents(t, filepath.Join(root, "aa.log"), 4) // mended
	h.night()
	s := h.swept(h.sweeps()[0].ID, retention.SweepDone)
	require.EqualValues(t, 5, s.Count(dsr.Delete))
	require.Zero(t, *s.Left)
	require.Zero(t, s.Count(dsr.Failed))
}

// What could not be read went by no cap. Should it be readable by the time of the sweep, that takes no more than the cap
// lets go; the next one counts it, and asks.
func TestWhatCouldNotBeReadPassesNoCap(t *testing.T) {
	t.Parallel()
	h, root := logsHouse(t, ", cap: {rows: 10}", map[string]int{"a.log": 3})
	damage(t, filepath.Join(root, "b.log"))
	mended := false
	h.hooks.sweep = func(context.Context, *connectors.SweepJob) error {
		if !mended {
			writeEvents(t, filepath.Join(root, "b.log"), 8)
		}
		mended = true
		return nil
	}
	h.night()
	s := h.swept(h.sweeps()[0].ID, retention.SweepFailed)
	require.Equal(t, string(dsr.CodeOverCap), s.Reason)
	require.EqualValues(t, 3, *s.Due)
	require.EqualValues(t, 3, s.Count(dsr.Delete))
	require.Equal(t, []string{"b.log"}, files(t, root))

	writeEvents(t, filepath.Join(root, "c.log"), 3)
	h.night()
	s = h.swept(h.sweeps()[0].ID, retention.SweepStopped)
	require.Equal(t, "Stopped: 11 due, cap 10. Nothing deleted.", s.Hint)

	// an approval is of a count, too
	damage(t, filepath.Join(root, "d.log"))
	mended = true
	h.hooks.sweep = func(context.Context, *connectors.SweepJob) error {
		writeEvents(t, filepath.Join(root, "d.log"), 1)
		return nil
	}
	_, err := h.ApproveSweep(t.Context(), officer, s.ID, s.Version, 11)
	require.NoError(t, err)
	h.drain()
	s = h.swept(s.ID, retention.SweepFailed)
	require.Equal(t, string(dsr.CodeOverCap), s.Reason)
	require.EqualValues(t, 11, s.Count(dsr.Delete))
	require.Equal(t, []string{"d.log"}, files(t, root))
}

// A cap on the share of a small entity says nothing; but where something cannot be read nobody knows that it is small.
func TestAShareOfWhatCannotBeReadInWhole(t *testing.T) {
	t.Parallel()
	h, root := logsHouse(t, ", cap: {share: 5%}", map[string]int{"a.log": 51})
	damage(t, filepath.Join(root, "b.log"))
	h.night()
	s := h.swept(h.sweeps()[0].ID, retention.SweepStopped)
	require.Equal(t, "Stopped: 51 due, 5.1% of 1,000 (1 could not be read), cap 5%. Nothing deleted.", s.Hint)
	f, err := h.Forecast(t.Context(), officer, logsRule)
	require.NoError(t, err)
	require.Equal(t, "over-cap", f.Rules[0].Would)
	writeEvents(t, filepath.Join(root, "a.log"), 50)
	h.night()
	require.EqualValues(t, 50, h.swept(h.sweeps()[0].ID, retention.SweepFailed).Count(dsr.Delete))

	writeEvents(t, filepath.Join(root, "a.log"), 900)
	require.NoError(t, os.Remove(filepath.Join(root, "b.log")))
	h.night()
	require.EqualValues(t, 900, h.swept(h.sweeps()[0].ID, retention.SweepDone).Count(dsr.Delete), "a small one")
}

// What cannot be read any more once a sweep has done its work keeps it from being called done: nobody knows what is left.
func TestASweepIsNotDoneBeforeEverythingWasRead(t *testing.T) {
	t.Parallel()
	h, root := logsHouse(t, "", map[string]int{"a.log": 2})
	counted := 0
	h.hooks.due = func(context.Context, connectors.DueQuery) error {
		if counted++; counted == 2 {
			damage(t, filepath.Join(root, "b.log"))
		}
		return nil
	}
	h.night()
	s := h.swept(h.sweeps()[0].ID, retention.SweepFailed)
	require.Equal(t, string(dsr.CodeUnreadable), s.Reason)
	require.Contains(t, s.Hint, "visits: 1 cannot be read")
	require.EqualValues(t, 2, s.Count(dsr.Delete))
	require.Nil(t, s.Left)
}

// A changed map is compared with the present one on what can be read, and says how much cannot.
func TestASimulationSaysWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	h, root := logsHouse(t, "", map[string]int{"a.log": 2})
	damage(t, filepath.Join(root, "b.log"))
	m, err := h.CurrentMap(t.Context())
	require.NoError(t, err)
	sim, err := h.Simulate(t.Context(), officer, []byte(strings.Replace(string(m.YAML), "P30D", "P365D", 1)))
	require.NoError(t, err)
	require.Len(t, sim.Rules, 1)
	require.Equal(t, []string{"2 1", "0 1"}, []string{
		fmt.Sprint(sim.Rules[0].Before.Horizons[0].Free(), sim.Rules[0].Before.Horizons[0].Unreadable[dsr.CodeUnreadable]),
		fmt.Sprint(sim.Rules[0].After.Horizons[0].Free(), sim.Rules[0].After.Horizons[0].Unreadable[dsr.CodeUnreadable]),
	})
	require.WithinDuration(t, h.time.Now(), sim.At, time.Minute)
}
