package engine

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Retention is what API, pages and commands may ask about deletion rules, Sweeps and Holds. [Engine] implements it.
// Rules are those of the current data map, by name; a rule, Sweep or Hold that does not exist, or that the actor may
// not see, is CodeNotFound. Rules reach the rows of every tenant: to an actor who works for some only, decisions about
// them and their Sweeps are CodeForbidden.
type Retention interface {
	// Rules returns every rule of the current map with where it stands.
	Rules(ctx context.Context, a dsr.Actor) (*RetentionStatus, error)
	// Rule returns one.
	Rule(ctx context.Context, a dsr.Actor, name string) (*RuleStatus, error)
	// Forecast counts what the named rules, or all, make due now, and in 7, 30 and 90 days. It reads only, and is the dry
	// run of a Sweep: Would says what a Sweep started now would meet.
	Forecast(ctx context.Context, a dsr.Actor, rules ...string) (*Forecast, error)
	// Simulate compares what a changed data map would delete with what the present one does, on real counts. It reads
	// only and stores nothing, and connects to no System that the present map does not reach in the same way: those are
	// a Problem. A map that is not valid is CodeInvalid, like in ActivateMap.
	Simulate(ctx context.Context, a dsr.Actor, yaml []byte) (*Simulation, error)

	// ApproveRule records the disposition review of a rule as it is now; CodeRuleMismatch when hash is another's. The
	// rule runs at its next scheduled time.
	ApproveRule(ctx context.Context, a dsr.Actor, name, hash string) (*RuleStatus, error)
	// PauseRule stops a rule's Sweep within a second and lets none begin; ResumeRule lets it go on from its checkpoint.
	// Either twice is once.
	PauseRule(ctx context.Context, a dsr.Actor, name string) (*RuleStatus, error)
	ResumeRule(ctx context.Context, a dsr.Actor, name string) (*RuleStatus, error)
	// StopSweeps stops every Sweep within a second and lets none begin; reason is a short stable code. StartSweeps lets
	// them go on. Rules that were paused on their own stay so. Either twice is once.
	StopSweeps(ctx context.Context, a dsr.Actor, reason string) (*RetentionStatus, error)
	StartSweeps(ctx context.Context, a dsr.Actor) (*RetentionStatus, error)

	// Sweep starts a Sweep of a rule. Without now it keeps to the nightly window; with now it works at once. It answers
	// the Sweep that runs already where there is one, and takes the place of one that is stopped over a cap.
	// CodeWrongState when the rule waits for its approval, is paused, every Sweep is stopped, or this machine's clock and
	// the control database's disagree.
	Sweep(ctx context.Context, a dsr.Actor, rule string, now bool) (*retention.Sweep, error)
	// ApproveSweep lets a Sweep go on that is stopped over a cap; due is the count that was shown, and CodeDueMismatch
	// when it is another. The approval is for this Sweep alone, and holds while no more is due than was approved.
	ApproveSweep(ctx context.Context, a dsr.Actor, id string, version, due int64) (*retention.Sweep, error)
	GetSweep(ctx context.Context, a dsr.Actor, id string) (*retention.Sweep, error)
	// Sweeps returns a page of Sweeps, newest first.
	Sweeps(ctx context.Context, a dsr.Actor, f SweepFilter) (page []*retention.Sweep, next string, err error)

	// PlaceHold stops deletion of a subject's or an Entity's data. When it returns no chunk of a Sweep begins that does
	// not know of it.
	PlaceHold(ctx context.Context, a dsr.Actor, n NewHold) (*dsr.Hold, error)
	// ReviewHold sets the next review date of a legal hold that somebody looked at again.
	ReviewHold(ctx context.Context, a dsr.Actor, id string, version int64, review time.Time) (*dsr.Hold, error)
	// LiftHold ends a Hold: its identifiers are forgotten, and Requests that waited for it go on.
	LiftHold(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Hold, error)
	Hold(ctx context.Context, a dsr.Actor, id string) (*dsr.Hold, error)
	// Holds returns a page of Holds, newest first.
	Holds(ctx context.Context, a dsr.Actor, f HoldFilter) (page []*dsr.Hold, next string, err error)
}

