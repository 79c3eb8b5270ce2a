package records

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// jsonl is JSON Lines: one JSON object a line (RFC 8259). Fields are paths: user.id is the member id of the object user,
// or a member that is called "user.id". Arrays on the way are entered, so that items[].email and items.email are the
// same.
type jsonl struct{ lines }

func newJSONL(*Layout) (format, error) { return jsonl{}, nil }

func (jsonl) blank(body []byte) bool { return space(body, zeros(body)) == len(body) }

func (jsonl) open(head []byte) (int, shape, error) { return bomLength(head), jsonl{}, nil }

func (jsonl) checkField(name string) error {
	if slices.Contains(strings.Split(strings.ReplaceAll(name, "[]", ""), "."), "") {
		return invalid("is not a path such as user.id or items[].email", "")
	}
	return nil
}

func (jsonl) timeFormat() string { return "auto" }

// slot remembers which member stood at a place of the previous record: records of one object have the same members in
// the same order, mostly.
type slot struct {
	lead []byte // the name as written, with quotes and all up to the value; nil when it had an escape
	to   *node  // nil when it leads to no field
	seen bool   // reported as unsearched
}

// jsonParser walks documents without decoding them. Every record is checked against the grammar as a whole.
type jsonParser struct {
	p     *paths
	slots [][]slot // by node
	out   []value
	all   bool
	bad   *fault
	extra map[string]bool
	spare []byte
}

func (jsonl) parser(p *paths) (parser, error) {
	return &jsonParser{p: p, extra: map[string]bool{}}, nil
}

const tooMany = "has too many values of one field"

// maxDepth is how deep documents may nest.
const maxDepth = 1000

func (j *jsonParser) parse(b []byte, out []value, all bool) ([]value, error) {
	j.out, j.all, j.bad = out, all, nil
	i := space(b, 0)
	if i == len(b) || b[i] != '{' {
		return out, &fault{i, "is not a JSON object"}
	}
	i = j.value(b, i, j.p.tree, 0)
	if j.bad == nil {
		if i = space(b, i); i < len(b) {
			return out, &fault{i, "has something behind the JSON object"}
		}
		return j.out, nil
	}
	return out, j.bad
}

