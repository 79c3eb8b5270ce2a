package engine

import (
	"cmp"
	"slices"

	"github.com/lethe-gdpr/lethe/retention"
)

// The pace of Sweeps is set for a System: two that work there at once pass it together. So the Sweeps of one System take
// turns, slice by slice and across all workers, whose last slice is the longest ago first: a rule that needs many nights
// keeps no other from its own.

// turnsOf is held by whoever takes or passes a turn in a System.
func turnsOf(system string) string { return "turns:" + system }

// lockTurns holds off whoever takes or passes a turn in a Sweep's System.
func (c *changes) lockTurns(id string) error {
	s, err := c.tx.Sweep(id)
	if err != nil {
		return err
	}
	return c.tx.LockSubjects(turnsOf(s.System))
}

// turns are the Sweeps of a System: how many more may work, and those that wait for nothing else, the next first. Of self,
// which may be nil, what is given counts.
func (c *changes) turns(m *atlas, system string, self *retention.Sweep) (free int, ready []*retention.Sweep, err error) {
	open, err := c.tx.OpenSweeps("")
	if err != nil {
		return 0, nil, err
	}
	p := &c.e.c.Policy
	free = max(1, p.Retention.Together)
	within, _ := p.Retention.Window.open(c.now, m.Controller.Zone)
	for _, s := range open {
		if self != nil && s.ID == self.ID {
			s = self
		}
		switch {
		case s.System != system || s.State != retention.SweepRunning:
		case s.Works && s.LeaseUntil.After(c.now):
			free--
		case (within || s.Now) && !s.LeaseUntil.After(c.now.Add(p.Lease)): // no pause after a fault
			ready = append(ready, s)
		}
	}
	slices.SortFunc(ready, func(a, b *retention.Sweep) int {
		return cmp.Or(a.UpdatedAt.Compare(b.UpdatedAt), cmp.Compare(a.ID, b.ID))
	})
	return free, ready, nil
}

// takeTurn reports whether it is an acquired Sweep's turn. Otherwise it waits, without a job of its own, for whoever passes
// the turn on; should that get lost, its lease ends and it is taken over.
func (c *changes) takeTurn(m *atlas, s *retention.Sweep) (bool, error) {
	free, ready, err := c.turns(m, s.System, s)
	if err != nil {
		return false, err
	}
	waited := s.Reason == reasonTurn
	if s.Works = slices.Index(ready, s) < free; s.Works {
		s.Reason, s.Hint = "", ""
	} else {
		s.Reason, s.Hint = reasonTurn, "waits for another sweep of "+s.System
	}
	if s.Works && !waited {
		return true, nil // as it was acquired
	}
	return s.Works, c.tx.UpdateSweep(s)
}

// passTurn lets those Sweeps of a System go on whose turn it is and that wait for it.
func (c *changes) passTurn(m *atlas, system string) error {
	free, ready, err := c.turns(m, system, nil)
	if err != nil {
		return err
	}
	for _, s := range ready[:min(max(free, 0), len(ready))] {
		if s.Reason == reasonTurn {
			c.enqueue(SweepSlice{SweepID: s.ID, Fence: s.Fence}, c.now)
		}
	}
	return nil
}
