package failure

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

const day = 24 * time.Hour

// The clock jumps at every change of state: the work goes on and the deadline is the one of the filing.
func TestClockJumpsBetweenPhases(t *testing.T) {
	t.Parallel()
	for name, jumps := range map[string]map[dsr.State]time.Duration{
		"forward":    {dsr.AwaitingReview: day, dsr.Running: 2 * day, dsr.Verifying: 3 * day},
		"back":       {dsr.AwaitingReview: -day, dsr.Running: -2 * day, dsr.Verifying: -3 * day},
		"to and fro": {dsr.AwaitingReview: day, dsr.Running: -day, dsr.Verifying: day},
		"fro and to": {dsr.AwaitingReview: -day, dsr.Running: day, dsr.Verifying: -day},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := backends[0].world(t)
			c := &clock{}
			h := open(t, options{
				control: dbtest.SQLite(t), dir: t.TempDir(), target: w.url, clock: c,
				moved: func(_, to dsr.State) {
					if by, ok := jumps[to]; ok {
						c.set(by)
					}
				},
			})
			h.activate(t, []byte(strings.Replace(string(w.dataMap(notesDeleted)), "settle: 300ms", "settle: 0s", 1)))
			r := h.file(t, dsr.Erasure, 0)
			due := r.Clock.Due
			h.approve(t, r)
			h.erased(t, w, r.ID)
			require.True(t, due.Equal(h.get(t, r.ID).Clock.Due))
		})
	}
}

// The clock jumps a day ahead while a worker is busy. Its lease has ended for everybody else, so another takes the run
// over, and the first, when it goes on, is refused.
func TestClockJumpsAheadDuringALease(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w := b.world(t)
		c := &clock{}
		overtaken := make(chan struct{})
		var steps atomic.Int64
		h := open(t, options{
			control: dbtest.Postgres(t), dir: t.TempDir(), target: w.url, clock: c, auto: true,
			step: func(string, string) {
				switch steps.Add(1) {
				case 2:
					close(overtaken)
				case 1:
					c.set(day)
					<-overtaken
				}
			},
		})
		h.activate(t, w.dataMap(notesDeleted))
		r := h.file(t, dsr.Erasure, 0)
		h.erased(t, w, r.ID)
		require.True(t, r.Clock.Due.Equal(h.get(t, r.ID).Clock.Due))
	})
}

// The clock jumps a day back while a worker is busy: it keeps its run and ends it.
func TestClockJumpsBackDuringALease(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w := b.world(t)
		c := &clock{}
		var once sync.Once
		h := open(t, options{
			control: dbtest.SQLite(t), dir: t.TempDir(), target: w.url, clock: c, auto: true,
			step: func(_, name string) {
				if name == sqldb.StepCommitted {
					once.Do(func() { c.set(-day) })
				}
			},
		})
		h.activate(t, []byte(strings.Replace(string(w.dataMap(notesDeleted)), "settle: 300ms", "settle: 0s", 1)))
		r := h.file(t, dsr.Erasure, 0)
		h.erased(t, w, r.ID)
		require.True(t, r.Clock.Due.Equal(h.get(t, r.ID).Clock.Due))
	})
}

// Two machines whose clocks are a day apart work on one control database: for the one, every lease of the other has
// ended. They take runs from each other, and every row is still counted once.
func TestTwoMachinesADayApart(t *testing.T) {
	t.Parallel()
	w := backends[0].world(t)
	control, dir := dbtest.Postgres(t), t.TempDir()
	h := open(t, options{control: control, dir: dir, target: w.url, auto: true, attempts: patient})
	h.activate(t, w.dataMap(notesDeleted))
	ahead := &clock{}
	ahead.set(day)
	open(t, options{control: control, dir: dir, target: w.url, auto: true, attempts: patient, clock: ahead})
	heavy := h.file(t, dsr.Erasure, 0)
	light := []string{}
	for i := 1; i <= 5; i++ {
		light = append(light, h.file(t, dsr.Erasure, i).ID)
	}
	h.await(t, heavy.ID, dsr.Completed)
	require.Equal(t, heavyReceipt, h.receipt(t, heavy.ID))
	for _, id := range light {
		h.await(t, id, dsr.Completed)
		require.Equal(t, map[string]int64{"customers/delete": 1, "tickets/delete": 2, "notes/delete": 1}, h.receipt(t, id))
	}
	require.EqualValues(t, others-6, w.count(t, "SELECT count(*) FROM customers"))
	require.EqualValues(t, 2*(others-6), w.count(t, "SELECT count(*) FROM tickets"))
}
