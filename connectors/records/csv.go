package records

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// csv is RFC 4180 with a delimiter to choose: a line of column names first, unless the map gives them, and quoted fields
// that may hold line feeds. A field that is empty is null.
type csv struct {
	comma   byte
	columns []string // of files without a header line; nil otherwise
	need    []string // columns that a file must have
}

func newCSV(l *Layout) (format, error) {
	f := csv{comma: ','}
	if d := l.setting("delimiter"); d != "" {
		if _, err := parseDelimiter(d); err != nil {
			return nil, err
		}
		f.comma = delimiter(d)
	}
	if names := l.setting("columns"); names != "" {
		for name := range strings.SplitSeq(names, ",") {
			f.columns = append(f.columns, strings.TrimSpace(name))
		}
	}
	for _, name := range l.names() {
		if !slices.Contains(l.e.NotPersonal, name) {
			f.need = append(f.need, name)
		}
	}
	return f, nil
}

// delimiter reads the setting: one character, or the word tab.
func delimiter(s string) byte {
	if s == "tab" {
		return '\t'
	}
	return s[0]
}

func parseDelimiter(s string) ([]string, error) {
	if s == "tab" || len(s) == 1 && s[0] < 0x80 && strings.IndexByte("\"\r\n", s[0]) < 0 {
		return nil, nil
	}
	return nil, invalid("is not one character", "write , or ; or | or tab")
}

// whole looks for the last line feed that is outside of quotes: one with an even number of them before it.
func (csv) whole(b []byte) int {
	quotes := bytes.Count(b, []byte{'"'})
	for end := len(b); ; {
		i := bytes.LastIndexByte(b[:end], '\n')
		if i < 0 {
			return 0
		}
		quotes -= bytes.Count(b[i:end], []byte{'"'})
		if quotes%2 == 0 {
			return i + 1
		}
		end = i
	}
}

func (csv) next(b []byte) int {
	quotes := 0
	for from := 0; ; {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return len(b)
		}
		quotes += bytes.Count(b[from:from+i], []byte{'"'})
		from += i + 1
		if quotes%2 == 0 {
			return from
		}
	}
}

func (csv) blank(body []byte) bool { return len(body) == 0 }
func (csv) ends() ending           { return endsCSV }
func (csv) timeFormat() string     { return "auto" }

func (f csv) checkField(name string) error {
	if f.columns != nil && !slices.Contains(f.columns, name) {
		return invalid("is not among the columns", "add it to columns, where it stands in the file")
	}
	return nil
}

// table is the columns of one object.
type table struct {
	csv
	names []string
}

func (f csv) open(head []byte) (int, shape, error) {
	at := bomLength(head)
	if f.columns != nil {
		return at, table{f, f.columns}, nil
	}
	n := f.next(head[at:])
	header := body(head[at : at+n])
	t := table{csv: f}
	cells, err := f.split(header, nil)
	if err != nil {
		return 0, nil, err
	}
	for _, c := range cells {
		t.names = append(t.names, strings.TrimSpace(string(unquote(nil, header[c.from:c.to]))))
	}
	for _, name := range f.need {
		if !slices.Contains(t.names, name) {
			return 0, nil, &fault{at, "has no column " + name}
		}
	}
	return at + n, t, nil
}

// split appends the fields of a record: where they are, and whether they are quoted.
func (f csv) split(b []byte, out []value) ([]value, error) {
	for i := 0; ; i++ {
		v := value{from: i, kind: text}
		if i < len(b) && b[i] == '"' {
			for i++; ; i++ {
				j := bytes.IndexByte(b[i:], '"')
				if j < 0 {
					return out, &fault{v.from, "has a quote that does not end"}
				}
				if i += j + 1; i == len(b) || b[i] != '"' {
					break
				}
				v.escaped = true
			}
			if i < len(b) && b[i] != f.comma {
				return out, &fault{i, "has something behind a quoted field"}
			}
			if i-v.from == 2 {
				v.kind = null
			}
		} else {
			if j := bytes.IndexByte(b[i:], f.comma); j >= 0 {
				i += j
			} else {
				i = len(b)
			}
			if bytes.IndexByte(b[v.from:i], '"') >= 0 {
				return out, &fault{v.from, "has a quote inside a field that is not quoted"}
			}
			if i == v.from {
				v.kind = null
			}
		}
		v.to = i
		if out = append(out, v); i == len(b) {
			return out, nil
		}
	}
}

