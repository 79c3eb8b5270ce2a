package s3

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/lethe-gdpr/lethe/dsr"
)

// pattern is a pattern of keys: literal text, * (any text without a slash, none too), ** (any text) and {identifier}
// (a text without a slash that is an identifier's value). A placeholder shares its part of the key, between two
// slashes, with literal text only, and ** stands at most once beside placeholders: so a key has one reading, and nobody's
// object is taken for another's.
type pattern struct {
	text         string
	re           *regexp.Regexp
	placeholders []string // names in the order of the text
	prefix       string   // literal text before anything else
	after        string   // where the text goes on with a placeholder: the literal text after that
	narrow       bool     // prefix, placeholder, after begin the pattern
}

var token = regexp.MustCompile(`\*\*|\*|\{[^{}]*\}|[{}]`)

// parseObjects is the Parse of the setting objects.
func parseObjects(value string) ([]string, error) {
	p, err := parsePattern(value)
	if err != nil {
		return nil, err
	}
	return p.placeholders, nil
}

func parsePattern(text string) (*pattern, error) {
	refuse := func(msg, hint string) (*pattern, error) {
		return nil, &dsr.Error{Code: dsr.CodeInvalid, Msg: msg, Hint: hint}
	}
	if text == "" || strings.HasPrefix(text, "/") {
		return refuse("is not a pattern of keys", "Write for example avatars/{user_id}/**, without a slash in front.")
	}
	p := &pattern{text: text}
	re, deep, at := "^", 0, 0
	tokens := token.FindAllStringIndex(text, -1)
	for n, span := range tokens {
		re += regexp.QuoteMeta(text[at:span[0]])
		if n == 0 {
			p.prefix = text[:span[0]]
		}
		t := text[span[0]:span[1]]
		at = span[1]
		switch {
		case t == "**":
			deep++
			re += "(?s:.*)"
		case t == "*":
			re += "[^/]*"
		case len(t) > 2:
			p.placeholders = append(p.placeholders, t[1:len(t)-1])
			re += "([^/]+)"
			if n == 0 {
				end := len(text)
				if len(tokens) > 1 {
					end = tokens[1][0]
				}
				p.after, p.narrow = text[at:end], true
			}
		default:
			return refuse("has a brace that belongs to no {identifier}", "Write {NAME} with the name of an identifier of the map.")
		}
	}
	if len(tokens) == 0 {
		p.prefix = text
	}
	re += regexp.QuoteMeta(text[at:]) + "$"
	if len(p.placeholders) > 0 {
		if deep > 1 {
			return refuse("has ** twice beside a placeholder, so that a key could be read in several ways", "Leave ** at one place.")
		}
		for _, part := range strings.Split(text, "/") {
			if n := len(token.FindAllString(part, -1)); n > 1 && strings.Contains(part, "{") {
				return refuse("has a placeholder and something else that varies between the same slashes",
					"A key must have one reading: put the placeholder into a part of its own.")
			}
		}
	}
	var err error
	if p.re, err = regexp.Compile(re); err != nil {
		return refuse("is not a pattern of keys", "")
	}
	return p, nil
}

// match returns the values of the placeholders, in their order; ok tells whether the key fits the pattern.
func (p *pattern) match(key string) (values []string, ok bool) {
	m := p.re.FindStringSubmatch(key)
	if m == nil {
		return nil, false
	}
	return m[1:], true
}

// wholePrefix tells whether the pattern is a prefix and everything below it: all that a lifecycle rule can say.
func (p *pattern) wholePrefix() bool { return p.text == p.prefix+"**" }

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
