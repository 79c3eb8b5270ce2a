package failure

import (
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// Credentials end half way through an erasure, and with them the connections. A person is told; under new ones, which
// a restarted Lethe reads from its environment, a retry finishes what was begun.
func TestExpiredCredentials(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w, user, as := b.userWorld(t)
		p := newProxy(t, w.host(t))
		u, err := url.Parse(as)
		require.NoError(t, err)
		u.Host = p.address
		expire := []string{"ALTER USER " + user + " IDENTIFIED BY 'second'"}
		renew := []string{}
		if b.driver == "pgx" {
			// NOLOGIN holds also where the server trusts local connections and never looks at a password.
			expire = []string{"ALTER USER " + user + " NOLOGIN PASSWORD 'second' VALID UNTIL '2000-01-01'"}
			renew = []string{"ALTER USER " + user + " LOGIN VALID UNTIL 'infinity'"}
		}
		var once sync.Once
		o := options{control: dbtest.Postgres(t), dir: t.TempDir(), target: u.String()}
		o.step = func(_, name string) {
			if name == sqldb.StepCommitted {
				once.Do(func() {
					w.exec(t, expire...)
					p.cut()
				})
			}
		}
		h := open(t, o)
		h.activate(t, w.dataMap(notesDeleted))
		r := h.file(t, dsr.Erasure, 0)
		h.approve(t, r)
		r = h.attention(t, r.ID, "database-sign-in")
		require.Contains(t, r.Hint, "dsn")
		left := w.count(t, "SELECT count(*) FROM tickets WHERE customer_id = 0")
		require.Positive(t, left)
		require.Less(t, left, int64(heavyTickets))

		w.exec(t, renew...)
		h.stop()
		u.User = url.UserPassword(u.User.Username(), "second")
		o.target = u.String()
		h = open(t, o)
		h.retry(t, r.ID)
		h.erased(t, w, r.ID)
	})
}
