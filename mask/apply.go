package mask

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Class is the type of a column or field as far as masks care; its values are those of connectors.ColumnClass.
type Class string

// Format is the shape that a text value must keep.
type Format string

// Formats.
const (
	Free  Format = ""
	Email Format = "email"
	Phone Format = "phone"
)

// Target is what a mask writes into.
type Target struct {
	Class     Class
	Format    Format
	MaxLen    int // runes; 0 is no limit
	Bits      int // of an integer; 0 is 64
	Nullable  bool
	Unique    bool
	Generated bool
	Enum      []string // allowed values; nil when free
}

// Input is one value to mask.
type Input struct {
	Value   any
	Target  Target
	Matcher *Matcher  // Redact: whose identifiers go; nil redacts the whole text
	Keys    Keyring   // HMAC
	Domain  string    // HMAC: used when Spec.Domain is empty
	Random  io.Reader // Random; nil is crypto/rand
}

// Redacted is what replaces redacted text.
const Redacted = "[redacted]"

// Apply returns the masked value. NULL stays NULL under every mask but Constant and Random. A value that the mask is
// not made for is a *dsr.Error with CodeInvalid, which names the mask and never the value.
func (s Spec) Apply(in Input) (any, error) {
	switch s.Kind {
	case Null:
		return nil, nil
	case Constant:
		return s.Value, nil
	case Random:
		return random(in)
	}
	if in.Value == nil {
		return nil, nil
	}
	switch s.Kind {
	case Redact:
		return s.redact(in)
	case HMAC:
		return s.pseudonym(in)
	case Year:
		return year(in.Value)
	case Generalise:
		return s.generalise(in.Value)
	case TruncateIP:
		return truncateIP(in.Value)
	}
	return nil, s.unfit("is not a mask", "")
}

// Holds reports why the mask cannot hold in a target, nil when it can. It needs no value, so that a map is refused
// before it is used.
func (s Spec) Holds(t Target) error {
	switch {
	case t.Generated:
		return s.unfit("cannot be written to a generated column", "mask the columns that it is generated from")
	case s.Kind == Null && !t.Nullable:
		return s.unfit("cannot hold in a NOT NULL column", "use random or a constant")
	case s.Kind == Constant && t.Unique:
		return s.unfit("cannot hold in a UNIQUE column: a second row would clash", "use random or null")
	case s.Kind == Constant && t.Enum != nil && !contains(t.Enum, s.Value):
		return s.unfit("is not one of the values that the column allows", "choose an allowed value")
	case s.Kind == Constant && t.MaxLen > 0 && utf8.RuneCountInString(s.Value) > t.MaxLen:
		return s.unfit(fmt.Sprintf("is longer than the column's %d characters", t.MaxLen), "shorten the constant")
	case s.Kind == Redact && t.Unique:
		return s.unfit("cannot hold in a UNIQUE column: a second row would clash", "use random or null")
	case s.Kind == Redact && t.MaxLen > 0 && t.MaxLen < len(Redacted):
		return s.unfit(fmt.Sprintf("needs %d characters, the column has %d", len(Redacted), t.MaxLen), "use null or a constant")
	case (s.Kind == Random || s.Kind == HMAC) && t.Enum != nil:
		return s.unfit("cannot hold in a column of fixed values", "use a constant")
	case (s.Kind == Random || s.Kind == HMAC) && t.Class == "text" && t.MaxLen > 0 && t.MaxLen < minToken(t.Format):
		return s.unfit(fmt.Sprintf("needs %d characters to stay unique, the column has %d", minToken(t.Format), t.MaxLen),
			"use null or a constant")
	}
	if fits, ok := classes[s.Kind]; ok && !contains(fits, string(t.Class)) {
		return s.unfit(fmt.Sprintf("cannot hold in a column of class %s", t.Class), "choose a mask of the column's type")
	}
	if s.Kind == Constant {
		return s.constantHolds(t)
	}
	return nil
}

