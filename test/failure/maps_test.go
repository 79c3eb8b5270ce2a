package failure

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/config"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// A server whose map is wrong does not start, and says at which line and column.
func TestWrongMapKeepsTheServerFromStarting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := config.Default()
	c.Data, c.Listen, c.Map = filepath.Join(dir, "data"), "127.0.0.1:0", filepath.Join(dir, "lethe.yaml")
	text := `version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers:
  email: {kind: email}
systems:
  desk:
    connector: sqlite
    dsn: ${TARGET}
    entities:
      customers: {subject: true, fields: {email: {identifier: mail}}, erase: delete}
`
	require.NoError(t, os.WriteFile(c.Map, []byte(text), 0o600))
	a, err := app.New(t.Context(), app.Options{
		Config: c, Env: func(string) (string, bool) { return dbtest.SQLite(t), true }, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Stop(t.Context())) })
	err = a.Start(t.Context())
	require.ErrorContains(t, err, "lethe.yaml")
	require.ErrorContains(t, err, "line 10, column 63")
}

// A deployment renames a column behind the map's back between the plan and the run. Nothing is erased under a map that
// is not true; with a corrected map the request is planned again and completes.
func TestMapThatNoLongerMatches(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w := b.world(t)
		h := open(t, options{control: dbtest.SQLite(t), dir: t.TempDir(), target: w.url})
		first := h.activate(t, w.dataMap(notesDeleted))
		r := h.file(t, dsr.Erasure, 0)
		h.await(t, r.ID, dsr.AwaitingReview)
		w.exec(t, "ALTER TABLE notes RENAME COLUMN customer_id TO client_id")
		h.approve(t, r)
		r = h.await(t, r.ID, dsr.NeedsAttention)
		require.Contains(t, r.Hint, "lethe check")
		require.EqualValues(t, heavyTickets, w.count(t, "SELECT count(*) FROM tickets WHERE customer_id = 0"))

		// A retry under the same map changes nothing: it is still wrong.
		h.retry(t, r.ID)
		again := h.await(t, r.ID, dsr.NeedsAttention)
		require.NotEmpty(t, again.Hint)
		require.EqualValues(t, others, w.count(t, "SELECT count(*) FROM notes"))

		old, renamed := "notes: {owned_by: {customer_id:", "notes: {owned_by: {client_id:"
		fixed := strings.Replace(string(w.dataMap(notesDeleted)), old, renamed, 1)
		require.Greater(t, h.activate(t, []byte(fixed)), first)
		h.retry(t, r.ID)
		h.approve(t, r)
		h.erased(t, w, r.ID)
	})
}

// A request runs under the version of the map that its plan was approved under, whatever is activated meanwhile.
func TestTwoMapVersionsInFlight(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w := b.world(t)
		h := open(t, options{control: dbtest.SQLite(t), dir: t.TempDir(), target: w.url})
		first := h.activate(t, w.dataMap(notesDeleted))
		old := h.file(t, dsr.Erasure, 1)
		h.await(t, old.ID, dsr.AwaitingReview)
		second := h.activate(t, w.dataMap(
			`fields: {body: {category: user.content}}, keep: {article: "17(3)(b)", class: accounting}`))
		require.Greater(t, second, first)
		young := h.file(t, dsr.Erasure, 2)
		h.await(t, young.ID, dsr.AwaitingReview)
		h.approve(t, old)
		h.approve(t, young)
		for r, version := range map[*dsr.Request]int{old: first, young: second} {
			require.Equal(t, version, h.await(t, r.ID, dsr.Completed, dsr.CompletedWithExceptions).MapVersion)
			_, plan, err := h.engine.Plan(t.Context(), bob, r.ID)
			require.NoError(t, err)
			require.Equal(t, version, plan.MapVersion)
		}
		require.Equal(t, map[string]int64{"customers/delete": 1, "tickets/delete": 2, "notes/delete": 1}, h.receipt(t, old.ID))
		require.Zero(t, w.count(t, "SELECT count(*) FROM notes WHERE customer_id = 1"))
		require.EqualValues(t, 1, w.count(t, "SELECT count(*) FROM notes WHERE customer_id = 2"))
		require.EqualValues(t, 1, w.count(t, "SELECT count(*) FROM customers WHERE id = 2 AND name = 'Former customer'"))
	})
}
