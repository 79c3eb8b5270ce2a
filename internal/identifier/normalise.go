// Package identifier brings identifiers into the one form in which they are compared, committed to and searched for.
package identifier

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
	"golang.org/x/text/unicode/norm"

	"github.com/lethe-gdpr/lethe/dsr"
)

// maxRunes bounds every identifier; e-mail addresses have at most 254 octets (RFC 5321 §4.5.3.1.3).
const maxRunes = 256

// Normalise returns the canonical form of a raw value, NFC first: e-mail in lower case, telephone numbers as E.164
// (national ones are read in the region, an ISO 3166 country code), UUIDs in lower case with dashes, IP addresses as
// RFC 5952 writes them, integers without leading zeros, opaque values as given without surrounding space. Equal people
// give equal values; Normalise is idempotent. The error is a *dsr.Error with CodeInvalid that never repeats the value.
func Normalise(kind dsr.IdentifierKind, raw, region string) (dsr.Secret, error) {
	if !utf8.ValidString(raw) {
		return dsr.Secret{}, invalid("is not UTF-8 text", "")
	}
	s := strings.TrimSpace(norm.NFC.String(raw))
	switch {
	case s == "":
		return dsr.Secret{}, invalid("is empty", "")
	case utf8.RuneCountInString(s) > maxRunes:
		return dsr.Secret{}, invalid("is longer than 256 characters", "")
	case strings.IndexFunc(s, unicode.IsControl) >= 0:
		return dsr.Secret{}, invalid("has a control character in it", "")
	}
	var err error
	switch kind {
	case dsr.KindEmail:
		s, err = email(s)
	case dsr.KindPhone:
		s, err = phone(s, region)
	case dsr.KindUUID:
		s, err = uuid(s)
	case dsr.KindIP:
		s, err = ip(s)
	case dsr.KindInteger:
		s, err = integer(s)
	case dsr.KindOpaque:
	default:
		return dsr.Secret{}, invalid("has an unknown kind of identifier", "declare the identifier in the data map")
	}
	if err != nil {
		return dsr.Secret{}, err
	}
	return dsr.NewSecret(s), nil
}

func invalid(msg, hint string) error {
	return &dsr.Error{Code: dsr.CodeInvalid, Msg: msg, Hint: hint}
}

// email checks the shape that mail systems agree on, not the whole grammar of RFC 5322: one @, no space or comment, a
// domain of labels. Lower case applies to the whole address: providers that tell cases apart are not known to exist.
func email(s string) (string, error) {
	bad := func() (string, error) {
		return "", invalid("is not an e-mail address", "write name@example.com")
	}
	// lower case may denormalise: İ becomes i and a combining dot
	s = norm.NFC.String(strings.ToLower(s))
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || len(s) > 254 || len(local) > 64 || strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune(`<>()[]\,;:"`, r)
	}) {
		return bad()
	}
	if strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		return bad()
	}
	labels := strings.Split(domain, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") ||
			strings.IndexFunc(l, func(r rune) bool {
				return r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
			}) >= 0 {
			return bad()
		}
	}
	if len(labels) < 2 {
		return bad()
	}
	return s, nil
}

// phone reads digits and separators; letters, which some countries write on their keys, are refused. Reading is
// repeated until nothing changes, because a national prefix may hide behind another.
func phone(s, region string) (string, error) {
	bad := invalid("is not a telephone number", "write it with its country code, +46 70 123 45 67")
	if strings.ContainsFunc(s, unicode.IsLetter) {
		return "", bad
	}
	if strings.HasPrefix(s, "00") {
		s = "+" + s[2:]
	}
	for range 8 {
		n, err := phonenumbers.Parse(s, region)
		if err != nil || !phonenumbers.IsPossibleNumber(n) {
			return "", bad
		}
		was := s
		if s = phonenumbers.Format(n, phonenumbers.E164); s == was {
			return s, nil
		}
	}
	return "", bad
}

func uuid(s string) (string, error) {
	s = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}"))
	s = strings.ReplaceAll(strings.TrimPrefix(s, "urn:uuid:"), "-", "")
	if len(s) != 32 || strings.Trim(s, "0123456789abcdef") != "" {
		return "", invalid("is not a UUID", "write 32 hexadecimal digits with or without dashes")
	}
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:], nil
}

func ip(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return "", invalid("is not an IP address", "")
	}
	return a.Unmap().WithZone("").String(), nil
}

func integer(s string) (string, error) {
	digits, negative := strings.CutPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", invalid("is not a whole number", "")
	}
	digits = strings.TrimLeft(digits, "0")
	switch {
	case digits == "":
		return "0", nil
	case negative:
		return "-" + digits, nil
	}
	return digits, nil
}
