package records

import (
	"strings"

	"github.com/lethe-gdpr/lethe/mask"
)

// Free text of logs holds addresses of pages, in which an e-mail address is written anna%40example.com (RFC 3986 §2.1),
// and what a web server escapes itself, as \x40. Identifiers are looked for in the text as it is and without these
// escapes.

// unescapeURL undoes the escapes of a text; byte i of the result begins at at[i] of s. ok is false when there are none.
func unescapeURL(s string) (decoded string, at []int, ok bool) {
	if strings.IndexByte(s, '%') < 0 && !strings.Contains(s, `\x`) {
		return s, nil, false
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		n := 1
		switch {
		case s[i] == '%':
			n = 3
		case strings.HasPrefix(s[i:], `\x`):
			n = 4
		}
		at = append(at, i)
		if n > 1 && i+n <= len(s) {
			if c, is := hex2(s[i+n-2 : i+n]); is {
				b.WriteByte(c)
				i += n
				ok = true
				continue
			}
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String(), append(at, len(s)), ok
}

func hex2(s string) (c byte, ok bool) {
	for i := range 2 {
		d := s[i]
		switch {
		case '0' <= d && d <= '9':
			d -= '0'
		case 'a' <= d|0x20 && d|0x20 <= 'f':
			d = (d | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		c = c<<4 | d
	}
	return c, true
}

// redactEscaped replaces identifiers that are written with escapes; every other byte stays.
func redactEscaped(m *mask.Matcher, s string) string {
	decoded, at, ok := unescapeURL(s)
	if !ok {
		return s
	}
	var b strings.Builder
	done := 0
	for _, span := range m.Spans(decoded) {
		b.WriteString(s[done:at[span[0]]])
		b.WriteString(mask.Redacted)
		done = at[span[1]]
	}
	b.WriteString(s[done:])
	return b.String()
}
