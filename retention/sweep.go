package retention

import (
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// SweepState is where a Sweep stands.
type SweepState string

// States of a Sweep. Of one rule at most one is running, paused or stopped.
const (
	SweepRunning SweepState = "running" // works, or waits for its next slice
	SweepPaused  SweepState = "paused"  // its rule is paused or every sweep is stopped; goes on from its checkpoint after that
	SweepStopped SweepState = "stopped" // above a cap before anything was deleted; waits for an approval of its count
	SweepDone    SweepState = "done"    // everything that was due went, is held or is blocked
	SweepFailed  SweepState = "failed"  // a fault that trying again does not mend; Reason says which
	SweepEnded   SweepState = "ended"   // cut short: its rule has changed or is gone, or a newer Sweep took its place
)

// Open reports whether the Sweep has not come to its end.
func (s SweepState) Open() bool {
	return s == SweepRunning || s == SweepPaused || s == SweepStopped
}

// Sweep is one execution of a deletion rule. It holds no personal data.
type Sweep struct {
	ID         string // "swp_" and a ULID
	Rule       string
	System     string
	Entity     string
	Action     Action
	RuleHash   string // what was approved; see [Rule.Hash]
	MapVersion int
	State      SweepState
	StartedBy  string    // principal id; "lethe" when it was scheduled
	Now        bool      // works outside the nightly window too
	Before     time.Time // the cut-off: starting points before it are due
	// Counted before anything was deleted; nil until then. Due is what may go: what is held or blocked is not part of it.
	// Held and Blocked are counted again once the Sweep is done: what a Hold took away from Due meanwhile is part of them.
	Due     *int64
	Held    int64
	Blocked int64
	Total   int64 // rows of the Entity, or an estimate
	// BlockedBy names the entities whose rows kept due rows from going, sorted.
	BlockedBy []string
	// ApprovedBy approved a count that is above a cap, once for this Sweep; Approved is that count.
	ApprovedBy string
	Approved   int64
	// Left is what was still due, neither held nor blocked, once the Sweep was done; nil before.
	Left *int64
	// Results are what was done by Entity and Method, children included; never what a connector says that it did, but
	// what was saved with its checkpoints.
	Results    []dsr.ReceiptLine
	Measures   SweepMeasures
	Reason     string // stable code of why it stopped, failed or ended
	Hint       string // what happened, for a person: "Stopped: 41,200 due, cap 5,000. Nothing deleted."
	CreatedAt  time.Time
	UpdatedAt  time.Time
	FinishedAt *time.Time

	Works      bool      // a worker is at it, as long as LeaseUntil lasts
	Fence      int64     // work under an older one is refused
	LeaseUntil time.Time // while it is running: whose sign of life ends then is taken over
	Failures   int       // transient faults in a row
	Checkpoint []byte    // encrypted; nil before the first chunk
	Version    int64     // ETag; one higher at every change that a person can see
}

// SweepMeasures are what a Sweep measured over all its slices.
type SweepMeasures struct {
	Bytes        int64                    `json:"bytes,omitempty"` // estimate of what was freed
	Transactions int64                    `json:"transactions,omitempty"`
	Longest      time.Duration            `json:"longest_ns,omitempty"` // longest transaction
	Worked       time.Duration            `json:"worked_ns,omitempty"`
	Pauses       map[string]time.Duration `json:"pauses_ns,omitempty"` // how long it waited, by stable code of why
}

// Count sums the results of one Method over every Entity.
func (s *Sweep) Count(m dsr.Method) int64 {
	var n int64
	for _, l := range s.Results {
		if l.Method == m {
			n += l.Count
		}
	}
	return n
}

// RuleState is what Lethe remembers of one rule between its Sweeps.
type RuleState struct {
	Rule         string
	ApprovedHash string // of the last disposition review; empty when there was none
	ApprovedBy   string
	ApprovedAt   *time.Time
	PausedBy     string // empty while it runs
	PausedAt     *time.Time
	// Counted is when Due, Held and Blocked were counted; nil when never. Due leaves out what is held or blocked.
	Counted     *time.Time
	Due         int64
	Held        int64
	Blocked     int64
	Backlog     int64      // Due after the last Sweep that ended, or at the last count where none may run
	LastSuccess *time.Time // end of the last Sweep that was done
}
