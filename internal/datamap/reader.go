package datamap

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// reader walks YAML nodes and collects faults; it never stops at the first.
type reader struct {
	env    func(string) (string, bool)
	faults Faults
	places map[string]*yaml.Node // by path, for faults that are found after reading
}

func (r *reader) fault(n *yaml.Node, path, msg, hint string) {
	f := Fault{Path: path, Msg: msg, Hint: hint, Line: 1, Column: 1}
	if n != nil {
		f.Line, f.Column = n.Line, n.Column
	}
	r.faults = append(r.faults, f)
}

// faultAt reports a fault at the place that was read under path, or at its nearest parent.
func (r *reader) faultAt(path, msg, hint string) {
	for at := path; ; {
		if n := r.places[at]; n != nil {
			r.fault(n, path, msg, hint)
			return
		}
		i := strings.LastIndexByte(at, '.')
		if i < 0 {
			r.fault(nil, path, msg, hint)
			return
		}
		at = at[:i]
	}
}

// key reads one key of a mapping.
type key struct {
	name     string
	required bool
	read     func(n *yaml.Node, path string)
}

// mapping reads a mapping with exactly these keys, in the order in which they are listed here: what a later key refers
// to has been read by then, wherever it stands in the file.
func (r *reader) mapping(n *yaml.Node, path string, keys ...key) {
	found := map[string]*yaml.Node{}
	r.each(n, path, func(name string, k, v *yaml.Node) {
		if !slices.ContainsFunc(keys, func(k key) bool { return k.name == name }) {
			names := make([]string, len(keys))
			for i, k := range keys {
				names[i] = k.name
			}
			r.fault(k, join(path, name), "unknown key", nearest(name, names))
			return
		}
		found[name] = v
	})
	for _, k := range keys {
		switch v := found[k.name]; {
		case v != nil:
			k.read(v, join(path, k.name))
		case k.required && n.Kind == yaml.MappingNode:
			r.fault(n, path, "needs the key "+k.name, "")
		}
	}
}

// each calls fn for each key of a mapping, in the order of the file.
func (r *reader) each(n *yaml.Node, path string, fn func(name string, k, v *yaml.Node)) {
	if r.places[path] == nil {
		r.places[path] = n
	}
	if n.Kind != yaml.MappingNode {
		r.fault(n, path, "must be a mapping", "write key: value")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode:
			r.fault(k, path, "a key must be a word", "")
			continue
		case seen[k.Value]:
			r.fault(k, join(path, k.Value), "duplicate key", "")
			continue
		case v.Kind == yaml.AliasNode:
			r.fault(v, join(path, k.Value), "anchors and aliases are not read", "write the value out")
			continue
		}
		seen[k.Value] = true
		r.places[join(path, k.Value)] = k
		fn(k.Value, k, v)
	}
}

// list calls fn for each item of a sequence.
func (r *reader) list(n *yaml.Node, path string, fn func(n *yaml.Node, path string)) {
	if n.Kind != yaml.SequenceNode {
		r.fault(n, path, "must be a list", "write [a, b]")
		return
	}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		if item.Kind == yaml.AliasNode {
			r.fault(item, at, "anchors and aliases are not read", "write the value out")
			continue
		}
		r.places[at] = item
		fn(item, at)
	}
}

func (r *reader) text(to *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			r.fault(n, path, "must be text", "")
			return
		}
		if n.Value == "" {
			r.fault(n, path, "is empty", "")
			return
		}
		*to = n.Value
	}
}

func (r *reader) flag(to *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
			r.fault(n, path, "must be true or false", "")
			return
		}
		*to = n.Value == "true"
	}
}

func (r *reader) count(to *int64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		v, err := strconv.ParseInt(n.Value, 10, 64)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || v < 1 {
			r.fault(n, path, "must be a whole number above zero", "")
			return
		}
		*to = v
	}
}

func (r *reader) duration(to *time.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		d, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || d < 0 {
			r.fault(n, path, "must be a duration", "write 500ms, 30s, 10m or 1h")
			return
		}
		*to = d
	}
}

// share reads 5% or 0.05.
func (r *reader) share(to *float64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		s, percent := strings.CutSuffix(n.Value, "%")
		v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if percent {
			v /= 100
		}
		if n.Kind != yaml.ScalarNode || err != nil || !(v > 0 && v <= 1) {
			r.fault(n, path, "must be a share above 0% and up to 100%", "write 5%")
			return
		}
		*to = v
	}
}

// names reads a list of different words.
func (r *reader) names(to *[]string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.list(n, path, func(n *yaml.Node, path string) {
			var s string
			r.text(&s)(n, path)
			if s != "" && slices.Contains(*to, s) {
				r.fault(n, path, "is listed twice", "")
			} else if s != "" {
				*to = append(*to, s)
			}
		})
	}
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces ${NAME} by the environment's value, or by the content of the file that NAME_FILE names.
func (r *reader) expand(n *yaml.Node, path string) string {
	return variable.ReplaceAllStringFunc(n.Value, func(ref string) string {
		name := ref[2 : len(ref)-1]
		if v, ok := r.env(name); ok {
			return v
		}
		if file, ok := r.env(name + "_FILE"); ok {
			b, err := os.ReadFile(file)
			if err != nil {
				r.fault(n, path, "the file that "+name+"_FILE names cannot be read", "")
			}
			return strings.TrimSpace(string(b))
		}
		r.fault(n, path, "the environment has no "+name, "set it, or "+name+"_FILE to the path of a file that holds it")
		return ""
	})
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// nearest returns a hint naming the closest of the known names.
func nearest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	if len(known) == 0 {
		return "none is declared"
	}
	slices.SortFunc(known, cmp.Compare)
	return "known are " + strings.Join(known, ", ")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
