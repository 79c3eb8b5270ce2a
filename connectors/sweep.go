package connectors

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// Rule is a deletion rule of an Entity, with the masks of a rule that pseudonymises.
type Rule struct {
	retention.Rule
	Masks map[string]mask.Spec
}

// Cut is where a rule cuts: rows whose starting point lies before Before are due.
type Cut struct {
	// Before is a local midnight of the controller, so that everything of one local day becomes due together.
	Before time.Time
	// Zone is the controller's, for starting points that the System keeps without a zone.
	Zone *time.Location
	// After are other rules of the Entity by which a row must be due too where their conditions mean it: those before this
	// one whose action is next and, where rows go, those with a statutory minimum, which cut where it ends.
	After []Bound
}

// Bound is another rule and its cut-off.
type Bound struct {
	Rule   Rule
	Before time.Time
}

// DueQuery asks what a rule makes due at several cut-offs: now, and in 7, 30 and 90 days.
type DueQuery struct {
	Entity string
	Rule   Rule
	Cuts   []Cut
	Held   Holds
}

// Due is what a rule makes due at one cut-off. Rows counts everything whose time has come; Held and Blocked are parts
// of it. For a rule that pseudonymises, rows that are masked already are not due.
type Due struct {
	Rows    int64
	Bytes   int64 // estimate; 0 when unknown
	Held    int64
	Blocked int64
	// BlockedBy names the entities whose rows keep due rows from going, sorted.
	BlockedBy []string
	Total     int64 // rows of the Entity, or the System's own estimate, for the cap on its share
	// Unreadable are contents, objects or files, that could not be read, by the code of why. What is due in them nobody
	// knows: nothing of them is in the other counts, and a Sweep leaves them. It is nil where everything was read.
	Unreadable map[dsr.Code]int64
}

// SweepJob is one slice of a Sweep.
type SweepJob struct {
	Entity string
	Rule   Rule
	Cut    Cut
	Held   Holds
	Limits Limits
	// Most is how many rows the whole Sweep may delete or mask, where a cap bounds that; 0 bounds nothing. It matters where
	// Due can leave something Unreadable: that may be readable by now, and went by no cap. A chunk that would take more is
	// not begun; the error is permanent, with dsr.CodeOverCap. A System whose Due reads everything need not heed it.
	Most     int64
	Pace     Pace
	Journal  Journal
	Deadline time.Time
}

// Pace says how gently a Sweep works. The zero Pace is full speed on one connection.
type Pace struct {
	Transaction time.Duration // target of one chunk's transaction; 0 is 50 ms
	Duty        float64       // share of the time that is worked; 0 is 1, all of it
	Connections int           // chunks worked at once; 0 is 1
	Lag         time.Duration // pause while a replica is further behind; 0 does not look
	Sessions    int           // pause while more sessions than this are active in the database; 0 does not look
	LockWaits   int           // pause while more sessions than this wait for a lock; 0 does not look
	// Stop is asked before each chunk; when it returns true the Sweep yields at once. Nil never stops.
	Stop func() bool
}

// Rests reports whether there is a duty cycle.
func (p Pace) Rests() bool { return p.Duty > 0 && p.Duty < 1 }

// Rest is how long the duty cycle asks to rest after a time of work.
func (p Pace) Rest(worked time.Duration) time.Duration {
	if !p.Rests() {
		return 0
	}
	return time.Duration(float64(worked) * (1 - p.Duty) / p.Duty)
}

// SweepMeasures are what one call of Sweep measured.
type SweepMeasures struct {
	Bytes        int64         // estimate of what was freed
	Transactions int64         // chunks committed
	Longest      time.Duration // longest transaction
	Pauses       Pauses
}

// Pauses are how long a Sweep waited for the System's sake, by why.
type Pauses map[Pause]time.Duration

// Pause is why a Sweep waits, a stable code.
type Pause string

// Why a Sweep waits: see [Pace].
const (
	PauseDuty      Pause = "duty"
	PauseLag       Pause = "lag"
	PauseSessions  Pause = "sessions"
	PauseLockWaits Pause = "lock-waits"
)

// Add counts a pause.
func (p *Pauses) Add(why Pause, took time.Duration) {
	if *p == nil {
		*p = Pauses{}
	}
	(*p)[why] += took
}

// Rest waits for as long as the duty cycle asks for after a time of work, and counts it.
func (p *Pauses) Rest(ctx context.Context, pace Pace, worked time.Duration) error {
	rest := pace.Rest(worked)
	if rest == 0 {
		return nil
	}
	defer func(began time.Time) { p.Add(PauseDuty, time.Since(began)) }(time.Now())
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(rest):
		return nil
	}
}
