package dsr

import "time"

// Method is what happens to the rows, objects or records of one Entity.
type Method string

// Methods. A row is counted under exactly one of them.
const (
	Delete  Method = "delete"  // the row goes
	Mask    Method = "mask"    // declared fields are replaced on erasure; the row stays
	Redact  Method = "redact"  // identifiers inside declared free text are replaced
	Release Method = "release" // one of several owners goes: only the declared fields change (`on_owner_erased`)
	Anchor  Method = "anchor"  // the subject's row is masked, not deleted, while a kept row still refers to it
	Keep    Method = "keep"    // stays as an Exception; its masks, if any, are applied
	Export  Method = "export"  // copied into the access package
	Expire  Method = "expire"  // cannot be deleted singly; goes with its store's own retention
	Wait    Method = "wait"    // cannot be erased yet: a lock, an archive, a live file, a statutory minimum; Lethe erases it when that ends
	Held    Method = "held"    // in Receipts of Sweeps: due, but under a hold or a restriction
	Blocked Method = "blocked" // in Receipts of Sweeps: due, but what refers to it must stay
	Failed  Method = "failed"  // in Receipts of Sweeps: due, but the System did not let it go; or a content that could not be read
)

// PlanLine is what a Request would do to one Entity by one Method. Count is a bound, not a promise: see
// [Bounds].
type PlanLine struct {
	System    string     `json:"system"`
	Entity    string     `json:"entity"`
	Method    Method     `json:"method"`
	Count     int64      `json:"count"`
	Exception *Exception `json:"exception,omitempty"` // with Keep, Expire, Wait, and Anchor
	// Others is how many records of other people go with these: old versions of a shared object. Whoever approves must
	// have seen it.
	Others int64 `json:"others,omitempty"`
}

// Cause is a stable code of why something stays that no article of the map keeps.
type Cause string

// Causes.
const (
	CauseRetention  Cause = "retention"         // the store deletes it by its own retention, not singly
	CauseObjectLock Cause = "object-lock"       // a retention date of S3 Object Lock
	CauseLegalHold  Cause = "legal-hold"        // a legal hold of S3 Object Lock: ends when somebody lifts it
	CauseArchived   Cause = "archived"          // must be restored from an archive tier before it can be read
	CauseLiveFile   Cause = "live-file"         // a log file that is still written to: waits for its rotation
	CauseUpload     Cause = "unfinished-upload" // parts of an object in a bucket that nobody can read before it is whole
	CauseMFADelete  Cause = "mfa-delete"        // a bucket in which only its root account can delete versions
	CauseHold       Cause = "hold"              // a Hold of Lethe: legal hold or restriction
	CauseMinimum    Cause = "statutory-minimum" // a law says how long it must be kept, and that time has not ended
)

// Exception says what stays and why: article, statute, and the DeletionRule that ends it.
type Exception struct {
	Cause   Cause      `json:"cause,omitempty"`
	Article string     `json:"article"`           // "17(3)(b)"
	Statute string     `json:"statute,omitempty"` // "Bokföringslag 7:2"
	Class   string     `json:"class,omitempty"`   // the deletion class whose rule ends it
	Ends    *time.Time `json:"ends,omitempty"`    // latest end among the rows concerned, where it is known
}

// Plan is what a Request would do, per System, Entity and Method. Approval is of its Hash.
type Plan struct {
	Request    string
	Kind       Kind
	MapVersion int
	MapHash    string
	// Commitments of every identifier the Plan acts on, sorted; a new one is drift.
	Commitments []string
	Lines       []PlanLine // sorted by System, Entity, Method
	// Unsearched lists "system.entity.field" of free text that the map does not declare in mentions.
	Unsearched []string
	Copies     []Copy
	CreatedAt  time.Time
}

// Copy is a place that Lethe cannot reach itself: a backup, a replica, a cache. It is shown in the Plan and the
// certificate with its end, or with the recipient who is told.
type Copy struct {
	System    string `json:"system,omitempty"`
	What      string `json:"what"`
	Ends      string `json:"ends,omitempty"`      // ISO 8601 period after the erasure
	Recipient string `json:"recipient,omitempty"` // told under Art. 19 instead
}

// Receipt is what one Task did. It holds no personal data.
type Receipt struct {
	Request string
	System  string
	Lines   []ReceiptLine
	Residue int64
	// Unsearched lists "system.entity.field" of free text that was not searched; set in the locate phase, whose Lines
	// are what was found.
	Unsearched []string `json:"Unsearched,omitempty"`
	Copies     []Copy   `json:"Copies,omitempty"` // that the System itself knows of; set in the locate phase
	Started    time.Time
	Finished   time.Time
}

// ReceiptLine counts the rows of one Entity that were handled by one Method.
type ReceiptLine struct {
	Entity string `json:"entity"`
	Method Method `json:"method"`
	Count  int64  `json:"count"`
	// Resolved is the part of Count that was settled after an interruption: the intent of the interrupted chunk minus
	// what was still present (`resolved_after_interruption`).
	Resolved int64 `json:"resolved_after_interruption,omitempty"`
	// Exception and Others are what the System itself said of the rows; only in what was located.
	Exception *Exception `json:"exception,omitempty"`
	Others    int64      `json:"others,omitempty"`
}

// Residue is a match of a subject outside the approved exceptions, found by searching again. It names the place,
// never the value.
type Residue struct {
	Subject string `json:"subject"` // reference of the Subject in the batch
	System  string `json:"system"`
	Entity  string `json:"entity"`
	Field   string `json:"field,omitempty"`
	Count   int64  `json:"count"`
	// Waits is set where it cannot go yet, and says why and until when: a lock, a live log file, a statutory minimum, events
	// that only expire. It is then no failure of the erasure; the Request is deferred, and this is searched for again when
	// Waits ends.
	Waits *Exception `json:"waits,omitempty"`
}