func (j *jsonParser) fail(at int, msg string) int {
	if j.bad == nil {
		j.bad = &fault{at, msg}
	}
	return at
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// value reads the value that begins at i and returns where it ends; n is the place in the tree, nil outside of it.
func (j *jsonParser) value(b []byte, i int, n *node, depth int) int {
	if i >= len(b) {
		return j.fail(i, "ends inside a JSON value")
	}
	wanted := n != nil && n.field >= 0 && (j.all || j.p.hot[n.field])
	v := value{from: i}
	switch c := b[i]; c {
	case '{':
		v.kind = composite
		if wanted { // before its members, which may be fields of their own
			if len(j.out) >= maxValues {
				return j.fail(i, tooMany)
			}
			v.field = n.field
			at := len(j.out)
			j.out = append(j.out, v)
			end := j.object(b, i, n, depth)
			if at < len(j.out) {
				j.out[at].to = end
			}
			return end
		}
		return j.object(b, i, n, depth)
	case '[':
		return j.array(b, i, n, depth)
	case '"':
		v.kind = text
		v.to, v.escaped = j.str(b, i)
	case 't':
		v.kind, v.to = boolean, j.word(b, i, "true")
	case 'f':
		v.kind, v.to = boolean, j.word(b, i, "false")
	case 'n':
		v.kind, v.to = null, j.word(b, i, "null")
	default:
		v.kind, v.to = number, j.number(b, i)
	}
	if wanted && j.bad == nil {
		if len(j.out) >= maxValues {
			return j.fail(i, tooMany)
		}
		v.field = n.field
		j.out = append(j.out, v)
	}
	return v.to
}

func (j *jsonParser) object(b []byte, i int, n *node, depth int) int {
	if depth++; depth > maxDepth {
		return j.fail(i, "nests too deeply")
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	for member := 0; ; member++ {
		to, at := j.member(b, i, n, member)
		if j.bad != nil {
			return at
		}
		if i = at; i < len(b) && b[i] == '"' && (to == nil || to.field < 0) {
			i, _ = j.str(b, i)
		} else {
			i = j.value(b, i, to, depth)
		}
		if j.bad != nil {
			return i
		}
		i = space(b, i)
		if i >= len(b) {
			return j.fail(i, "ends inside an object")
		}
		switch b[i] {
		case ',':
			i = space(b, i+1)
		case '}':
			return i + 1
		default:
			return j.fail(i, "has no comma between members")
		}
	}
}

// member reads the name that begins at i, and the colon; it returns where the name leads and where the value begins.
func (j *jsonParser) member(b []byte, i int, n *node, at int) (*node, int) {
	leads := n != nil && len(n.edges) > 0
	if leads {
		for len(j.slots) <= n.id {
			j.slots = append(j.slots, nil)
		}
		if slots := j.slots[n.id]; at < len(slots) {
			s := &slots[at]
			if end := i + len(s.lead); s.lead != nil && end < len(b) && string(b[i:end]) == string(s.lead) && b[end] > ' ' {
				if s.to == nil && !s.seen {
					s.seen = j.undeclared(b, end, n, s.lead[1:bytes.IndexByte(s.lead[1:], '"')+1])
				}
				return s.to, end
			}
		}
	}
	if i >= len(b) || b[i] != '"' {
		return nil, j.fail(i, "has no name where a member begins")
	}
	end, escaped := j.str(b, i)
	if j.bad != nil {
		return nil, end
	}
	value := space(b, end)
	if value >= len(b) || b[value] != ':' {
		return nil, j.fail(value, "has no colon behind a name")
	}
	value = space(b, value+1)
	if !leads {
		return nil, value
	}
	name := b[i+1 : end-1]
	if escaped {
		name = unescape(nil, name)
	}
	s := slot{}
	for _, e := range n.edges {
		if string(e.name) == string(name) {
			s.to = e.to
			break
		}
	}
	if s.to == nil {
		s.seen = j.undeclared(b, value, n, name)
	}
	if !escaped && at < 64 && value-i <= 128 { // a document with more members, or with others each time, is looked up
		s.lead = slices.Clone(b[i:value])
		if slots := j.slots[n.id]; at < len(slots) {
			slots[at] = s
		} else if at == len(slots) {
			j.slots[n.id] = append(slots, s)
		}
	}
	return s.to, value
}

// undeclared notes a member that no path leads through, when its value, which begins at i, has text.
func (j *jsonParser) undeclared(b []byte, i int, n *node, name []byte) bool {
	if i >= len(b) || b[i] != '"' && b[i] != '{' && b[i] != '[' {
		return false
	}
	if len(j.extra) < maxUnsearched {
		path := fieldName(string(name))
		if n.path != "" {
			path = n.path + "." + path
		}
		j.extra[path] = true
	}
	return true
}

func (j *jsonParser) unsearched() []string {
	out := make([]string, 0, len(j.extra))
	for name := range j.extra {
		out = append(out, name)
	}
	return out
}

// array reads an array; its elements are at the array's own place.
func (j *jsonParser) array(b []byte, i int, n *node, depth int) int {
	if depth++; depth > maxDepth {
		return j.fail(i, "nests too deeply")
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		at := len(j.out)
		i = j.value(b, i, n, depth)
		if j.bad != nil {
			return i
		}
		if at < len(j.out) && n != nil && j.out[at].field == n.field {
			j.out[at].listed = true
		}
		i = space(b, i)
		if i >= len(b) {
			return j.fail(i, "ends inside an array")
		}
		switch b[i] {
		case ',':
			i = space(b, i+1)
		case ']':
			return i + 1
		default:
			return j.fail(i, "has no comma between elements")
		}
	}
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// str reads the string that begins at i, eight bytes at a time.
func (j *jsonParser) str(b []byte, i int) (end int, escaped bool) {
	i++
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			quote, back := w^(ones*'"'), w^(ones*'\\')
			// a set high bit for every quote, backslash and control character; the lowest one is exact
			hit := ((quote-ones)&^quote | (back-ones)&^back | (w-ones*0x20)&^w) & highs
			if hit != 0 {
				i += bits.TrailingZeros64(hit) / 8
				break
			}
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
			i++
		}
		switch {
		case i >= len(b):
			return j.fail(i, "ends inside a string"), escaped
		case b[i] == '"':
			return i + 1, escaped
		case b[i] < 0x20:
			return j.fail(i, "has a control character in a string"), escaped
		}
		escaped = true
		if i++; i >= len(b) {
			return j.fail(i, "ends inside a string"), escaped
		}
		switch b[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i++
		case 'u':
			if _, ok := hex4(b, i+1); !ok {
				return j.fail(i, "has a wrong escape in a string"), escaped
			}
			i += 5
		default:
			return j.fail(i, "has a wrong escape in a string"), escaped
		}
	}
}

// hex4 reads the four digits of an escape, which begin at i.
func hex4[T string | []byte](b T, i int) (r rune, ok bool) {
	if i+4 > len(b) {
		return 0, false
	}
	for n := range 4 {
		c := b[i+n]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (j *jsonParser) word(b []byte, i int, w string) int {
	if end := i + len(w); end <= len(b) && string(b[i:end]) == w {
		return end
	}
	return j.fail(i, "has a word that JSON does not know")
}

func (j *jsonParser) number(b []byte, i int) int {
	digits := func() bool {
		from := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(b) && b[i] == '-' {
		i++
	}
	ok := true
	if i < len(b) && b[i] == '0' {
		i++
	} else {
		ok = digits()
	}
	if ok && i < len(b) && b[i] == '.' {
		i++
		ok = digits()
	}
	if ok && i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		ok = digits()
	}
	if !ok {
		return j.fail(i, "has a value that is not JSON")
	}
	return i
}

func (j *jsonParser) text(b []byte, v value) []byte {
	if v.kind != text {
		return b[v.from:v.to]
	}
	if !v.escaped {
		return b[v.from+1 : v.to-1]
	}
	j.spare = unescape(j.spare[:0], b[v.from+1:v.to-1])
	return j.spare
}

// unescape appends what a valid string's bytes, without the quotes, mean. Half a surrogate pair is U+FFFD.
func unescape(dst, b []byte) []byte {
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			dst = append(dst, b[i])
			i++
			continue
		}
		switch c := b[i+1]; c {
		case 'u':
			r, n := escapedRune(b[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		default:
			dst = append(dst, c)
		}
		i += 2
	}
	return dst
}

// escapedRune reads the \u that a text begins with, and a second one when both are a pair of surrogates.
func escapedRune[T string | []byte](b T) (r rune, n int) {
	r, _ = hex4(b, 2)
	if 0xd800 <= r && r < 0xdc00 && len(b) > 8 && b[6] == '\\' && b[7] == 'u' {
		if low, ok := hex4(b, 8); ok && 0xdc00 <= low && low < 0xe000 {
			return (r-0xd800)<<10 | (low - 0xdc00) + 0x10000, 12
		}
	}
	return r, 6
}

func (j *jsonParser) encode(_ []byte, _ value, to any) ([]byte, error) {
	switch to := to.(type) {
	case nil:
		return []byte("null"), nil
	case literal:
		return []byte(to), nil
	case string:
		return quoteJSON(to), nil
	}
	return nil, invalid("mask makes a value that JSON Lines cannot hold", "choose another mask")
}

// quoteJSON writes a JSON string and escapes no more than JSON demands.
func quoteJSON(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

func (j *jsonParser) check([]byte) error { return nil }

func (j *jsonParser) export(b []byte) ([]string, []any) {
	return []string{"record"}, []any{json.RawMessage(slices.Clone(bytes.TrimSpace(b)))}
}

// isNumber reports whether s is a number of JSON.
func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil && json.Valid([]byte(s))
}

// eachLiteral calls fn with the names and the values of all strings and numbers of a valid JSON value, and where they are;
// whole numbers without point and exponent.
func eachLiteral(doc []byte, fn func(from, to int, literal []byte)) {
	var spare []byte
	var j jsonParser
	for i := 0; i < len(doc); {
		switch c := doc[i]; {
		case c == '"':
			end, escaped := j.str(doc, i)
			s := doc[i+1 : end-1]
			if escaped {
				spare = unescape(spare[:0], s)
				s = spare
			}
			fn(i, end, s)
			i = end
		case c == '-' || '0' <= c && c <= '9':
			end := j.number(doc, i)
			fn(i, end, []byte(integral(string(doc[i:end]))))
			i = end
		default:
			i++
		}
	}
}
