package failure

import (
	"crypto/rand"
	"encoding/hex"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// userWorld makes a world and a database user of Lethe's own with what the map needs. It returns the user's name as SQL
// writes it and the world's URL under it. The user goes after the database.
func (b backend) userWorld(t *testing.T) (w *target, user, as string) {
	t.Helper()
	raw := make([]byte, 6)
	_, err := rand.Read(raw)
	require.NoError(t, err)
	name := "lethe_" + hex.EncodeToString(raw)
	t.Cleanup(func() {
		if user != "" {
			b.anywhere(t).exec(t, "DROP USER "+user)
		}
	})
	w = b.world(t)
	u, err := url.Parse(w.url)
	require.NoError(t, err)
	u.User = url.UserPassword(name, "first")
	if user = name; b.driver == "mysql" {
		user = "'" + name + "'@'%'"
		w.exec(t, "CREATE USER "+user+" IDENTIFIED BY 'first'")
	} else {
		w.exec(t, "CREATE USER "+user+" PASSWORD 'first'")
	}
	for _, table := range tables {
		w.exec(t, "GRANT SELECT, INSERT, UPDATE, DELETE ON "+table+" TO "+user)
	}
	return w, user, u.String()
}

// anywhere is a database of the same server.
func (b backend) anywhere(t *testing.T) *target {
	t.Helper()
	w := &target{backend: b, url: b.fresh(t)}
	w.connect(t)
	return w
}

// The right to delete goes between the plan and the run, before anything is deleted.
func TestPrivilegeRevokedBeforeTheRun(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w, user, as := b.userWorld(t)
		h := open(t, options{control: dbtest.SQLite(t), dir: t.TempDir(), target: as})
		h.activate(t, w.dataMap(notesDeleted))
		r := h.file(t, dsr.Erasure, 0)
		h.await(t, r.ID, dsr.AwaitingReview)
		w.revoke(t, user)
		h.approve(t, r)
		r = h.await(t, r.ID, dsr.NeedsAttention)
		require.Contains(t, []string{"check-missing-privilege", "database-permission"}, r.Reason)
		require.Contains(t, r.Hint, "lethe grants")
		require.EqualValues(t, heavyTickets, w.count(t, "SELECT count(*) FROM tickets WHERE customer_id = 0"))
		require.EqualValues(t, others, w.count(t, "SELECT count(*) FROM notes"))
		w.grant(t, user)
		h.retry(t, r.ID)
		h.erased(t, w, r.ID)
	})
}

// The right to delete goes after the first of several transactions is committed. What is committed is counted, what
// is not is untouched, and after a retry the receipt is exact.
func TestPrivilegeRevokedHalfWay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w, user, as := b.userWorld(t)
		var once sync.Once
		h := open(t, options{
			control: dbtest.Postgres(t), dir: t.TempDir(), target: as, step: func(_, name string) {
				if name == sqldb.StepCommitted {
					once.Do(func() { w.revoke(t, user) })
				}
			},
		})
		h.activate(t, w.dataMap(notesDeleted))
		r := h.file(t, dsr.Erasure, 0)
		h.approve(t, r)
		r = h.attention(t, r.ID, "database-permission")
		require.Contains(t, r.Hint, "lethe grants")
		left := w.count(t, "SELECT count(*) FROM tickets WHERE customer_id = 0")
		gone := heavyTickets - left
		require.Positive(t, left, "the first transaction must not be the only one")
		require.Equal(t, gone, h.receipt(t, r.ID)["tickets/delete"], "what is committed is counted")
		require.EqualValues(t, 1, w.count(t, "SELECT count(*) FROM customers WHERE id = 0"), "parents go last")
		w.grant(t, user)
		h.retry(t, r.ID)
		h.erased(t, w, r.ID)
	})
}

func (w *target) revoke(t testing.TB, user string) {
	t.Helper()
	for _, table := range tables {
		w.exec(t, "REVOKE DELETE ON "+table+" FROM "+user)
	}
}

func (w *target) grant(t testing.TB, user string) {
	t.Helper()
	for _, table := range tables {
		w.exec(t, "GRANT DELETE ON "+table+" TO "+user)
	}
}

// tables are the world's, children first. Rights are given by table: MariaDB looks at those of a database only when a
// connection is made.
var tables = []string{"tickets", "notes", "customers"}
