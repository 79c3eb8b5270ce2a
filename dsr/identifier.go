package dsr

import (
	"fmt"
	"log/slog"
)

// Secret carries a value that points at a person. It redacts itself however it is printed, logged or marshalled, so
// that a careless %+v cannot leak it; [Secret.Reveal] is the one way out and is easy to grep for. The zero Secret is
// empty. Secrets are comparable, so they can be map keys.
type Secret struct{ value string }

const redacted = "[redacted]"

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the wrapped value. Call it only where the value is stored encrypted, sent to the system that holds
// it, or shown to a person who gave a reason.
func (s Secret) Reveal() string { return s.value }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.value == "" }

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// IdentifierKind is how an identifier's values are normalised and compared.
type IdentifierKind string

// The kinds of identifier that a data map may declare.
const (
	KindEmail   IdentifierKind = "email"   // NFC, lower case; compared without regard to case
	KindPhone   IdentifierKind = "phone"   // E.164
	KindOpaque  IdentifierKind = "opaque"  // NFC, otherwise as given; 42 and "42" are equal
	KindUUID    IdentifierKind = "uuid"    // lower case with dashes
	KindIP      IdentifierKind = "ip"      // canonical text of RFC 5952
	KindInteger IdentifierKind = "integer" // decimal, no leading zeros
)

// Origin says how Lethe came to know an identifier.
type Origin string

// Origins.
const (
	Known   Origin = "known"   // given with the Request
	Learned Origin = "learned" // found in a System during discovery
)

// Identifier is a typed value that points at a person. Value is normalised for its kind.
type Identifier struct {
	Name   string // its name in the data map: "email", "user_id"
	Value  Secret
	Origin Origin
	Source string // where it was learned, "system.entity"; empty when Known
}
