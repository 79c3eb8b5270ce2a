// Package connectors is the contract between Lethe and the systems that hold data. A connector implements
// [Connector] and whichever of [Exporter] and [Eraser] its system can do; capabilities are derived from what is
// implemented, so they cannot lie. docs/CONNECTORS.md shows how to write one and connectors/connectortest is the
// suite that each must pass against a real backend.
//
// Every verb takes a batch: one pass for many subjects is what makes lakes and logs affordable. Every verb is
// idempotent, resumes from its checkpoint, and is safe when two workers run it. Errors carry no value of any
// identifier; a fault that trying again cannot mend is wrapped in [Permanent].
package connectors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Connector is what every system offers.
type Connector interface {
	// Describe reads the system's own catalogue. It is called by init, drift and check; not per request.
	Describe(ctx context.Context) (Schema, error)
	// Check reports everything that would make a Request or a sweep fail or be incomplete under the map that the connector
	// was opened with. It reads only.
	Check(ctx context.Context) ([]Finding, error)
	// Locate counts what the system holds of each subject, and learns identifiers. It reads only, from the primary.
	// With Query.Teaching only entities that teach are asked.
	Locate(ctx context.Context, q Query) (Located, error)
	// Verify searches every declared and mentions field again for each subject, on the primary, and follows spooled
	// keys to children that lost their parent. What the approved Plan keeps is not Residue. What cannot go yet, held rows
	// among it, is returned with Residue.Waits.
	Verify(ctx context.Context, s Search) ([]dsr.Residue, error)
	// Close releases connections. No verb runs or is called afterwards.
	Close() error
}

// Exporter copies subjects' data.
type Exporter interface {
	// Export writes every record of each subject, including those it only accesses, to that subject's sink, in
	// bounded memory. Records are in a stable order; an interrupted call resumes at the Journal's checkpoint.
	Export(ctx context.Context, j Job, sinks SinkFor) error
}

// Eraser carries out the approved Plan: delete, mask, redact, release, anchor or keep.
type Eraser interface {
	Erase(ctx context.Context, j Job) error
}

// Sweeper carries out deletion rules.
type Sweeper interface {
	// Due counts what a rule makes due at each cut-off, in the order of q.Cuts. It reads only. A content that cannot be read
	// for good keeps none of the others from being counted; it is counted as Unreadable, unless it goes without being read.
	Due(ctx context.Context, q DueQuery) ([]Due, error)
	// Sweep deletes or masks what is due, minus what is held or blocked, in chunks that are a short transaction each. It
	// is idempotent, resumes from the Journal's checkpoint, and returns [ErrYield] at a chunk boundary at or after the
	// job's Deadline. Tallies have no Subject; what stays is tallied as dsr.Held or dsr.Blocked, once a Sweep. What has a
	// start that is there and cannot be read is never due: it stays, and once all else is done the error is permanent, with
	// the code [CodeStart] and how much of it there is; what the System refuses alone, and a content that cannot be read, is
	// tallied as dsr.Failed, once a Sweep, and is an error then too (see [Failures]). The measures are of this call only and
	// valid with every error.
	Sweep(ctx context.Context, j SweepJob) (SweepMeasures, error)
}

// Granter prints the least privilege that the connector needs: SQL, or an IAM policy.
type Granter interface {
	Grants(ctx context.Context, principal string) (string, error)
}

// Capabilities are what a connector implements.
type Capabilities struct {
	Export bool `json:"export"`
	Erase  bool `json:"erase"`
	Sweep  bool `json:"sweep"`
	Grants bool `json:"grants"`
}

// CapabilitiesOf derives them; a decorator must preserve them (see [Wrap]).
func CapabilitiesOf(c Connector) Capabilities {
	_, ex := c.(Exporter)
	_, er := c.(Eraser)
	_, sw := c.(Sweeper)
	_, gr := c.(Granter)
	return Capabilities{Export: ex, Erase: er, Sweep: sw, Grants: gr}
}

// Subject is one person in a batch.
type Subject struct {
	Ref         string // opaque and unique in the batch (the Task's id); appears in results and journals
	Tenant      string // where the map has tenants: no statement reaches another tenant's rows
	Identifiers []dsr.Identifier
	// Entities limits the work to these entities, the approved Plan's; nil means all.
	Entities map[string]bool
}

// Batch is subjects that are worked in one pass. Refs are unique.
type Batch []Subject

// Query is what Locate is asked.
type Query struct {
	Batch    Batch
	Teaching bool // only entities marked teaches; used in discovery rounds
	// Export counts what an export would show (accessors too) instead of what an erasure would touch.
	Export bool
}

// Located is what a system holds of a batch. Entities without a match are absent.
type Located struct {
	Counts  []Count
	Learned []Learned
	// Ambiguous lists subjects of whom one identifier matched several rows of a subject entity.
	Ambiguous []Ambiguity
	// Copies are places to which the System itself hands data on: replication targets, subscribers of a log group. They are
	// shown in the Plan beside the map's own.
	Copies []dsr.Copy
	// Unsearched lists "entity.field" of text columns that the map neither declares nor mentions.
	Unsearched []string
}