// unquote appends what a field means.
func unquote(dst, b []byte) []byte {
	if len(b) < 2 || b[0] != '"' {
		return append(dst, b...)
	}
	b = b[1 : len(b)-1]
	for i := 0; i < len(b); i++ {
		dst = append(dst, b[i])
		if b[i] == '"' {
			i++
		}
	}
	return dst
}

type csvParser struct {
	table
	p      *paths
	fields []int  // by column: index in paths, or -1
	seen   []bool // undeclared columns in which text was seen
	cells  []value
	spare  []byte
}

func (t table) parser(p *paths) (parser, error) {
	c := &csvParser{table: t, p: p, seen: make([]bool, len(t.names))}
	for _, name := range t.names {
		i, ok := p.index[name]
		if !ok {
			i = -1
		}
		c.fields = append(c.fields, i)
	}
	return c, nil
}

func (c *csvParser) parse(b []byte, out []value, all bool) ([]value, error) {
	var err error
	if c.cells, err = c.split(b, c.cells[:0]); err != nil {
		return out, err
	}
	if len(c.cells) != len(c.names) {
		return out, &fault{0, "has another number of fields than the header"}
	}
	for n, v := range c.cells {
		v.field = c.fields[n]
		if v.field < 0 {
			c.seen[n] = c.seen[n] || hasLetter(b[v.from:v.to])
		} else if all || c.p.hot[v.field] {
			out = append(out, v)
		}
	}
	return out, nil
}

// hasLetter tells text from numbers, dates and codes of digits.
func hasLetter(b []byte) bool {
	for _, c := range b {
		if 'a' <= c|0x20 && c|0x20 <= 'z' || c >= 0x80 {
			return true
		}
	}
	return false
}

func (c *csvParser) text(b []byte, v value) []byte {
	if v.to-v.from < 2 || b[v.from] != '"' {
		return b[v.from:v.to]
	}
	if !v.escaped {
		return b[v.from+1 : v.to-1]
	}
	c.spare = unquote(c.spare[:0], b[v.from:v.to])
	return c.spare
}

func (c *csvParser) encode(b []byte, old value, to any) ([]byte, error) {
	s, ok := to.(string)
	if l, is := to.(literal); is {
		s, ok = string(l), true
	}
	switch {
	case to == nil && len(c.names) == 1:
		return []byte(`""`), nil // an empty line would be no record
	case to == nil:
		return nil, nil
	case !ok:
		return nil, invalid("mask makes a value that CSV cannot hold", "choose another mask")
	case old.from < old.to && b[old.from] == '"' || s == "" && len(c.names) == 1 ||
		strings.ContainsAny(s, "\"\r\n") || strings.IndexByte(s, c.comma) >= 0:
		return []byte(`"` + strings.ReplaceAll(s, `"`, `""`) + `"`), nil
	}
	return []byte(s), nil
}

func (c *csvParser) check(b []byte) error {
	_, err := c.parse(b, nil, true)
	return err
}

// export gives a record as one JSON object, because the objects of an Entity may have other columns.
func (c *csvParser) export(b []byte) ([]string, []any) {
	cells, _ := c.split(b, nil) // it was parsed
	doc := []byte{'{'}
	for n, v := range cells {
		if n > 0 {
			doc = append(doc, ',')
		}
		doc = append(append(doc, quoteJSON(c.names[n])...), ':')
		doc = append(doc, quoteJSON(string(unquote(nil, b[v.from:v.to])))...)
	}
	return []string{"record"}, []any{json.RawMessage(append(doc, '}'))}
}

func (c *csvParser) unsearched() []string {
	var out []string
	for n, seen := range c.seen {
		if seen {
			out = append(out, fieldName(c.names[n]))
		}
	}
	return out
}
