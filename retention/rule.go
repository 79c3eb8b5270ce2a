package retention

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

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
	Null   NullStart // what a start that is null means; required where the field can be null, and NullKeep when absent
	// NullField is used in place of Field when that is null; with NullOther. A row where it is null too is never due.
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

// Validate refuses a rule that would delete before its class's statutory minimum has ended, whose start can be missing
// without saying what that means, or that asks of a System's own retention what it cannot do. Field of the *dsr.Error
// (CodeInvalid) is the key of the rule in the data map. Whether a column can be null only its System knows: Check says.
func (r *Rule) Validate() error {
	invalid := func(field, msg, hint string) error {
		return &dsr.Error{Code: dsr.CodeInvalid, Field: field, Msg: msg, Hint: hint}
	}
	read := r.Start.Kind == StartObject || r.Start.Kind == StartEvent
	ends := r.Class.Start == EndOfProcess || r.Class.Start == EndOfRelationship // missing while it has not ended
	switch {
	case r.Start.Null == NullDue && r.Class.Minimum != (Period{}):
		return invalid("if_null", "lets rows without a start go before the statutory minimum of the class",
			"write keep, or a field that is always there: {field: created_at}")
	case r.Start.Null == "" && !read && (ends || len(r.Start.Latest) > 0):
		return invalid("if_null", "leaves open what a missing start means",
			"write if_null: keep (not yet started), due (at once), or {field: created_at}")
	case r.Start.Null != "" && read:
		return invalid("if_null", "is of no use: every object and every event has a time", "remove it")
	case r.Action == Expire && !read:
		return invalid("action", "expire reads no field: a system's own retention counts from the age of what it stores",
			"write start: object_age or start: event_time")
	case r.Action == Expire && r.Class.Start.EndsYear():
		return invalid("action", "expire counts from the day itself, which is before the end of its year",
			"use a class from: collection whose period is a year longer")
	case r.Action == Expire && len(r.When) > 0:
		return invalid("action", "expire takes no conditions: a system's own retention tests none", "remove when")
	}
	return nil
}

// Hash returns the SHA-256, in hex, of everything that decides what the rule deletes: what a disposition review
// approves. masks is a canonical text of the rule's masks. Caps, grace and the review itself stay out of it, and so does
// the order of conditions, of their values, and of related entities.
func (r *Rule) Hash(masks string) string {
	start := r.Start
	start.Latest = slices.SortedFunc(slices.Values(r.Start.Latest), func(a, b Related) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Field, b.Field))
	})
	when := make([]string, len(r.When))
	for i, c := range r.When {
		c.Values = slices.Sorted(slices.Values(c.Values))
		when[i] = canonical(c)
	}
	slices.Sort(when)
	sum := sha256.Sum256([]byte(canonical(struct {
		Name       string
		Period     string
		Minimum    string
		From       Start
		FiscalYear MonthDay
		Start      StartingPoint
		When       []string
		Action     Action
		Masks      string
	}{r.Name, r.Class.Period.String(), r.Class.Minimum.String(), r.Class.Start, r.Class.FiscalYear, start, when, r.Action, masks})))
	return hex.EncodeToString(sum[:])
}

func canonical(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("a rule of strings does not marshal: %v", err)) // cannot happen
	}
	return string(b)
}
