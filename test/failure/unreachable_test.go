package failure

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// A system that refuses connections in each phase: the work waits and tries again a bounded number of times, then a
// person is asked; when the system is back, a retry finishes the work where it stopped.
func TestUnreachableSystem(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		for _, phase := range []dsr.State{dsr.Discovering, dsr.Running, dsr.Verifying} {
			t.Run(string(phase), func(t *testing.T) {
				t.Parallel()
				w := b.world(t)
				p := newProxy(t, w.host(t))
				var retries atomic.Int64
				var once sync.Once
				h := open(t, options{
					control: dbtest.SQLite(t), dir: t.TempDir(), target: w.through(t, p), retries: &retries,
					moved: func(_, to dsr.State) {
						if to == phase {
							once.Do(p.down) // the settle delay is still before the search
						}
					},
				})
				h.activate(t, w.dataMap(notesDeleted))
				if phase == dsr.Discovering {
					once.Do(p.down)
				}
				r := h.file(t, dsr.Erasure, 0)
				if phase != dsr.Discovering {
					h.approve(t, r)
				}
				r = h.attention(t, r.ID, "unavailable")
				require.Contains(t, r.Hint, "cannot be reached")
				require.Contains(t, r.Hint, "retry")
				require.EqualValues(t, tries-1, retries.Load())
				if phase != dsr.Verifying {
					require.EqualValues(t, heavyTickets, w.count(t, "SELECT count(*) FROM tickets WHERE customer_id = 0"))
				}
				p.up(t)
				h.retry(t, r.ID)
				if h.await(t, r.ID, dsr.AwaitingReview, dsr.Completed).State == dsr.AwaitingReview {
					h.approve(t, r)
				}
				h.erased(t, w, r.ID)
			})
		}
	})
}
