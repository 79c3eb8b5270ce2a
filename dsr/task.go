package dsr

import "time"

// Phase is the step of the flow that a Task is in. A River job serves one (System, Phase) at a time for many Tasks.
type Phase string

// Phases of a Task, in order.
const (
	PhaseLocate Phase = "locate"
	PhaseErase  Phase = "erase"
	PhaseExport Phase = "export"
	PhaseVerify Phase = "verify"
	PhaseManual Phase = "manual"
	// PhaseAssemble is of Runs only: one builds the access package of one Request.
	PhaseAssemble Phase = "assemble"
)

// TaskState is where a Task stands within its Phase.
type TaskState string

// States of a Task.
const (
	TaskPending   TaskState = "pending"   // waits to be claimed by a Run
	TaskClaimed   TaskState = "claimed"   // member of a Run; can no longer be cancelled
	TaskDone      TaskState = "done"      // this Phase is finished
	TaskFailed    TaskState = "failed"    // permanent fault; Reason says which
	TaskCancelled TaskState = "cancelled" // its Request ended first
)

// Task is one Request's work in one System.
type Task struct {
	ID        string
	Request   string
	System    string
	Phase     Phase
	State     TaskState
	Run       string // the Run that claimed it
	Attempt   int    // erase and verify rounds for residue, 1-based
	Reason    string // stable code of a failure
	Hint      string
	Receipt   *Receipt
	Residue   []Residue
	NotBefore time.Time // end of the batch window or the settle delay
	Updated   time.Time
}

// Run is one job that carries out the Tasks of many Requests in one System, in one pass. Its members are fixed when
// it is created. It holds a lease with a fencing number: work under an older Fence is refused.
type Run struct {
	ID         string
	System     string
	Phase      Phase
	MapVersion int
	Fence      int64
	LeaseUntil time.Time
	Checkpoint []byte // encrypted; nil before the first chunk
	Done       bool
}
