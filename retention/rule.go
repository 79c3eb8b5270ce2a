package retention

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Action is what a deletion rule does with what is due.
type Action string

// Actions.
const (
	Delete       Action = "delete"
	Pseudonymise Action = "pseudonymise" // the rule's masks are applied; the row stays
	Next         Action = "next"         // nothing yet: rules after this one wait until its period too has ended
	Expire       Action = "expire"       // the System's own retention is set to the rule's period and does the rest
)

// Actions lists every Action.
func Actions() []Action { return []Action{Delete, Pseudonymise, Next, Expire} }

// Rule is one deletion rule of one Entity (ISO/IEC 27555): a class, the concrete starting point of its period, and what
// happens when it ends. A rule has no "or"; two cases are two rules with conditions.
type Rule struct {
	Name   string // unique in the map: "SYSTEM.ENTITY.CLASS", or the name that the map gives it in place of the class
	Class  Class
	Start  StartingPoint
	When   []dsr.Condition // all must hold; none means every row
	Action Action
	// Unreviewed: the rule runs without an approval (disposition review) when it is new or has changed.
	Unreviewed bool
	Cap        Cap
}

// StartingPoint is what starts the period of one row, object or event.
type StartingPoint struct {
	Kind  StartKind
	Field string // with StartField
	// Latest, with StartField or alone: the period starts with the latest of these related rows, and of Field where that
	// is given (end of relationship). A row without any related row starts with Field, or by Null.
	Latest []Related
	Null   NullStart // what a start that is null means; required where the field can be null
	// NullField is used in place of Field when that is null; with NullOther.
	NullField string
}

// StartKind tells where the start is read.
type StartKind string

// Kinds of start.
const (
	StartField  StartKind = "field"      // a column or a record's field
	StartObject StartKind = "object_age" // when the object was stored, or the file last written
	StartEvent  StartKind = "event_time" // a log event's own time
)

// NullStart is what a missing start means.
type NullStart string

// Meanings of a missing start.
const (
	NullKeep  NullStart = "keep"  // the period has not started: never due
	NullDue   NullStart = "due"   // due at once
	NullOther NullStart = "field" // NullField is the start instead
)

// Related is a column of another Entity of the System whose rows are owned by the row.
type Related struct {
	Entity, Field string
}

// Cap halts a Sweep before it deletes anything, until somebody approves it. Zero values cap nothing.
type Cap struct {
	Rows   int64
	Share  float64 // of the Entity: 0.05 is 5%
	Growth float64 // against the mean of the last runs: 3 is three times as much
}

// Hash returns the SHA-256, in hex, of everything that decides what the rule deletes: what a disposition review
// approves. masks is a canonical text of the rule's masks. Caps, grace and the review itself stay out of it.
func (r *Rule) Hash(masks string) string {
	b, err := json.Marshal(struct {
		Name       string
		Period     string
		Minimum    string
		From       Start
		FiscalYear MonthDay
		Start      StartingPoint
		When       []dsr.Condition
		Action     Action
		Masks      string
	}{r.Name, r.Class.Period.String(), r.Class.Minimum.String(), r.Class.Start, r.Class.FiscalYear, r.Start, r.When, r.Action, masks})
	if err != nil {
		panic(fmt.Sprintf("a rule of strings does not marshal: %v", err)) // cannot happen
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
