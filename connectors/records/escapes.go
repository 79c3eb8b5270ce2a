package records

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lethe-gdpr/lethe/mask"
)

// Text of logs is often written by one program inside of another's: an address of a page has anna%40example.com
// (RFC 3986 §2.1), with a + for a space in what a form sends, and once more so when it is a part of another address; a
// web server escapes what it does not trust as \x40; a document that is logged as text has \u0040 and \n (RFC 8259 §7); a
// terminal's colours begin with the character ESC (ECMA-48 §5.4). Identifiers are looked for in the text as it is, and in
// these readings of it.

// reading is a text without escapes. Byte i of it is from[i] to to[i] of the text as it is written; both are nil for that
// text itself.
type reading struct {
	text     string
	from, to []int32
}

const (
	maxEscaped = 3 // how often one text may be escaped inside of another
	esc        = 0x1b
)

// readings returns the ways in which a text may be read besides the one in which it is written; mostly there are none.
func readings(s string) []reading {
	if !strings.ContainsAny(s, "%\\\x1b") {
		return nil
	}
	written := reading{text: s}
	out := []reading{written}
	for _, form := range []bool{false, true} {
		if form && !strings.Contains(s, "+") && !strings.Contains(s, "%2") {
			break // nothing that a form's space could be
		}
		r := written
		for range maxEscaped {
			next, ok := r.unescaped(form)
			if !ok {
				break
			}
			out, r = append(out, next), next
		}
	}
	for _, r := range out {
		if strings.IndexByte(r.text, esc) >= 0 {
			// one word in two colours, or two words with nothing else between them
			out = append(out, r.plain(""), r.plain(" "))
		}
	}
	return out[1:]
}

// build makes a reading of another one: step returns what stands for the first bytes of a rest, and how many they are.
func (r reading) build(step func(rest string) (as string, n int)) reading {
	var b strings.Builder
	var out reading
	for i := 0; i < len(r.text); {
		as, n := step(r.text[i:])
		b.WriteString(as)
		from, to := r.span(i, i+n)
		for range len(as) {
			out.from, out.to = append(out.from, int32(from)), append(out.to, int32(to))
		}
		i += n
	}
	out.text = b.String()
	return out
}

// span returns where some bytes stand in the text as it is written.
func (r reading) span(from, to int) (int, int) {
	if r.from == nil {
		return from, to
	}
	return int(r.from[from]), int(r.to[to-1])
}

// unescaped undoes one layer of escapes; ok is false when there are none.
func (r reading) unescaped(form bool) (out reading, ok bool) {
	out = r.build(func(s string) (string, int) {
		as, n := unescapeText(s)
		if form && s[0] == '+' {
			as = " "
		}
		ok = ok || n > 1
		return as, n
	})
	return out, ok
}

// unescapeText returns what the beginning of a text means, and its length.
func unescapeText(s string) (as string, n int) {
	switch {
	case s[0] == '%':
		if c, ok := hex2(s[1:]); ok {
			return string([]byte{c}), 3
		}
	case s[0] == '\\' && len(s) > 1:
		switch s[1] {
		case 'x':
			if c, ok := hex2(s[2:]); ok {
				return string([]byte{c}), 4
			}
		case 'u':
			if _, ok := hex4(s, 2); ok {
				r, n := escapedRune(s)
				return string(utf8.AppendRune(nil, r)), n
			}
		case 'n', 'r', 't':
			return " ", 2
		case '"', '\\', '/':
			return s[1:2], 2
		}
	}
	return s[:1], 1
}

func hex2(s string) (c byte, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
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

// plain puts something in place of the control sequences that colour a text: ESC [, parameters, and a letter.
func (r reading) plain(as string) reading {
	return r.build(func(s string) (string, int) {
		if s[0] != esc || len(s) < 2 || s[1] != '[' {
			return s[:1], 1
		}
		n := 2
		for n < len(s) && 0x20 <= s[n] && s[n] < 0x40 {
			n++
		}
		return as, min(n+1, len(s))
	})
}

// redactText replaces identifiers in a text, whichever reading has them; every other byte stays.
func redactText(m *mask.Matcher, s string) string {
	spans := m.Spans(s)
	for _, r := range readings(s) {
		for _, span := range m.Spans(r.text) {
			from, to := r.span(span[0], span[1])
			spans = append(spans, [2]int{from, to})
		}
	}
	slices.SortFunc(spans, func(a, b [2]int) int { return a[0] - b[0] })
	var b strings.Builder
	done := 0
	for _, span := range spans {
		if span[0] >= done {
			b.WriteString(s[done:span[0]])
			b.WriteString(mask.Redacted)
		}
		done = max(done, span[1])
	}
	b.WriteString(s[done:])
	return b.String()
}

// redactDocument does the same inside the strings of a JSON value, names included, and puts a string in place of a
// number that is an identifier.
func redactDocument(m *mask.Matcher, doc string) string {
	var b strings.Builder
	done := 0
	eachLiteral([]byte(doc), func(from, to int, literal []byte) {
		if old := string(literal); old != "" {
			if with := redactText(m, old); with != old {
				b.WriteString(doc[done:from])
				b.Write(quoteJSON(with))
				done = to
			}
		}
	})
	b.WriteString(doc[done:])
	return b.String()
}