// classes lists where a mask's output fits; Null and Constant are judged by other rules.
var classes = map[Kind][]string{
	Random:     {"text", "integer", "number", "uuid"},
	Redact:     {"text", "json"},
	HMAC:       {"text", "integer", "uuid"},
	Year:       {"date", "time", "text"},
	Generalise: {"text", "integer", "number"},
	TruncateIP: {"text", "ip"},
}

func (s Spec) constantHolds(t Target) error {
	ok := true
	switch t.Class {
	case "integer":
		ok = isDigits(strings.TrimPrefix(s.Value, "-"))
	case "number":
		var f float64
		_, err := fmt.Sscanf(s.Value, "%g", &f)
		ok = err == nil
	case "bool":
		ok = s.Value == "true" || s.Value == "false"
	case "date", "time":
		_, err := parseTime(s.Value)
		ok = err == nil
	case "uuid":
		ok = len(s.Value) == 36
	case "ip":
		_, err := netip.ParseAddr(s.Value)
		ok = err == nil
	case "array", "binary":
		ok = false
	}
	if !ok {
		return s.unfit(fmt.Sprintf("is not a value of class %s", t.Class), "write a constant of the column's type")
	}
	return nil
}

func (s Spec) unfit(msg, hint string) error {
	return &dsr.Error{Code: dsr.CodeInvalid, Msg: "mask " + string(s.Kind) + " " + msg, Hint: hint}
}

func contains(list []string, v string) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

// minToken is the length that keeps random and keyed values unique in practice (about 60 bits).
func minToken(f Format) int {
	switch f {
	case Email:
		return 12 + len("@x.invalid")
	case Phone:
		return 15
	}
	return 12
}

// Made reports whether a value of a format is the output of a Random or HMAC mask: their addresses lie under a
// top-level domain that is reserved for what does not exist (RFC 2606), their numbers under a country code that nobody
// has. A made value identifies nobody, so nothing is learned from it.
func Made(value string, f Format) bool {
	switch f {
	case Email:
		return strings.HasSuffix(value, "@x.invalid")
	case Phone:
		return len(value) == 15 && strings.HasPrefix(value, "+999")
	}
	return false
}

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func random(in Input) (any, error) {
	src := in.Random
	if src == nil {
		src = rand.Reader
	}
	var b [32]byte
	if _, err := io.ReadFull(src, b[:]); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return token(b, in.Target, Spec{Kind: Random})
}

// pseudonym is HMAC-SHA-256 under the active key of the domain (ENISA 2019 §5.1), in the target's format.
func (s Spec) pseudonym(in Input) (any, error) {
	if in.Keys == nil {
		return nil, s.unfit("needs a key", "configure a pseudonym keyset")
	}
	_, key, err := in.Keys.Active(s.domain(in))
	if err != nil {
		return nil, err
	}
	return Pseudonym(key, in.Value, in.Target)
}

func (s Spec) domain(in Input) string {
	if s.Domain != "" {
		return s.Domain
	}
	return in.Domain
}

// Pseudonym returns the keyed pseudonym of a value in the target's format: what the HMAC mask writes, and what a
// search for a pseudonymised subject looks for under every live key.
func Pseudonym(key []byte, value any, t Target) (any, error) {
	m := hmac.New(sha256.New, key)
	fmt.Fprint(m, value)
	return token([32]byte(m.Sum(nil)), t, Spec{Kind: HMAC})
}

