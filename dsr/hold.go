package dsr

import "time"

// Hold stops deletion: a legal hold (Art. 17(3)(e), with a review date) or a restriction (Art. 18).
type Hold struct {
	ID          string
	Restriction bool      // Art. 18; otherwise a legal hold
	Subject     string    // request or hold reference whose identifiers it covers; empty for an Entity hold
	System      string    // of an Entity hold
	Entity      string    // of an Entity hold
	Review      time.Time // legal holds must be looked at again by this date
	CreatedAt   time.Time
	LiftedAt    *time.Time
}
