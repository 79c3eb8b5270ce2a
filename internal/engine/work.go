package engine

import "github.com/lethe-gdpr/lethe/dsr"

// Queues of the job runner. Work that talks to systems is kept apart from upkeep, so that a slow system cannot starve
// the schedules.
const (
	QueueWork   = "work"
	QueueUpkeep = "upkeep"
)

// Gather claims the due Tasks of one System and Phase into Runs and works each Run's first slice. It is a nudge: when
// nothing is due it ends.
type Gather struct {
	System string    `json:"system"`
	Phase  dsr.Phase `json:"phase"`
}

// Kind implements [Work].
func (Gather) Kind() string { return "lethe.gather" }

// Queue names the queue that it runs in.
func (Gather) Queue() string { return QueueWork }

// Slice continues a Run that was left at a checkpoint by its slice's end, a transient fault or a lost worker. Failures
// counts transient faults in a row. A Slice whose Fence is no longer the Run's finds nothing to do.
type Slice struct {
	RunID    string `json:"run_id"`
	Fence    int64  `json:"fence"`
	Failures int    `json:"failures,omitempty"`
}

// Kind implements [Work].
func (Slice) Kind() string { return "lethe.slice" }

// Queue names the queue that it runs in.
func (Slice) Queue() string { return QueueWork }

// Assemble builds the access package of a Request whose exports are done, and closes it. Like a Slice it belongs to a
// Run, whose lease tells upkeep when its worker is gone.
type Assemble struct {
	Request  string `json:"request"`
	RunID    string `json:"run_id"`
	Fence    int64  `json:"fence"`
	Failures int    `json:"failures,omitempty"`
}

// Kind implements [Work].
func (Assemble) Kind() string { return "lethe.assemble" }

// Queue names the queue that it runs in.
func (Assemble) Queue() string { return QueueWork }

// SweepSlice works one slice of a Sweep. One whose Fence is no longer the Sweep's finds nothing to do.
type SweepSlice struct {
	SweepID string `json:"sweep_id"`
	Fence   int64  `json:"fence"`
}

// Kind implements [Work].
func (SweepSlice) Kind() string { return "lethe.sweep" }

// Queue names the queue that it runs in.
func (SweepSlice) Queue() string { return QueueWork }

// CountDue counts what a rule makes due that may not run tonight, for the metrics.
type CountDue struct {
	Rule string `json:"rule"`
}

// Kind implements [Work].
func (CountDue) Kind() string { return "lethe.count" }

// Queue names the queue that it runs in.
func (CountDue) Queue() string { return QueueWork }

// Heed makes Systems that delete by settings of their own heed a Hold that was placed or lifted.
type Heed struct {
	System string `json:"system,omitempty"` // which it reaches; every one when empty
}

// Kind implements [Work].
func (Heed) Kind() string { return "lethe.heed" }

// Queue names the queue that it runs in.
func (Heed) Queue() string { return QueueWork }

// Tick is one periodic piece of upkeep.
type Tick struct {
	Name string `json:"name"`
}

// Kind implements [Work].
func (Tick) Kind() string { return "lethe.tick" }

// Queue names the queue that it runs in.
func (Tick) Queue() string { return QueueUpkeep }

// Names of the Ticks, in the order of [Ticks].
const (
	TickLeases   = "leases"   // Runs and Sweeps whose worker is gone are taken over
	TickNudges   = "nudges"   // due Tasks whose nudge was lost are gathered
	TickDeferred = "deferred" // deferred Requests whose day has come are verified again
	TickPackages = "packages" // expired access packages are removed
	TickPurge    = "purge"    // Lethe's own retention
	TickSweeps   = "sweeps"   // Sweeps whose time has come begin
)
