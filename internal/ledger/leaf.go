// Package ledger is the evidence of what Lethe decided and did: leaves today, the Merkle log and its verifier later.
// Leaves are appended unsequenced in the caller's transaction; a sequencer numbers them, so that the log never
// serialises the work.
package ledger

import "time"

// Leaf is one decision or effect. It holds no personal data: the subject is a salted commitment.
type Leaf struct {
	At      time.Time         `json:"at"` // UTC, microseconds
	Type    string            `json:"type"`
	Request string            `json:"request,omitempty"`
	System  string            `json:"system,omitempty"`
	Actor   string            `json:"actor"`
	Subject string            `json:"subject,omitempty"` // commitment and key id
	Detail  map[string]string `json:"detail,omitempty"`  // codes, counts, hashes
}
