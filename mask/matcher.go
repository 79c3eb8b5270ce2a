package mask

import (
	"encoding/json"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lethe-gdpr/lethe/dsr"
)

// MinFreeText is the shortest opaque or integer identifier that is searched for in free text. Shorter ones ("42")
// would match what has nothing to do with the subject; they are matched by typed fields only.
const MinFreeText = 6

// Matcher finds one subject's identifiers inside free text. Search, redaction and verification share it, so that they
// cannot disagree. Rules by kind:
//
//   - email: without regard to case; not inside a longer address;
//   - phone: digits of E.164 or of the national form, whatever separators are between;
//   - uuid: without regard to case;
//   - ip: any spelling of the address;
//   - opaque, integer: exact, as a whole word, from [MinFreeText] characters on.
//
// A Matcher is immutable and safe for concurrent use.
type Matcher struct {
	words  []word
	phones []string // digits of E.164 without the plus
	ips    map[netip.Addr]bool
}

type word struct {
	text  string // lower case when fold
	fold  bool
	email bool
}

// NewMatcher makes a matcher of normalised identifiers; kinds gives each identifier's kind by its name.
func NewMatcher(ids []dsr.Identifier, kinds map[string]dsr.IdentifierKind) *Matcher {
	m := &Matcher{}
	for _, id := range ids {
		v := id.Value.Reveal()
		if v == "" {
			continue
		}
		switch kinds[id.Name] {
		case dsr.KindEmail:
			m.words = append(m.words, word{text: strings.ToLower(v), fold: true, email: true})
		case dsr.KindPhone:
			if d := digits(v); len(d) >= MinFreeText {
				m.phones = append(m.phones, d)
			}
		case dsr.KindUUID:
			m.words = append(m.words, word{text: strings.ToLower(v), fold: true})
		case dsr.KindIP:
			if a, err := netip.ParseAddr(v); err == nil {
				if m.ips == nil {
					m.ips = map[netip.Addr]bool{}
				}
				m.ips[a.Unmap()] = true
			}
		default:
			if utf8.RuneCountInString(v) >= MinFreeText {
				m.words = append(m.words, word{text: v})
			}
		}
	}
	return m
}

// Empty reports whether nothing can match.
func (m *Matcher) Empty() bool { return len(m.words) == 0 && len(m.phones) == 0 && len(m.ips) == 0 }

// Words returns literal texts of which one must be in any matching text, compared without regard to case; ok is false
// when no such list exists (telephone numbers and addresses have many spellings). Use it to narrow a search in a store
// before [Matcher.Find] decides.
func (m *Matcher) Words() (words []string, ok bool) {
	for _, w := range m.words {
		words = append(words, w.text)
	}
	return words, len(m.phones) == 0 && len(m.ips) == 0
}

// Find reports whether an identifier stands in the text.
func (m *Matcher) Find(text string) bool {
	found := false
	m.spans(text, func(int, int) bool { found = true; return false })
	return found
}

// Spans returns where identifiers stand in the text: byte ranges in order, apart from each other.
func (m *Matcher) Spans(text string) [][2]int {
	var spans [][2]int
	m.spans(text, func(from, to int) bool { spans = append(spans, [2]int{from, to}); return true })
	if spans == nil {
		return nil
	}
	return merge(spans)
}

// Redact replaces every identifier by [Redacted] and returns how many there were.
func (m *Matcher) Redact(text string) (string, int) {
	var spans [][2]int
	m.spans(text, func(from, to int) bool { spans = append(spans, [2]int{from, to}); return true })
	if len(spans) == 0 {
		return text, 0
	}
	var b strings.Builder
	at := 0
	for _, s := range merge(spans) {
		b.WriteString(text[at:s[0]])
		b.WriteString(Redacted)
		at = s[1]
	}
	b.WriteString(text[at:])
	return b.String(), len(spans)
}

// RedactJSON redacts inside the strings of a JSON document, keys included; every other byte stays as it is. A document
// that does not parse is redacted as text.
func (m *Matcher) RedactJSON(doc string) (string, int) {
	if !json.Valid([]byte(doc)) {
		return m.Redact(doc)
	}
	var b strings.Builder
	count, at := 0, 0
	for i := 0; i < len(doc); i++ {
		if doc[i] != '"' {
			continue
		}
		end := i + 1
		for doc[end] != '"' {
			if doc[end] == '\\' {
				end++
			}
			end++
		}
		var s string
		_ = json.Unmarshal([]byte(doc[i:end+1]), &s) // the document is valid
		if out, n := m.Redact(s); n > 0 {
			quoted, _ := json.Marshal(out)
			b.WriteString(doc[at:i])
			b.Write(quoted)
			at, count = end+1, count+n
		}
		i = end
	}
	b.WriteString(doc[at:])
	return b.String(), count
}

