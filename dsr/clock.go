package dsr

import "time"

// Clock is the statutory clock of a Request: Art. 12(3) GDPR counted by Regulation (EEC, Euratom) 1182/71 Art. 3.
// Dates are midnights in the controller's time zone.
type Clock struct {
	Received    time.Time // local date of receipt
	DueUnpaused time.Time // as if nothing had paused it
	Due         time.Time // with pauses and extension
	Extended    bool
	Pauses      []Pause
}

// Pause stops the clock while the subject's identity or the scope is in doubt (EDPB Guidelines 01/2022 §5.3).
type Pause struct {
	From   time.Time
	To     *time.Time // nil while it lasts
	Reason string     // "identity" or "clarification"
}
