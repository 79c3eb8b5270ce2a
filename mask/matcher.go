package mask

import (
	"encoding/json"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/lethe-gdpr/lethe/dsr"
)

// MinFreeText is the shortest opaque or integer identifier that is searched for in free text. Shorter ones ("42")
// would match what has nothing to do with the subject; they are matched by typed fields only.
const MinFreeText = 6

// Matcher finds one subject's identifiers inside free text. Search, redaction and verification share it, so that they
// cannot disagree. Rules by kind:
//
//   - email: without regard to case; not inside a longer address;
//   - phone: digits of E.164 or of the national form, whatever separators are between, and whatever numbers beside it;
//   - uuid: without regard to case, with dashes or without;
//   - ip: any spelling of the address, also behind a name and a colon or before one and a port;
//   - opaque, integer: exact, as a whole word, from [MinFreeText] characters on.
//
// Letters outside of ASCII are compared whether they are composed or not (Unicode's NFC and NFD).
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
	wide  bool // has letters outside of ASCII
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
			m.word(word{text: v, fold: true, email: true})
		case dsr.KindPhone:
			if d := digits(v); len(d) >= MinFreeText {
				m.phones = append(m.phones, d)
			}
		case dsr.KindUUID:
			m.word(word{text: v, fold: true})
			m.word(word{text: strings.ReplaceAll(v, "-", ""), fold: true})
		case dsr.KindIP:
			if a, err := netip.ParseAddr(v); err == nil {
				if m.ips == nil {
					m.ips = map[netip.Addr]bool{}
				}
				m.ips[a.Unmap()] = true
			}
		default:
			if utf8.RuneCountInString(v) >= MinFreeText {
				m.word(word{text: v})
			}
		}
	}
	return m
}

