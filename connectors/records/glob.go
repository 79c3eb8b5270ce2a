package records

import (
	"regexp"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Glob is a pattern of paths below a root, or of an object's key: "events/**/*.json.gz", "avatars/{user_id}/**".
//
//   - * stands for any text without a slash, none included;
//   - ** stands, as a whole segment, for any number of segments, none included, and in a segment, as in events/**.gz, for
//     any text, slashes too;
//   - {name} stands for the value of an identifier: some text without a slash. Where a * in the same segment leaves a
//     choice it is the shortest that fits; [Glob.OneReading] refuses that.
//
// Everything else stands for itself. A Glob is immutable and safe for concurrent use.
type Glob struct {
	text   string
	re     *regexp.Regexp
	names  []string
	prefix string
	depth  int // most slashes in a path that matches; -1 is no bound
	deep   int // how often ** stands in it
	mixed  bool
}

var placeholder = regexp.MustCompile(`^\{[A-Za-z][A-Za-z0-9_.-]*\}`)

// ParseGlob reads a pattern. The error is a *dsr.Error with CodeInvalid.
func ParseGlob(s string) (*Glob, error) {
	bad := func(msg, hint string) (*Glob, error) {
		return nil, &dsr.Error{Code: dsr.CodeInvalid, Msg: msg, Hint: hint}
	}
	if s == "" || strings.HasPrefix(s, "/") {
		return bad("is not a relative pattern", `write for example events/**/*.json.gz`)
	}
	g := &Glob{text: s, depth: strings.Count(s, "/")}
	var re strings.Builder
	re.WriteString(`(?s)^`)
	segments := strings.Split(s, "/")
	for i, seg := range segments {
		last := i == len(segments)-1
		switch {
		case seg == "." || seg == "..":
			return bad("has a segment that leads elsewhere", "a pattern has no . and no .. in it")
		case seg == "**":
			g.depth = -1
			g.deep++
			if last {
				re.WriteString(`.*`)
			} else {
				re.WriteString(`(?:.*/)?`)
			}
			continue
		}
		placeholders, varies := len(g.names), 0
		for free := false; seg != ""; {
			if seg[0] != '*' && seg[0] != '{' {
				n := strings.IndexAny(seg, "*{")
				if n < 0 {
					n = len(seg)
				}
				if strings.Contains(seg[:n], "}") {
					return bad("has a } without its {", "write {identifier}")
				}
				re.WriteString(regexp.QuoteMeta(seg[:n]))
				seg, free = seg[n:], false
				continue
			}
			if free {
				return bad("has nothing between two placeholders", "write something between them that tells where one ends")
			}
			free = true
			varies++
			if strings.HasPrefix(seg, "**") {
				g.depth = -1
				g.deep++
				re.WriteString(`.*?`)
				seg = seg[2:]
				continue
			}
			if seg[0] == '*' {
				re.WriteString(`[^/]*?`)
				seg = seg[1:]
				continue
			}
			p := placeholder.FindString(seg)
			if p == "" {
				return bad("has a { that begins no placeholder", "write {identifier}")
			}
			name := p[1 : len(p)-1]
			if slices.Contains(g.names, name) {
				return bad("names an identifier twice", "write each placeholder once")
			}
			g.names = append(g.names, name)
			re.WriteString(`([^/]+?)`)
			seg = seg[len(p):]
		}
		g.mixed = g.mixed || len(g.names) > placeholders && varies > 1
		if !last {
			re.WriteString("/")
		}
	}
	re.WriteString(`$`)
	g.re = regexp.MustCompile(re.String())
	g.prefix = s
	if n := strings.IndexAny(s, "*{"); n >= 0 {
		g.prefix = s[:n]
	}
	return g, nil
}

// String returns the pattern as it was written.
func (g *Glob) String() string { return g.text }

// Identifiers are the names of the placeholders, in their order.
func (g *Glob) Identifiers() []string { return slices.Clone(g.names) }

// Prefix is the text that every match begins with.
func (g *Glob) Prefix() string { return g.prefix }

// OneReading refuses a pattern of which a path could be read in several ways, so that one person's could be taken for
// another's: of {user_id}-* nobody knows whether 4-2-x is user 4's. A placeholder shares its segment with fixed text only,
// and beside placeholders ** stands once. The error is a *dsr.Error with CodeInvalid.
func (g *Glob) OneReading() error {
	switch {
	case len(g.names) == 0:
		return nil
	case g.mixed:
		return &dsr.Error{
			Code: dsr.CodeInvalid, Msg: "has something that varies beside an identifier: whose a name is could be read in two ways",
			Hint: "put a slash between them",
		}
	case g.deep > 1:
		return &dsr.Error{Code: dsr.CodeInvalid, Msg: "has ** twice, so that a name could be read in two ways", Hint: "leave ** at one place"}
	}
	return nil
}

// Match reports whether a path matches, and the values of the placeholders in the order of [Glob.Identifiers].
func (g *Glob) Match(path string) (values []string, ok bool) {
	m := g.re.FindStringSubmatch(path)
	if m == nil {
		return nil, false
	}
	return m[1:], true
}

// Below reports whether a path below the folder can match; the root itself is the empty folder.
func (g *Glob) Below(folder string) bool {
	if folder == "" {
		return true
	}
	folder += "/"
	if g.depth >= 0 && strings.Count(folder, "/") > g.depth {
		return false
	}
	return strings.HasPrefix(folder, g.prefix) || strings.HasPrefix(g.prefix, folder)
}