// FindJSON reports whether an identifier stands in a string of a JSON document.
func (m *Matcher) FindJSON(doc string) bool {
	_, n := m.RedactJSON(doc)
	return n > 0
}

// spans calls fn for each match until it returns false.
func (m *Matcher) spans(text string, fn func(from, to int) bool) {
	var folded string
	for _, w := range m.words {
		hay := text
		if w.fold {
			if folded == "" {
				folded = foldASCII(text)
			}
			hay = folded
		}
		for at := 0; ; {
			i := strings.Index(hay[at:], w.text)
			if i < 0 {
				break
			}
			from, to := at+i, at+i+len(w.text)
			if bounded(hay, from, to, w.email) && !fn(from, to) {
				return
			}
			at = from + 1
		}
	}
	if len(m.phones) > 0 && !m.phoneSpans(text, fn) {
		return
	}
	if len(m.ips) > 0 {
		m.ipSpans(text, fn)
	}
}

// foldASCII lowers A to Z only, so that byte offsets stay those of the text. Normalised e-mail addresses and UUIDs are
// compared this way; other letters are compared as they are.
func foldASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// bounded reports whether a match is a whole word: "anna@example.com" does not stand in "joanna@example.com", nor in
// "anna@example.com.au", but it does in "anna@example.com.".
func bounded(s string, from, to int, email bool) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:from])
	after, size := utf8.DecodeRuneInString(s[to:])
	if from > 0 && (wordRune(before) || email && strings.ContainsRune(".+-%_", before)) {
		return false
	}
	if to == len(s) {
		return true
	}
	if wordRune(after) {
		return false
	}
	if email && (after == '.' || after == '-') {
		next, _ := utf8.DecodeRuneInString(s[to+size:])
		return to+size == len(s) || !wordRune(next)
	}
	return true
}

func wordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// phoneSpans looks at every run of digits and separators and compares its digits.
func (m *Matcher) phoneSpans(text string, fn func(from, to int) bool) bool {
	for i := 0; i < len(text); {
		if !(isDigit(text[i]) || text[i] == '+' || text[i] == '(') {
			i++
			continue
		}
		from, to, end := i, i, i
		var run []byte
		for end < len(text) && (isDigit(text[end]) || strings.IndexByte("+ ()-./", text[end]) >= 0) {
			if isDigit(text[end]) {
				run = append(run, text[end])
				to = end + 1
			}
			end++
		}
		if m.phone(string(run)) && !fn(from, to) {
			return false
		}
		i = max(end, i+1)
	}
	return true
}

// phone reports whether digits are one of the numbers: international with or without the prefix 00, or national. The
// national form is compared by its last digits, of which a number has at least seven.
func (m *Matcher) phone(run string) bool {
	run = strings.TrimPrefix(run, "00")
	for _, p := range m.phones {
		if run == p {
			return true
		}
		// a country code has one to three digits; +44 (0)20 keeps the national zero inside
		for cc := 1; cc <= 3 && len(p)-cc >= 7; cc++ {
			national := p[cc:]
			if run == "0"+national || run == p[:cc]+"0"+national {
				return true
			}
		}
	}
	return false
}

func (m *Matcher) ipSpans(text string, fn func(from, to int) bool) {
	isPart := func(b byte) bool {
		return isDigit(b) || b == '.' || b == ':' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
	}
	for i := 0; i < len(text); {
		if !isPart(text[i]) {
			i++
			continue
		}
		end := i
		for end < len(text) && isPart(text[end]) {
			end++
		}
		// "10.0.0.1." ends a sentence, "10.0.0.1:8080" is followed by a port
		tok := strings.TrimRight(text[i:end], ".:")
		for _, t := range []string{tok, beforeLastColon(tok)} {
			if a, err := netip.ParseAddr(t); err == nil && m.ips[a.Unmap()] {
				if !fn(i, i+len(t)) {
					return
				}
				break
			}
		}
		i = end
	}
}

func beforeLastColon(s string) string {
	if i := strings.LastIndexByte(s, ':'); i > 0 && strings.Count(s, ":") == 1 {
		return s[:i]
	}
	return s
}

// merge sorts spans and joins those that overlap.
func merge(spans [][2]int) [][2]int {
	for i := 1; i < len(spans); i++ { // few; insertion keeps it short
		for j := i; j > 0 && spans[j][0] < spans[j-1][0]; j-- {
			spans[j], spans[j-1] = spans[j-1], spans[j]
		}
	}
	out := spans[:1]
	for _, s := range spans[1:] {
		if last := &out[len(out)-1]; s[0] < last[1] {
			last[1] = max(last[1], s[1])
		} else {
			out = append(out, s)
		}
	}
	return out
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}
