package records

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Normalise returns a value, given or stored, in the form in which equal identifiers are equal. It is empty when the value
// cannot be an identifier of the kind.
func Normalise(k dsr.IdentifierKind, v string) string { return string(normalise(nil, k, []byte(v))) }

// normalise appends a value, given or stored, in the form in which equal identifiers are equal bytes; nothing when it
// cannot be an identifier of the kind.
//
//   - e-mail addresses: NFC, lower case, without surrounding space;
//   - telephone numbers: the digits of the international form, without 00 and without a national (0) in brackets;
//   - UUIDs: the hexadecimal digits in lower case;
//   - IP addresses: as RFC 5952 writes them, without zone, brackets and length of prefix;
//   - integers: without leading zeros;
//   - opaque values: NFC, without surrounding space.
func normalise(dst []byte, k dsr.IdentifierKind, v []byte) []byte {
	switch k {
	case dsr.KindPhone:
		return normalisePhone(dst, v)
	case dsr.KindUUID:
		return normaliseUUID(dst, v)
	}
	v = bytes.TrimSpace(v)
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

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
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
	if v = bytes.TrimSpace(v); len(v) > len(urn) && bytes.EqualFold(v[:len(urn)], []byte(urn)) {
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
		return append(dst, v...)
	}
	return a.Unmap().WithZone("").AppendTo(dst)
}

func normaliseInteger(dst, v []byte) []byte {
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