func (m *Matcher) word(w word) {
	if w.fold {
		w.text = strings.ToLower(w.text)
	}
	w.text = norm.NFC.String(w.text)
	w.wide = strings.IndexFunc(w.text, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0
	m.words = append(m.words, w)
}

// Empty reports whether nothing can match.
func (m *Matcher) Empty() bool { return len(m.words) == 0 && len(m.phones) == 0 && len(m.ips) == 0 }

// Words returns literal texts of which one must be in any matching text, compared without regard to case; ok is false
// when no such list exists (telephone numbers, addresses and letters outside of ASCII have many spellings). Use it to
// narrow a search in a store before [Matcher.Find] decides.
func (m *Matcher) Words() (words []string, ok bool) {
	ok = len(m.phones) == 0 && len(m.ips) == 0
	for _, w := range m.words {
		words = append(words, w.text)
		ok = ok && !w.wide
	}
	return words, ok
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

// RedactJSON redacts inside the strings of a JSON document, keys included, and puts a string in place of a number that
// is an identifier; every other byte stays as it is. A document that does not parse is redacted as text.
func (m *Matcher) RedactJSON(doc string) (string, int) {
	if !json.Valid([]byte(doc)) {
		return m.Redact(doc)
	}
	var b strings.Builder
	count, at := 0, 0
	for i := 0; i < len(doc); {
		end := i + 1
		var s string
		switch c := doc[i]; {
		case c == '"':
			for doc[end] != '"' {
				if doc[end] == '\\' {
					end++
				}
				end++
			}
			end++
			_ = json.Unmarshal([]byte(doc[i:end]), &s) // the document is valid
		case c == '-' || isDigit(c):
			for end < len(doc) && (isDigit(doc[end]) || strings.IndexByte(".eE+-", doc[end]) >= 0) {
				end++
			}
			s = doc[i:end]
		}
		if out, n := m.Redact(s); n > 0 {
			quoted, _ := json.Marshal(out)
			b.WriteString(doc[at:i])
			b.Write(quoted)
			at, count = end, count+n
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
	var forms [4]form // of the text, made when a word needs them
	for _, w := range m.words {
		i := 0
		if w.fold {
			i |= 1
		}
		if w.wide {
			i |= 2
		}
		f := &forms[i]
		if f.text == "" {
			*f = formOf(text, w.fold, w.wide)
		}
		for at := 0; ; {
			i := strings.Index(f.text[at:], w.text)
			if i < 0 {
				break
			}
			from, to := at+i, at+i+len(w.text)
			if bounded(f.text, from, to, w.email) && !fn(f.original(from), f.original(to)) {
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

// form is a text as words are looked for in it.
type form struct {
	text string
	at   []int // where each byte, and the end, comes from; nil when that is where it is
}

func (f form) original(i int) int {
	if f.at == nil {
		return i
	}
	return f.at[i]
}

// formOf returns a text in lower case when fold; letters outside of ASCII are lowered and composed when wide, which only
// words with such letters need.
func formOf(text string, fold, wide bool) form {
	if !wide || strings.IndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		if fold {
			text = foldASCII(text)
		}
		return form{text: text}
	}
	var f form
	var b strings.Builder
	var it norm.Iter
	for it.InitString(norm.NFC, text); !it.Done(); {
		from := it.Pos()
		segment := string(it.Next())
		if fold {
			segment = norm.NFC.String(strings.ToLower(segment))
		}
		b.WriteString(segment)
		for range len(segment) {
			f.at = append(f.at, from)
		}
	}
	f.text, f.at = b.String(), append(f.at, len(text))
	return f
}

// foldASCII lowers A to Z only, so that byte offsets stay those of the text.
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

// maxPhone is the most digits of a telephone number as it is written: 15 of E.164, two of 00, and a national zero.
const maxPhone = 18

// phoneSpans looks at runs of digits and separators. A date or another number may stand beside a telephone number with
// only a space between, so that a number is any sequence of whole groups of digits.
func (m *Matcher) phoneSpans(text string, fn func(from, to int) bool) bool {
	var groups [][2]int
	for i := 0; i < len(text); {
		if !isDigit(text[i]) {
			i++
			continue
		}
		groups = groups[:0]
		for i < len(text) && (isDigit(text[i]) || strings.IndexByte("+ ()-./", text[i]) >= 0) {
			if isDigit(text[i]) {
				if last := len(groups) - 1; last >= 0 && groups[last][1] == i {
					groups[last][1]++
				} else {
					groups = append(groups, [2]int{i, i + 1})
				}
			}
			i++
		}
		for first := 0; first < len(groups); first++ {
			var run []byte
			to := 0
			for n, g := range groups[first:] {
				if run = append(run, text[g[0]:min(g[1], g[0]+maxPhone+1)]...); len(run) > maxPhone {
					break
				}
				if m.phone(string(run)) {
					to = first + n + 1 // the longest
				}
			}
			if to == 0 {
				continue
			}
			from := groups[first][0]
			for from > 0 && (text[from-1] == '+' || text[from-1] == '(') {
				from--
			}
			if !fn(from, groups[to-1][1]) {
				return false
			}
			first = to - 1
		}
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
		if from, to, ok := m.ip(text[i:end], i > 0 && wordRune(rune(text[i-1]))); ok && !fn(i+from, i+to) {
			return
		}
		i = end
	}
}

// ip looks for an address in what could be one. "10.0.0.1." ends a sentence, "10.0.0.1:8080" is followed by a port, and
// "id:10.0.0.1" has a name before it, of which the hexadecimal letters are taken for a part; inside says that a part of
// the name lies before s.
func (m *Matcher) ip(s string, inside bool) (from, to int, ok bool) {
	is := func(a, b int) bool {
		if from, to = a, b; a >= b {
			return false
		}
		addr, err := netip.ParseAddr(s[a:b])
		return err == nil && m.ips[addr.Unmap()]
	}
	end := len(strings.TrimRight(s, ".:"))
	if strings.HasSuffix(s, "::") {
		end = len(s)
	}
	if is(0, end) {
		return from, to, true
	}
	if _, err := netip.ParseAddr(s[:end]); err == nil && !inside {
		return 0, 0, false // another one
	}
	if is(strings.IndexByte(s, ':')+1, end) || is(len(s)-len(strings.TrimLeft(s, ".:")), end) {
		return from, to, true
	}
	for at := 0; at < len(s); at++ { // of version 4, between colons
		n := strings.IndexByte(s[at:], ':')
		if n < 0 {
			n = len(s) - at
		}
		part := s[at : at+n]
		left := at + len(part) - len(strings.TrimLeft(part, "."))
		if is(left, at+len(strings.TrimRight(part, "."))) {
			return from, to, true
		}
		at += n
	}
	return 0, 0, false
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
