// Package mask holds pure functions from a value to a masked value. A mask is chosen in the data map; connectors
// apply it to columns and record fields, the access package to other people's data.
package mask

// Kind names a masking function.
type Kind string

// Kinds of mask. On erasure only Null, Constant, Random and Redact are allowed: the output of the others is still
// personal data (EDPB Guidelines 01/2025), so they need a `keep` with an article or a retention rule.
const (
	Null       Kind = "null"       // NULL, or the field removed
	Constant   Kind = "constant"   // Spec.Value
	Random     Kind = "random"     // fresh random value of the column's type and format; unique
	Redact     Kind = "redact"     // identifiers inside text or JSON are replaced by "[redacted]"; whole text if none given
	HMAC       Kind = "hmac"       // keyed pseudonym (HMAC-SHA-256), format kept where the column needs it
	Year       Kind = "year"       // a date becomes 1 January of its year
	Generalise Kind = "generalise" // a number is rounded down to a multiple of Spec.Step, a text cut to Spec.Step runes
	TruncateIP Kind = "truncate_ip"
)

// Spec is one mask as the data map declares it.
type Spec struct {
	Kind   Kind
	Value  string // Constant
	Step   int64  // Generalise
	Domain string // HMAC: the pseudonymisation domain; empty is the identifier's name
}

// Irreversible reports whether a mask may be used on erasure without an exception.
func (s Spec) Irreversible() bool {
	switch s.Kind {
	case Null, Constant, Random, Redact:
		return true
	}
	return false
}