// token shapes 32 bytes as a value of the target.
func token(b [32]byte, t Target, s Spec) (any, error) {
	switch t.Class {
	case "integer":
		n := int64(binary.BigEndian.Uint64(b[:8]) >> 1)
		if t.Bits > 0 && t.Bits < 64 {
			n &= 1<<(t.Bits-1) - 1
		}
		return n, nil
	case "number":
		return float64(binary.BigEndian.Uint32(b[:4])), nil
	case "uuid":
		u := [16]byte(b[:16])
		u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // version 8 of RFC 9562: custom
		h := hex.EncodeToString(u[:])
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], nil
	case "text", "":
	default:
		return nil, s.unfit(fmt.Sprintf("cannot make a value of class %s", t.Class), "")
	}
	word := lower32.EncodeToString(b[:])
	switch t.Format {
	case Email:
		n := 32
		if t.MaxLen > 0 {
			n = min(n, t.MaxLen-len("@x.invalid"))
		}
		if n < 12 {
			return nil, s.unfit("needs a longer column", "")
		}
		return word[:n] + "@x.invalid", nil
	case Phone:
		// +999 is a country code that the ITU keeps in reserve: it reaches nobody.
		return fmt.Sprintf("+999%011d", binary.BigEndian.Uint64(b[:8])%100_000_000_000), nil
	}
	if t.MaxLen > 0 && t.MaxLen < len(word) {
		if t.MaxLen < 12 {
			return nil, s.unfit("needs a longer column", "")
		}
		word = word[:t.MaxLen]
	}
	return word, nil
}

func (s Spec) redact(in Input) (any, error) {
	text, ok := asText(in.Value)
	if !ok {
		return nil, s.unfit("is for text and JSON", "")
	}
	if in.Target.Class == "json" {
		if in.Matcher == nil {
			return `"` + Redacted + `"`, nil
		}
		out, _ := in.Matcher.RedactJSON(text)
		return out, nil
	}
	if in.Matcher == nil {
		return clip(Redacted, in.Target.MaxLen), nil
	}
	out, _ := in.Matcher.Redact(text)
	return clip(out, in.Target.MaxLen), nil
}

// clip cuts a text to n runes; redaction may lengthen a text.
func clip(s string, n int) string {
	if n <= 0 || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}

func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return "", false
}

func year(v any) (any, error) {
	if t, ok := v.(time.Time); ok {
		return time.Date(t.Year(), time.January, 1, 0, 0, 0, 0, t.Location()), nil
	}
	if text, ok := asText(v); ok {
		if t, err := parseTime(text); err == nil {
			return time.Date(t.Year(), time.January, 1, 0, 0, 0, 0, time.UTC).Format(time.DateOnly), nil
		}
	}
	return nil, Spec{Kind: Year}.unfit("is for dates", "")
}

func parseTime(s string) (time.Time, error) {
	var err error
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano, time.DateTime, "2006-01-02 15:04:05.999999999-07:00"} {
		var t time.Time
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, err
}

func (s Spec) generalise(v any) (any, error) {
	if s.Step <= 0 {
		return nil, s.unfit("needs a step above zero", "")
	}
	switch n := v.(type) {
	case int64:
		return floor(n, s.Step), nil
	case int32:
		return floor(int64(n), s.Step), nil
	case int16:
		return floor(int64(n), s.Step), nil
	case int:
		return floor(int64(n), s.Step), nil
	case float64:
		return float64(floor(int64(n), s.Step)), nil
	}
	if text, ok := asText(v); ok {
		return clip(text, int(s.Step)), nil
	}
	return nil, s.unfit("is for numbers and text", "")
}

// floor rounds towards negative infinity, so that -1 and 1 do not fall into one group.
func floor(n, step int64) int64 {
	r := n % step
	if r < 0 {
		r += step
	}
	return n - r
}

// truncateIP keeps the network: /24 of an IPv4 address, /48 of an IPv6 address.
func truncateIP(v any) (any, error) {
	var addr netip.Addr
	var err error
	switch v := v.(type) {
	case netip.Addr:
		addr = v
	case netip.Prefix:
		addr = v.Addr()
	default:
		text, _ := asText(v)
		text, _, _ = strings.Cut(text, "/")
		addr, err = netip.ParseAddr(strings.TrimSpace(text))
	}
	if err != nil || !addr.IsValid() {
		return nil, Spec{Kind: TruncateIP}.unfit("is for IP addresses", "")
	}
	addr = addr.Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return nil, Spec{Kind: TruncateIP}.unfit("is for IP addresses", "")
	}
	return p.Addr().String(), nil
}
