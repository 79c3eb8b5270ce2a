package failure

import (
	"fmt"
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
	for _, c := range []struct {
		name   string
		on     backend
		expire string
		renew  string
	}{
		// NOLOGIN holds also where the server trusts local connections and never looks at a password.
		{
			"PostgreSQL, no longer valid", backends[0], "ALTER USER %s NOLOGIN VALID UNTIL '2000-01-01'",
			"ALTER USER %s LOGIN PASSWORD 'second' VALID UNTIL 'infinity'",
		},
		{"MariaDB, changed", backends[1], "ALTER USER %s IDENTIFIED BY 'second'", ""},
		{"MariaDB, expired", backends[1], "ALTER USER %s PASSWORD EXPIRE", "ALTER USER %s IDENTIFIED BY 'second'"},
		{
			"MariaDB, locked", backends[1], "ALTER USER %s ACCOUNT LOCK",
			"ALTER USER %s IDENTIFIED BY 'second' ACCOUNT UNLOCK",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, user, as := c.on.userWorld(t)
			p := newProxy(t, w.host(t))
			u, err := url.Parse(as)
			require.NoError(t, err)
			u.Host = p.address
			var once sync.Once
			o := options{control: dbtest.Postgres(t), dir: t.TempDir(), target: u.String()}
			o.step = func(_, name string) {
				if name == sqldb.StepCommitted {
					once.Do(func() {
						w.exec(t, fmt.Sprintf(c.expire, user))
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

			if c.renew != "" {
				w.exec(t, fmt.Sprintf(c.renew, user))
			}
			h.stop()
			u.User = url.UserPassword(u.User.Username(), "second")
			o.target = u.String()
			h = open(t, o)
			h.retry(t, r.ID)
			h.erased(t, w, r.ID)
		})
	}
}
