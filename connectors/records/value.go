package records

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Normalise returns a value, given or stored, in the form in which equal identifiers are equal. It is empty when the value
// cannot be an identifier of the kind.
func Normalise(k dsr.IdentifierKind, v string) string { return string(normalise(nil, k, []byte(v))) }

// normalise appends a value, given or stored, in the form in which equal identifiers are equal bytes; nothing when it
// cannot be an identifier of the kind.
//
//   - e-mail addresses: NFC, lower case;
//   - telephone numbers: the digits of the international form, without 00 and without a national (0) in brackets;
//   - UUIDs: the hexadecimal digits in lower case;
//   - IP addresses: as RFC 5952 writes them, without zone, brackets, port and length of prefix;
//   - integers: without leading zeros, and without a fraction of zeros, as tables write them that have gaps;
//   - opaque values: NFC.
//
// Space and characters that nobody sees (control characters, marks of byte order and direction) do not count around a
// value: a log that was cut while a program wrote on begins with zeros.
func normalise(dst []byte, k dsr.IdentifierKind, v []byte) []byte {
	switch k {
	case dsr.KindPhone:
		return normalisePhone(dst, v)
	case dsr.KindUUID:
		return normaliseUUID(dst, v)
	}
	v = trim(v)
	switch k {
	case dsr.KindEmail:
		if isASCII(v) {
			for _, c := range v {
				if 'A' <= c && c <= 'Z' {
					c += 'a' - 'A'
				}
				dst = append(dst, c)
			}
			return dst
		}
		// lower case may denormalise: İ becomes i and a combining dot
		return norm.NFC.Append(dst, bytes.ToLower(norm.NFC.Bytes(v))...)
	case dsr.KindIP:
		return normaliseIP(dst, v)
	case dsr.KindInteger:
		return normaliseInteger(dst, v)
	}
	if isASCII(v) {
		return append(dst, v...)
	}
	return norm.NFC.Append(dst, v...)
}

func isASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// trim takes away what surrounds a value and is not seen.
func trim(v []byte) []byte {
	if n := len(v); n == 0 || ' ' < v[0] && v[0] < 0x7f && ' ' < v[n-1] && v[n-1] < 0x7f {
		return v
	}
	return bytes.TrimFunc(v, func(r rune) bool { return unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf) })
}

// surrounds are bytes that a value has only where it is more than an identifier; spaces and colons are
// part of some.
var surrounds = func() (t [256]bool) {
	for _, c := range []byte("%\\\x1b,;|<\"': \t") {
		t[c] = true
	}
	return t
}()

// parts returns what a text may hold as a value besides all of it: readings without escapes, and of addresses and
// numbers those of a list (the proxies of X-Forwarded-For, the recipients of a message) and those with a name before
// them.
func parts(k dsr.IdentifierKind, v []byte) []string {
	if !slices.ContainsFunc(v, func(c byte) bool {
		return surrounds[c] && (c != ' ' && c != ':' || k == dsr.KindEmail || c == ' ' && k == dsr.KindIP)
	}) {
		return nil
	}
	var out []string
	texts := []string{string(v)}
	for _, r := range readings(string(v)) {
		texts = append(texts, r.text)
		out = append(out, r.text)
	}
	split := ""
	switch k {
	case dsr.KindEmail:
		split = ",;|<>()[]\"'"
	case dsr.KindIP:
		split = ",;|\""
	case dsr.KindPhone:
		split = ",;|"
	default:
		return out
	}
	for _, s := range texts {
		for part := range strings.FieldsFuncSeq(s, func(r rune) bool {
			return strings.ContainsRune(split, r) || k != dsr.KindPhone && unicode.IsSpace(r)
		}) {
			if k == dsr.KindEmail && len(part) > 7 && strings.EqualFold(part[:7], "mailto:") {
				part = part[7:]
			}
			out = append(out, part)
		}
	}
	return out
}

// only returns the identifier that a text holds, without what surrounds it there; ok is false when it holds several.
func only(k dsr.IdentifierKind, s string) (id string, ok bool) {
	found := map[string]bool{}
	id = s
	for _, part := range parts(k, []byte(s)) {
		n := Normalise(k, part)
		is := k == dsr.KindPhone && len(n) >= mask.MinFreeText || k == dsr.KindEmail && strings.Contains(n, "@")
		if k == dsr.KindIP {
			_, err := netip.ParseAddr(n)
			is = err == nil
		}
		if is && !strings.ContainsAny(n, " ,;|") && !found[n] {
			found[n], id = true, part
		}
	}
	return id, len(found) <= 1
}

func normalisePhone(dst, v []byte) []byte {
	if i := bytes.Index(v, []byte("(0)")); i > 0 { // +46 (0)70: the zero is dialled at home only
		v = append(append(make([]byte, 0, len(v)), v[:i]...), v[i+3:]...)
	}
	from := len(dst)
	for _, c := range v {
		if '0' <= c && c <= '9' {
			dst = append(dst, c)
		}
	}
	if bytes.HasPrefix(dst[from:], []byte("00")) {
		dst = append(dst[:from], dst[from+2:]...)
	}
	return dst
}

func normaliseUUID(dst, v []byte) []byte {
	const urn = "urn:uuid:"
	if v = trim(v); len(v) > len(urn) && bytes.EqualFold(v[:len(urn)], []byte(urn)) {
		v = v[len(urn):]
	}
	for _, c := range v {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
			dst = append(dst, c)
		case 'A' <= c && c <= 'F':
			dst = append(dst, c+'a'-'A')
		}
	}
	return dst
}

func normaliseIP(dst, v []byte) []byte {
	s, _, _ := strings.Cut(string(v), "/")
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		p, err := netip.ParseAddrPort(s)
		if err != nil {
			return append(dst, v...)
		}
		a = p.Addr()
	}
	return a.Unmap().WithZone("").AppendTo(dst)
}

func normaliseInteger(dst, v []byte) []byte {
	if whole, fraction, ok := bytes.Cut(v, []byte{'.'}); ok && len(fraction) > 0 && len(bytes.Trim(fraction, "0")) == 0 {
		v = whole
	}
	digits, negative := bytes.CutPrefix(v, []byte{'-'})
	if len(bytes.Trim(digits, "0123456789")) > 0 || len(digits) == 0 {
		return append(dst, v...)
	}
	digits = bytes.TrimLeft(digits, "0")
	switch {
	case len(digits) == 0:
		return append(dst, '0')
	case negative:
		dst = append(dst, '-')
	}
	return append(dst, digits...)
}

// integral writes a JSON number that is whole without point and exponent: 42.0 and 4.2e1 are 42. Others stay as they
// are.
func integral(s string) string {
	if s == "-0" {
		return "0"
	}
	if !strings.ContainsAny(s, ".eE") {
		return s
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	digits, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	shift := 0
	if exponent != "" {
		var err error
		if shift, err = strconv.Atoi(exponent); err != nil || shift > 64 || shift < -64 {
			return s
		}
	}
	point := len(whole) + shift
	digits = whole + fraction
	switch {
	case point < 0:
		digits, point = strings.Repeat("0", -point)+digits, 0
	case point > len(digits):
		digits += strings.Repeat("0", point-len(digits))
	}
	if strings.Trim(digits[point:], "0") != "" {
		return s
	}
	digits = strings.TrimLeft(digits[:point], "0")
	switch {
	case digits == "":
		return "0"
	case negative:
		return "-" + digits
	}
	return digits
}
