package cloudwatchserver

import (
	"encoding/json"
	"regexp"
	"strings"
)

// parseFilter reads a filter pattern ("Filter pattern syntax"): terms, all of which must be in the message, in
// quotation marks where they are phrases; -term must not be; of ?terms one must be, unless there are other terms, which
// then decide alone; and { $.field = value }, joined by && or ||, where * stands for any text. Terms are compared with
// their case. What else the syntax has is refused.
func parseFilter(pattern string) (func(message string) bool, error) {
	pattern = strings.TrimSpace(pattern)
	switch {
	case len(pattern) > 1024:
		return nil, invalid("1 validation error detected: filterPattern")
	case strings.HasPrefix(pattern, "{"):
		return parseJSONFilter(pattern)
	case strings.ContainsAny(pattern, "[]%{}"):
		return nil, invalid("Invalid filter pattern, or one that this server does not have")
	}
	var all, none, some []string
	for _, m := range term.FindAllStringSubmatch(pattern, -1) {
		text := m[3]
		if m[2] != "" {
			text = strings.Trim(m[2], `"`)
		}
		switch m[1] {
		case "-":
			none = append(none, text)
		case "?":
			some = append(some, text)
		default:
			all = append(all, text)
		}
	}
	return func(message string) bool {
		for _, t := range all {
			if !strings.Contains(message, t) {
				return false
			}
		}
		for _, t := range none {
			if strings.Contains(message, t) {
				return false
			}
		}
		for _, t := range some {
			if strings.Contains(message, t) {
				return true
			}
		}
		return len(some) == 0 || len(all) > 0
	}, nil
}

var (
	term     = regexp.MustCompile(`([-?]?)(?:("[^"]*")|(\S+))`)
	selector = regexp.MustCompile(`^\(?\s*\$\.([\w.]+)\s*(=|!=)\s*("[^"]*"|[^\s"]+?)\s*\)?$`)
)

func parseJSONFilter(pattern string) (func(string) bool, error) {
	bad := invalid("Invalid filter pattern, or one that this server does not have")
	body, ok := strings.CutSuffix(strings.TrimPrefix(pattern, "{"), "}")
	if !ok {
		return nil, bad
	}
	type condition struct {
		path   []string
		equal  bool
		wanted *regexp.Regexp
	}
	var cases [][]condition
	for part := range strings.SplitSeq(body, "||") {
		var all []condition
		for c := range strings.SplitSeq(part, "&&") {
			m := selector.FindStringSubmatch(strings.TrimSpace(c))
			if m == nil {
				return nil, bad
			}
			wanted := strings.ReplaceAll(regexp.QuoteMeta(strings.Trim(m[3], `"`)), `\*`, `.*`)
			all = append(all, condition{strings.Split(m[1], "."), m[2] == "=", regexp.MustCompile(`^(?s:` + wanted + `)$`)})
		}
		cases = append(cases, all)
	}
	holds := func(doc any, c condition) bool {
		for _, name := range c.path {
			object, ok := doc.(map[string]any)
			if !ok || object[name] == nil {
				return false
			}
			doc = object[name]
		}
		return c.wanted.MatchString(plain(doc)) == c.equal
	}
	return func(message string) bool {
		dec := json.NewDecoder(strings.NewReader(message))
		dec.UseNumber()
		var doc any
		if dec.Decode(&doc) != nil {
			return false
		}
		for _, all := range cases {
			met := true
			for _, c := range all {
				met = met && holds(doc, c)
			}
			if met {
				return true
			}
		}
		return false
	}, nil
}

func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	b, _ := json.Marshal(v)
	return string(b)
}
