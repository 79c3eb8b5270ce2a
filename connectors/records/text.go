package records

import (
	"bytes"
	"regexp"
	"slices"
)

// textLines is lines of text that a pattern takes apart: its named groups are the fields, and a dash, as logs write what
// they do not know, is null. Every line must match as a whole, because of a line that does not nobody can tell whose it
// is; with unmatched: text such a line (of a stack trace, say) is free text, in which identifiers are redacted.
type textLines struct {
	lines
	patterns  []pattern // tried in order
	unmatched bool
	times     string
}

// pattern is one way in which a line is written.
type pattern struct {
	re     *regexp.Regexp
	groups []int // with names
}

// unmatchedLine is the field that a line has which does not match.
const unmatchedLine = "(line)"

const (
	// combined is the log format of that name of Apache httpd and nginx, and what begins like it: common, without the
	// last two fields, and nginx's main, with X-Forwarded-For behind them.
	combined = `(?P<host>\S+) (?P<ident>\S+) (?P<user>.+?) \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" ` +
		`(?P<status>\d{3}|-) (?P<size>\d+|-)` +
		`(?: "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<user_agent>(?:[^"\\]|\\.)*)")?(?: "(?P<forwarded_for>(?:[^"\\]|\\.)*)")?`
	// syslog5424 is RFC 5424 §6.
	syslog5424 = `<(?P<priority>\d{1,3})>1 (?P<time>\S+) (?P<host>\S+) (?P<app>\S+) (?P<pid>\S+) (?P<id>\S+) ` +
		`(?P<data>-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: (?P<message>.*))?`
	// syslog3164 is RFC 3164 §4.1 as files have it: mostly without the priority, and of newer daemons with the time of
	// RFC 3339.
	syslog3164 = `(?:<(?P<priority>\d{1,3})>)?(?P<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) (?P<host>\S+) ` +
		`(?:(?P<app>[^\s:\[]+)(?:\[(?P<pid>[^\]]*)\])?: ?)?(?P<message>.*)`
)

// builtin are patterns by name, with how they write times.
var builtin = map[string]struct {
	patterns []string
	times    string
}{
	"combined": {[]string{combined}, "%d/%b/%Y:%H:%M:%S %z"},
	"syslog":   {[]string{syslog5424, syslog3164}, "syslog"},
}

func newText(l *Layout) (format, error) {
	f, err := compilePattern(l.setting("pattern"))
	if err != nil {
		return nil, err
	}
	f.unmatched = l.setting("unmatched") == "text"
	return f, nil
}

// compilePattern reads the setting.
func compilePattern(s string) (textLines, error) {
	if s == "" {
		return textLines{}, invalid("needs a pattern", "write pattern: combined, pattern: syslog, or a regular expression with named groups")
	}
	b, ok := builtin[s]
	if !ok {
		b.patterns, b.times = []string{s}, "auto"
	}
	f := textLines{times: b.times}
	for _, p := range b.patterns {
		re, err := regexp.Compile(`^(?:` + p + `)$`)
		if err != nil {
			return f, invalid("is not a regular expression (RE2)", "name its groups: (?P<user>\\S+)")
		}
		groups := pattern{re: re}
		for i, name := range re.SubexpNames() {
			if name != "" {
				groups.groups = append(groups.groups, i)
			}
		}
		if groups.groups == nil {
			return f, invalid("has no named group", "name the fields: (?P<user>\\S+)")
		}
		f.patterns = append(f.patterns, groups)
	}
	return f, nil
}

func (textLines) blank(body []byte) bool { return zeros(body) == len(body) }
func (f textLines) timeFormat() string   { return f.times }

func (f textLines) open(head []byte) (int, shape, error) { return bomLength(head), f, nil }

func (f textLines) checkField(name string) error {
	if name == unmatchedLine || slices.ContainsFunc(f.patterns, func(p pattern) bool { return p.re.SubexpIndex(name) >= 0 }) {
		return nil
	}
	return invalid("is not a group of the pattern", "name the group: (?P<"+name+">…)")
}

type textParser struct {
	textLines
	p      *paths
	fields [][]int  // by pattern and group: index in paths, or -1
	seen   [][]bool // undeclared groups in which text was seen
}

func (f textLines) parser(p *paths) (parser, error) {
	t := &textParser{textLines: f, p: p}
	for _, pattern := range f.patterns {
		var fields []int
		for _, g := range pattern.groups {
			i, ok := p.index[pattern.re.SubexpNames()[g]]
			if !ok {
				i = -1
			}
			fields = append(fields, i)
		}
		t.fields = append(t.fields, fields)
		t.seen = append(t.seen, make([]bool, len(fields)))
	}
	return t, nil
}

func (t *textParser) parse(b []byte, out []value, all bool) ([]value, error) {
	for n, p := range t.patterns {
		at := p.re.FindSubmatchIndex(b)
		if at == nil {
			continue
		}
		for i, g := range p.groups {
			v := value{field: t.fields[n][i], from: at[2*g], to: at[2*g+1], kind: text}
			switch {
			case v.from < 0:
				continue
			case v.from == v.to || v.to-v.from == 1 && b[v.from] == '-':
				v.kind = null
			}
			if v.field < 0 {
				t.seen[n][i] = t.seen[n][i] || hasLetter(b[v.from:v.to])
			} else if all || t.p.hot[v.field] {
				out = append(out, v)
			}
		}
		return out, nil
	}
	if t.unmatched {
		if i := t.p.index[unmatchedLine]; all || t.p.hot[i] {
			out = append(out, value{field: i, to: len(b), kind: text})
		}
		return out, nil
	}
	return out, &fault{0, "has a line that does not match the pattern"}
}

func (t *textParser) text(b []byte, v value) []byte { return b[v.from:v.to] }

func (t *textParser) encode(_ []byte, _ value, to any) ([]byte, error) {
	switch to := to.(type) {
	case nil:
		return []byte{'-'}, nil
	case literal:
		return []byte(to), nil
	case string:
		return []byte(to), nil
	}
	return nil, invalid("mask makes a value that text cannot hold", "choose another mask")
}

// check sees that a masked line still is one, and is still of the pattern.
func (t *textParser) check(b []byte) error {
	if bytes.IndexByte(b, '\n') >= 0 {
		return &fault{0, "would have a line feed in a masked field"}
	}
	if _, err := t.parse(b, nil, true); err != nil {
		return &fault{0, "would not match the pattern once it is masked"}
	}
	return nil
}

// export gives the groups of the first pattern, so that all records have the same names, or the line as it is where
// there are several ways to write one.
func (t *textParser) export(b []byte) ([]string, []any) {
	p := t.patterns[0]
	at := p.re.FindSubmatchIndex(b)
	if len(t.patterns) > 1 || t.unmatched || at == nil {
		return []string{"line"}, []any{string(b)}
	}
	var names []string
	var values []any
	for _, g := range p.groups {
		names = append(names, p.re.SubexpNames()[g])
		if at[2*g] < 0 {
			values = append(values, nil)
		} else {
			values = append(values, string(b[at[2*g]:at[2*g+1]]))
		}
	}
	return names, values
}

func (t *textParser) unsearched() []string {
	var out []string
	for n, p := range t.patterns {
		for i, g := range p.groups {
			if t.seen[n][i] {
				out = append(out, p.re.SubexpNames()[g])
			}
		}
	}
	return out
}