// RetentionStatus is every rule and what holds for all of them.
type RetentionStatus struct {
	Stopped  *Stop  // every Sweep is stopped; nil when they run
	Schedule string // cron expression, in Zone
	Window   Window // zero: Sweeps work at any time
	Zone     *time.Location
	Rules    []RuleStatus // in the order of the map: System, Entity, rule
}

// StopOfSweeps is the name under which every Sweep is stopped.
const StopOfSweeps = "sweeps"

// Stop says who stopped something, when and why.
type Stop struct {
	By     string // principal id; "lethe" when it was the engine
	At     time.Time
	Reason string // stable code
}

// RuleStatus is one rule of the current data map.
type RuleStatus struct {
	Rule   connectors.Rule
	System string
	Entity string
	Hash   string // what ApproveRule approves
	// NeedsApproval: the rule is new or has changed since its last disposition review, and does not run.
	NeedsApproval bool
	State         retention.RuleState
	Last          *retention.Sweep // the newest Sweep; nil when there was none
	// NextRun is nil while the rule waits for its approval, is paused, or every Sweep is stopped; and of rules whose
	// action is next, which never run by themselves.
	NextRun *time.Time
}

// Forecast is what rules make due.
type Forecast struct {
	At    time.Time
	Rules []RuleForecast // in the order of the map
}

// RuleForecast is what one rule makes due.
type RuleForecast struct {
	Rule     string
	System   string
	Entity   string
	Action   retention.Action
	Horizons []Horizon // now, and in 7, 30 and 90 days; empty with a Problem
	// Would is a stable code of what keeps a Sweep started now from deleting: "needs-approval", "paused", "stopped" or
	// "over-cap"; empty when nothing does. Hint says more.
	Would   string
	Hint    string
	Problem string // why it could not be counted, without any value
}

// Horizon is what is due at one cut-off.
type Horizon struct {
	Days   int // from today
	Before time.Time
	connectors.Due
}

// Free is what may go: neither held nor blocked.
func (h *Horizon) Free() int64 { return free(h.Due) }

func free(d connectors.Due) int64 { return max(0, d.Rows-d.Held-d.Blocked) }

// Simulation compares a changed data map with the present one.
type Simulation struct {
	At         time.Time
	MapVersion int // the present map's
	Rules      []RuleDifference
}

// RuleDifference is one rule in both maps. Before and After are nil where the rule is not in that map.
type RuleDifference struct {
	Rule   string
	System string
	Entity string
	Change string // "same", "added", "removed", "changed"
	Before *RuleForecast
	After  *RuleForecast
}

// SweepFilter selects a page of Sweeps.
type SweepFilter struct {
	Rule   string
	System string
	States []retention.SweepState
	Cursor string
	Limit  int // 0 is 50, at most 200
}

// NewHold is what PlaceHold is given: the identifiers of a subject, or a Request of theirs, or an Entity.
type NewHold struct {
	Restriction bool // Art. 18; otherwise a legal hold
	Tenant      string
	Identifiers []RawIdentifier
	// Request is an open restriction Request whose identifiers are held, in place of Identifiers. A restriction Request
	// that is completed places its Hold by itself.
	Request   string
	System    string
	Entity    string
	When      []dsr.Condition // with Entity; none holds all of it
	Reference string          // file number of the matter: letters, digits, and ._-/ only; never a person's name
	Review    time.Time       // required for a legal hold, and in the future
}

// HoldFilter selects a page of Holds.
type HoldFilter struct {
	Lifted     bool // those that were lifted, instead of those that last
	Overdue    bool // only those whose review date has passed
	Tenant     string
	System     string
	Identifier *RawIdentifier // by its commitment
	Cursor     string
	Limit      int // 0 is 50, at most 200
}

// Window is the part of every day, in the controller's time zone, in which scheduled Sweeps work. It may span
// midnight. The zero Window is all day.
type Window struct {
	From, To time.Duration // since local midnight by the wall clock
}