// Count is the rows of one entity that one method would handle for one subject. A row shared by several subjects of
// the batch is counted for each of them here, and credited once when it is erased.
type Count struct {
	Subject string
	Entity  string
	Method  dsr.Method
	Rows    int64
	// TableRows is the system's own estimate of the entity's size, for ShareOfTable; 0 when unknown.
	TableRows int64
	// Exception says why the rows stay where the System is the reason and not the map: with dsr.Expire and dsr.Wait. An
	// end that nobody knows is nil. Counts that differ in its Cause are separate.
	Exception *dsr.Exception
	// Others is how much more goes with the rows that is not the subject's: noncurrent versions of a shared object.
	Others int64
}

// Learned is an identifier found in a row of a subject.
type Learned struct {
	Subject    string
	Identifier dsr.Identifier // Origin Learned, Source "system.entity"
}

// Ambiguity is one identifier of a subject that matched Rows > 1 subject rows of an entity.
type Ambiguity struct {
	Subject    string
	Entity     string
	Identifier string // its name, not its value
	Rows       int64
}

// Job is one slice of a Run: the subjects, the limits, the journal and when to stop.
type Job struct {
	Batch    Batch
	Held     Holds // what must not be deleted or changed
	Limits   Limits
	Journal  Journal
	Deadline time.Time // end of the slice; return [ErrYield] at a chunk boundary at or after it
}

// Search is one search of a System after a Run.
type Search struct {
	Batch Batch
	Held  Holds // as in the Job: what it covers is returned with Residue.Waits
	Keys  Keys
}

// Holds are the legal holds and restrictions that reach a System. They win over every deletion (Art. 17(3)(e), 18(2)).
// A connector resolves them to keys before it starts and again inside each chunk's transaction. A held row counts as an
// owner who lives. What it refers to is anchored where that is declared; otherwise it stays too, and only loses what a row
// of others would lose; and so does a membership through which it is owned, or nothing would lead to it later. None of
// that is an error: everything else goes on.
type Holds struct {
	Subjects Batch    // every row that one of them reaches, by identifier or ownership, as owner
	Entities []Frozen // rows of whole Entities, or of the part of one that a condition names
}

// Empty reports whether nothing is held.
func (h Holds) Empty() bool { return len(h.Subjects) == 0 && len(h.Entities) == 0 }

// Frozen is a Hold on an Entity; without a condition all of it is held.
type Frozen struct {
	Entity string
	When   []dsr.Condition
}

// ErrYield says that the slice is over and the verb must be called again with the same Job; it is not a failure.
var ErrYield = errors.New("slice over, call again")

// ErrFenced is returned by a Journal whose Run was taken over by another worker. Stop at once and change nothing.
var ErrFenced = errors.New("run was taken over by another worker")

// Journal is the durable memory of one Run in one System, kept encrypted in the control database. It is fenced: every
// method returns [ErrFenced] once another worker holds the Run. Safe for use by one goroutine.
type Journal interface {
	Keys
	// Load returns the checkpoint that Save stored last; nil at the first slice.
	Load(ctx context.Context) ([]byte, error)
	// Save makes the checkpoint and the tallies durable, together, and extends the lease. It must return before the
	// next chunk's transaction commits: the chunk's intent (key range, count) goes into the checkpoint, so that after
	// a crash the outcome can be resolved as the intent minus what is still present. What it was given is durable even
	// when it returns [ErrYield]: then a Hold was placed meanwhile, and the chunk must not begin before the next slice
	// knows of it.
	Save(ctx context.Context, checkpoint []byte, done []Tally) error
	// Spool appends keys of an entity's rows that other entities refer to, before the first delete. Spooling a key
	// twice is harmless. They stay for later Runs of the same subject: a row that was anchored has lost what its person
	// was known by, and only its key leads Erase to what a hold kept of them.
	Spool(ctx context.Context, subject, entity string, keys []Key) error
	// Step is a named point of execution, a no-op but in tests, which count and interrupt it.
	Step(name string)
}

// Keys reads spooled keys.
type Keys interface {
	// Each calls fn with pages of the keys spooled for one entity, in the order they were spooled, for every subject.
	// It stops at fn's first error and returns it.
	Each(ctx context.Context, entity string, fn func(subject string, keys []Key) error) error
}

// Key is a row's primary key in a connector's own encoding (for SQL a JSON array of its columns). It is personal
// data: it goes nowhere but the journal.
type Key string

// Tally counts rows that one committed chunk handled for one subject. Within a batch a shared row is tallied once.
type Tally struct {
	Subject  string
	Entity   string
	Method   dsr.Method
	Rows     int64
	Resolved bool // settled after an interruption
}

// SinkFor returns the sink of one subject of the batch. It is called from one goroutine.
type SinkFor func(subject string) (Sink, error)

