package connectors

import (
	"time"

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
}

// SweepJob is one slice of a Sweep.
type SweepJob struct {
	Entity   string
	Rule     Rule
	Cut      Cut
	Held     Holds
	Limits   Limits
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

// SweepMeasures are what one call of Sweep measured.
type SweepMeasures struct {
	Bytes        int64         // estimate of what was freed
	Transactions int64         // chunks committed
	Longest      time.Duration // longest transaction
	Pauses       []Pause
}

// Pause is time that a Sweep waited for the System's sake.
type Pause struct {
	Why  string // stable code: "lag", "sessions", "lock-waits", "duty"
	Took time.Duration
}
