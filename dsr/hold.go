package dsr

import "time"

// Hold stops deletion: a legal hold (Art. 17(3)(e), with a review date) or a restriction (Art. 18). It covers a subject,
// or the rows of one Entity that meet its conditions.
type Hold struct {
	ID          string // "hold_" and a ULID
	Restriction bool   // Art. 18; otherwise a legal hold
	Tenant      string
	// Commitments of the subject's identifiers; nil for an Entity hold. The identifiers themselves are kept encrypted
	// while the hold lasts: a database cannot test a commitment.
	Commitments []string
	// Unlearned is why it is not known yet what else the subject is called, a stable code; empty once it is. Until then what
	// only that would lead to is not held by this; no Sweep and no erasure begins before it is known.
	Unlearned string
	System    string // of an Entity hold
	Entity    string // of an Entity hold
	When      []Condition
	Reference string    // file number of the matter; never a person's name
	Request   string    // the restriction Request that it follows from; empty when none
	Review    time.Time // a legal hold must be looked at again by this date
	PlacedBy  string    // principal id
	LiftedBy  string
	CreatedAt time.Time
	LiftedAt  *time.Time
	Version   int64
}

// Condition restricts a rule or a hold to rows whose Field has one of Values; with Null to those where it is NULL, with
// NotNull where it is not. Exactly one of the three is given.
type Condition struct {
	Field   string   `json:"field"`
	Values  []string `json:"values,omitempty"`
	Null    bool     `json:"null,omitempty"`
	NotNull bool     `json:"not_null,omitempty"`
}
