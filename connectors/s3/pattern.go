package s3

import (
	"net/url"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors/records"
)

// pattern is a pattern of keys, of which each has one reading: nobody's object is taken for another's.
type pattern struct {
	*records.Glob
	placeholders []string // names in the order of the text
	prefix       string   // literal text before anything else
	after        string   // where the text goes on with a placeholder: the literal text after that
	narrow       bool     // prefix, placeholder, after begin the pattern
}

// parseObjects is the Parse of the setting objects.
func parseObjects(value string) ([]string, error) {
	p, err := parsePattern(value)
	if err != nil {
		return nil, err
	}
	return p.placeholders, nil
}

func parsePattern(text string) (*pattern, error) {
	g, err := records.ParseGlob(text)
	if err == nil {
		err = g.OneReading()
	}
	if err != nil {
		return nil, err
	}
	p := &pattern{Glob: g, placeholders: g.Identifiers(), prefix: g.Prefix()}
	rest := text[len(p.prefix):]
	if p.narrow = strings.HasPrefix(rest, "{"); p.narrow {
		p.after = rest[strings.IndexByte(rest, '}')+1:]
		if n := strings.IndexAny(p.after, "*{"); n >= 0 {
			p.after = p.after[:n]
		}
	}
	return p, nil
}

// wholePrefix tells whether the pattern is a prefix and everything below it: all that a lifecycle rule can say.
func (p *pattern) wholePrefix() bool { return p.String() == p.prefix+"**" }

// spellings are the ways in which a value may stand in a key: as it is, and percent-encoded.
func spellings(value string) []string {
	if u, err := url.PathUnescape(value); err == nil && u != value {
		return []string{value, u}
	}
	return []string{value}
}

// plain tells whether a value is spelled in one way only: it has nothing that anybody would encode.
func plain(value string) bool {
	return value != "" && strings.IndexFunc(value, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	}) < 0
}