// Sink takes one subject's records from one system. What was written since the last Journal.Save is taken back when
// the verb is interrupted, so a resumed Export repeats nothing.
type Sink interface {
	// Record writes one record of an entity; names and values have the same length and order for all its records.
	Record(entity string, names []string, values []any) error
	// File writes one file of an entity (an object, an attachment) as a stream. Name is relative and may repeat.
	File(entity, name string, r io.Reader) error
	// Withheld notes records that exist but are not shown, and why.
	Withheld(entity string, count int64, why dsr.Exception) error
}

// Schema is what a system really has.
type Schema struct {
	Entities []EntitySchema // sorted by Name
}

// EntitySchema describes one table, view or pattern.
type EntitySchema struct {
	Name       string // qualified only outside the default schema
	View       bool
	Columns    []Column // in catalogue order
	PrimaryKey []string
	Unique     [][]string // unique constraints and indexes, without the primary key
	Indexes    [][]string // leading columns of every index, primary key and unique ones included
	References []Reference
	Rows       int64 // estimate
	Bytes      int64 // estimate
	Partition  bool  // a partition of another table: reached through its parent
	Triggers   int
}

// Column describes one column.
type Column struct {
	Name      string
	Type      string // the system's own type name
	Class     ColumnClass
	Nullable  bool
	Generated bool
	HasText   bool     // free text may be in it
	MaxLen    int      // runes; 0 is no limit
	Enum      []string // allowed values; nil when free
	Comment   string
}

// ColumnClass is a column's type as far as masks and matching care.
type ColumnClass string

// Classes of column.
const (
	ClassText    ColumnClass = "text"
	ClassInteger ColumnClass = "integer"
	ClassNumber  ColumnClass = "number"
	ClassBool    ColumnClass = "bool"
	ClassDate    ColumnClass = "date"
	ClassTime    ColumnClass = "time"
	ClassUUID    ColumnClass = "uuid"
	ClassJSON    ColumnClass = "json"
	ClassArray   ColumnClass = "array"
	ClassIP      ColumnClass = "ip"
	ClassEnum    ColumnClass = "enum"
	ClassBinary  ColumnClass = "binary"
	ClassOther   ColumnClass = "other"
)

// Reference is a foreign key.
type Reference struct {
	Name       string
	Columns    []string
	Entity     string
	References []string
	Deferrable bool
	OnDelete   string // "cascade", "set null", "restrict", "no action"
}

// Severity of a Finding.
type Severity string

// Severities. An Error ends a Request that ignores it in needs_attention, and a sweep as failed.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing that Check found.
type Finding struct {
	Code     string   `json:"code"` // stable, kebab-case: "unindexed-reference"
	Severity Severity `json:"severity"`
	Entity   string   `json:"entity,omitempty"`
	Field    string   `json:"field,omitempty"`
	// Rule is the deletion rule that the finding is about. An Error with a Rule stops that rule's sweeps and no Request;
	// one without stops both.
	Rule    string `json:"rule,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Kind is one kind of connector: its name in the map, the settings it takes, and how to open it.
type Kind struct {
	Name       string    // "postgres"
	SystemKeys []Setting // settings of a system
	EntityKeys []Setting // settings of an entity
	Schemes    []string  // URL schemes for `lethe init --from`
	// Flat: entities have no ties to each other. A record belongs to whom its identifiers name, and owned_by, accessed_by,
	// owns, on_owner_erased and anchor are refused.
	Flat bool
	// Expires: the system deletes by its own retention, so entities may say erase: expire and rules action: expire.
	Expires bool
	// Open validates the system's settings and connects lazily: an unreachable system is an error of the verbs.
	Open func(ctx context.Context, s *System, o Options) (Connector, error)
}

// Setting is one key that a connector takes in the data map.
type Setting struct {
	Name     string
	Required bool
	Secret   bool
	Type     string // "string", "integer", "boolean", "duration"
	Doc      string // one sentence, shown in the JSON Schema and the reference
	// Parse checks a value when the map is read; nil takes every one. It returns the names of the identifiers that the
	// value refers to, as "avatars/{user_id}/**" does: an entity that has one needs no other path to a subject. Its error
	// is a *dsr.Error with Msg and Hint.
	Parse func(value string) (identifiers []string, err error)
}

// Options are what the engine lends a connector.
type Options struct {
	Pseudonyms mask.Keyring // keys of keyed masks
	Now        func() time.Time
	Pace       Pace // of Sweeps, so that Check can say what of it cannot be looked at
}

// Permanent marks an error that trying again cannot mend.
func Permanent(code dsr.Code, msg, hint string, cause error) error {
	return &permanentError{&dsr.Error{Code: code, Msg: msg, Hint: hint, Err: cause}}
}

type permanentError struct{ err *dsr.Error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// IsPermanent reports whether an error in err's chain was marked by [Permanent].
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// SubjectError is a failure of one subject in one entity; the other members of the batch go on. Verbs join several
// with errors.Join.
type SubjectError struct {
	Subject string
	Entity  string
	Err     error
}

func (e *SubjectError) Error() string { return fmt.Sprintf("%s: %v", e.Entity, e.Err) }
func (e *SubjectError) Unwrap() error { return e.Err }
