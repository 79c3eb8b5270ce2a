package engine

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/retention"
)

// silence is how long a worker may give no sign of life, or a slice may wait for one, before that is told. A worker gives
// one several times a second.
const silence = 10 * time.Second

// tellWaits puts in the hints of Sweeps that are running but on which nobody works why that is so: who looks at one after
// its worker was killed would otherwise take it for being at work until the lease has ended. It is told to whoever reads,
// and not kept.
func (e *Engine) tellWaits(ctx context.Context, sweeps ...*retention.Sweep) {
	zone := time.UTC
	if m, err := e.current(ctx); err == nil {
		zone = m.Controller.Zone
	}
	for _, s := range sweeps {
		if s.State == retention.SweepRunning && s.Hint == "" {
			s.Hint = e.waits(s, zone)
		}
	}
}

func (e *Engine) waits(s *retention.Sweep, zone *time.Location) string {
	clock := func(t time.Time) string { return t.In(zone).Format(time.RFC3339) }
	// While a worker is at it, its last sign of life; else when the next slice is due.
	at, now := s.LeaseUntil.Add(-e.c.Policy.Lease), e.now()
	late := now.Sub(at) > silence
	within, next := e.c.Policy.Retention.Window.open(now, zone)
	switch {
	case s.Works && late && s.LeaseUntil.After(now):
		return "its worker was last heard of at " + clock(at) + "; another takes over at " + clock(s.LeaseUntil)
	case s.Works && late:
		return "its worker was last heard of at " + clock(at) + ", and no other has taken over yet"
	case s.Works:
		return ""
	case !within && !s.Now:
		return "waits for its window until " + clock(next)
	case s.Failures > 0 && at.After(now):
		return "the system failed; it is tried again at " + clock(at)
	case late:
		return "waits for a worker since " + clock(at)
	}
	return ""
}
