package engine

import (
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Holds stores Holds, with the sealed identifiers and the wrapped data keys of those on subjects. Commitments of a Hold
// come with it when it is read.
type Holds interface {
	// InsertHold stores a Hold; dataKey is nil for one on an Entity.
	InsertHold(h *dsr.Hold, dataKey []byte) error
	HoldOf(id string) (*dsr.Hold, error)
	// UpdateHold writes review and lifting when the Version is unchanged and adds one to it; CodeConflict otherwise.
	UpdateHold(h *dsr.Hold) error
	// AddHoldIdentifiers ignores those whose (Hold, Name, Commitment) is there already.
	AddHoldIdentifiers(ids ...SealedIdentifier) error
	// SetUnlearned says why it is not known yet what else a Hold's subject is called; empty once it is. The Version stays.
	SetUnlearned(id, why string) error
	// OpenHolds returns every Hold that lasts, by id, with its sealed identifiers and its data key.
	OpenHolds() ([]SealedHold, error)
	// LastingHolds returns the ids of the Holds that last.
	LastingHolds() ([]string, error)
	// HoldsOn returns the Holds that last on a subject of the tenant who has one of the commitments, by id.
	HoldsOn(tenant string, commitments []string) ([]*dsr.Hold, error)
	// ForgetHold destroys a Hold's data key and ciphertexts; its commitments stay for its retention.
	ForgetHold(id string) error
	// ListHolds returns a page, newest first.
	ListHolds(f HoldSelection) (page []*dsr.Hold, next string, err error)
}

// SealedHold is a Hold with what opens its identifiers.
type SealedHold struct {
	*dsr.Hold
	Sealed  []SealedIdentifier
	DataKey []byte // wrapped; nil of a Hold on an Entity
}

// HoldSelection is a [HoldFilter] as the store understands it.
type HoldSelection struct {
	Lifted      bool
	Overdue     *time.Time // only those whose review lies before it
	Tenants     []string   // nil is every tenant
	System      string
	Commitments []string // nil is any
	Request     string
	Cursor      string
	Limit       int
}

// Sweeps stores Sweeps, their fenced checkpoints and tallies. Results of a Sweep come with it when it is read.
type Sweeps interface {
	// InsertSweep answers CodeConflict while a Sweep of the same rule has not come to its end.
	InsertSweep(s *retention.Sweep) error
	Sweep(id string) (*retention.Sweep, error)
	// LockSweep is Sweep under a lock that lasts until the transaction ends.
	LockSweep(id string) (*retention.Sweep, error)
	// OpenSweeps returns those that have not come to their end, by id; rule empty is of every rule.
	OpenSweeps(rule string) ([]*retention.Sweep, error)
	// UpdateSweep writes everything but checkpoint and lease, and adds one to Version. Lock the Sweep first.
	UpdateSweep(s *retention.Sweep) error
	// DoneSweeps returns the newest Sweeps of a rule that were done.
	DoneSweeps(rule string, limit int) ([]*retention.Sweep, error)
	// LastSweeps returns the newest Sweep of each rule that has one.
	LastSweeps() (map[string]*retention.Sweep, error)
	ListSweeps(f SweepFilter) (page []*retention.Sweep, next string, err error)
	// AcquireSweep takes the lease of a running Sweep when it is free, expired, or held under fence, and takes its
	// interruption back; it returns the Sweep, that Works, with a higher Fence. CodeConflict when another worker holds it,
	// CodeWrongState when it is not running.
	AcquireSweep(id string, fence int64, now time.Time, lease time.Duration) (*retention.Sweep, error)
	// SaveSweep stores a checkpoint and adds tallies when the Sweep runs under fence; connectors.ErrFenced otherwise. It
	// reports whether the Sweep was interrupted: what it does next must wait until its worker has looked again.
	SaveSweep(id string, fence int64, until time.Time, checkpoint []byte, done []connectors.Tally) (interrupted bool, err error)
	// BeatSweep extends the lease and reports whether the Sweep was interrupted; connectors.ErrFenced like SaveSweep.
	BeatSweep(id string, fence int64, until time.Time) (interrupted bool, err error)
	// InterruptSweeps makes Sweeps that have not come to their end look again; rule empty is every rule. It waits for
	// whoever is changing one of them.
	InterruptSweeps(rule string) error
	ExpiredSweeps(now time.Time, limit int) ([]*retention.Sweep, error)
}

// Rules stores what Lethe remembers of deletion rules, and what is stopped.
type Rules interface {
	// RuleStates returns what is remembered, by rule.
	RuleStates() (map[string]*retention.RuleState, error)
	PutRuleState(s *retention.RuleState) error
	// Stopped returns nil when it is not.
	Stopped(name string) (*Stop, error)
	PutStop(name string, s Stop) error
	DropStop(name string) error
}
