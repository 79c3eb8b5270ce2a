package dsr

import "time"

// Kind is the right that a Request exercises.
type Kind string

// The rights of GDPR Articles 15 to 21.
const (
	Access        Kind = "access"        // Art. 15
	Rectification Kind = "rectification" // Art. 16
	Erasure       Kind = "erasure"       // Art. 17
	Restriction   Kind = "restriction"   // Art. 18
	Portability   Kind = "portability"   // Art. 20
	Objection     Kind = "objection"     // Art. 21
)

// Kinds lists every Kind in the order of the articles.
func Kinds() []Kind {
	return []Kind{Access, Rectification, Erasure, Restriction, Portability, Objection}
}

// Automatic reports whether Lethe carries the kind out by itself; the others are worked as manual Tasks that a person
// completes.
func (k Kind) Automatic() bool { return k == Access || k == Erasure }

// State is where a Request stands. See the flow in docs/ARCHITECTURE.md.
type State string

// States of a Request.
const (
	AwaitingInstruction State = "awaiting_instruction" // a processor waits for the controller
	AwaitingIdentity    State = "awaiting_identity"    // the subject has not been verified (Art. 12(6))
	Discovering         State = "discovering"          // Systems are asked what they hold
	AwaitingReview      State = "awaiting_review"      // a Plan waits for approval of its hash
	Running             State = "running"              // Tasks delete, pseudonymise or export
	Verifying           State = "verifying"            // Systems are searched again
	Manual              State = "manual"               // people carry the Tasks out
	Deferred            State = "deferred"             // answered; a scheduled job still has something to finish
	NeedsAttention      State = "needs_attention"      // a person must decide; never ends by itself

	Completed               State = "completed"                 // zero Residue, no Exception
	CompletedWithExceptions State = "completed_with_exceptions" // zero Residue outside the approved Exceptions
	Refused                 State = "refused"                   // Art. 12(4), 12(5) or an exception of 17(3) as a whole
	Cancelled               State = "cancelled"                 // withdrawn before its Run was claimed
)

// Final reports whether the Request has ended.
func (s State) Final() bool {
	switch s {
	case Completed, CompletedWithExceptions, Refused, Cancelled:
		return true
	}
	return false
}

// Scope limits a Request to some Systems or purposes; both empty means everything that the data map declares.
type Scope struct {
	Systems  []string `json:"systems,omitempty"`
	Purposes []string `json:"purposes,omitempty"`
}

// Request is one data-subject request. It carries no identifier: those are stored apart, encrypted under the
// request's own data key, so that destroying that key forgets them.
type Request struct {
	ID      string // "req_" and a ULID
	Kind    Kind
	State   State
	Tenant  string // the controller on whose behalf data is held; empty where the map has no tenants
	Scope   Scope
	FiledBy string // principal id of the person or system that filed it
	Subject string // commitment of the first Known identifier; links duplicates, reveals nothing without the key

	Ground       string // Art. 17(1) letter for an erasure: "a" … "f"; optional
	MapVersion   int    // version of the data map that its Plan was made under
	PlanHash     string // hash of the current Plan; empty before review
	ApprovedHash string // hash that was approved; Runs carry out this Plan and no other
	ApprovedBy   string // principal id, "policy:NAME" for automatic approval
	Round        int    // discovery round, 1-based

	Clock     Clock
	Article   string // article of a refusal
	Reason    string // a stable code of why it is where it is (needs_attention, refused, deferred); never an identifier
	Hint      string // what a person may do about it
	DeferTo   *time.Time
	Duplicate string // id of the open Request of the same subject and kind that it was linked to

	Version   int64 // optimistic lock and ETag; one higher at every change
	CreatedAt time.Time
	UpdatedAt time.Time
	ClosedAt  *time.Time
}

// Event is one timeline entry: a change of a Request, who made it and when. Detail holds stable codes, counts and
// hashes only; an identifier in it is a defect.
type Event struct {
	ID      int64
	Request string
	At      time.Time
	Actor   string // principal id, or "lethe" for the engine itself
	Type    string // "filed", "identity.verified", "located", "planned", "approved", "task.done" …
	From    State
	To      State
	Detail  map[string]string
}
