package records

import (
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Origin is one thing that says where an exported record stands: its object, its line.
type Origin struct {
	Name  string // "from_object"; it begins with from_ so that a record hardly has a field of that name
	Value any
}

// From puts where a record stands before its own fields. A name that the record has itself gets an underscore more.
func From(names []string, values []any, origin ...Origin) ([]string, []any) {
	n, v := make([]string, 0, len(origin)+len(names)), make([]any, 0, len(origin)+len(values))
	for _, o := range origin {
		for slices.Contains(names, o.Name) {
			o.Name += "_"
		}
		n, v = append(n, o.Name), append(v, o.Value)
	}
	return append(n, names...), append(v, values...)
}

// Shown is a path that matches, as it may stand in the copy that a subject gets. What is somebody else's is left out: a
// placeholder's value that is not the subject's stands as its {name}, and any other part that may name somebody as *. A
// part may when it has an @ or more than eight digits in a row and is no identifier of the subject's; an ending stays. It
// depends on nothing but the path and the subject, so that a copy is the same in every batch.
func (g *Glob) Shown(name string, s connectors.Subject, sys *connectors.System) string {
	at := g.re.FindStringSubmatchIndex(name)
	if at == nil {
		return Shown(name, s, sys)
	}
	var out strings.Builder
	from := 0
	for i, placeholder := range g.names {
		lo, hi := at[2*i+2], at[2*i+3]
		free(&out, name, from, lo, s, sys)
		if value := name[lo:hi]; owns(s, sys, placeholder, value) {
			out.WriteString(value)
		} else {
			out.WriteString("{" + placeholder + "}")
		}
		from = hi
	}
	free(&out, name, from, len(name), s, sys)
	return out.String()
}

// Shown is the same for a name of which nothing is known.
func Shown(name string, s connectors.Subject, sys *connectors.System) string {
	var out strings.Builder
	free(&out, name, 0, len(name), s, sys)
	return out.String()
}

// free writes the parts of name[lo:hi] between slashes.
func free(out *strings.Builder, name string, lo, hi int, s connectors.Subject, sys *connectors.System) {
	for i, part := range strings.Split(name[lo:hi], "/") {
		if i > 0 {
			out.WriteByte('/')
		}
		switch {
		case !MayName(part), slices.ContainsFunc(s.Identifiers, func(id dsr.Identifier) bool {
			return SameValue(sys.Identifiers[id.Name], id.Value.Reveal(), part)
		}):
			out.WriteString(part)
		case hi == len(name) && strings.HasSuffix(name, part) && !MayName(path.Ext(part)):
			out.WriteString("*" + path.Ext(part))
		default:
			out.WriteByte('*')
		}
	}
}

// owns reports whether a placeholder's value is the subject's, or its tenant.
func owns(s connectors.Subject, sys *connectors.System, placeholder, value string) bool {
	if placeholder == sys.TenantName && placeholder != "" {
		return SameValue(sys.Identifiers[placeholder], s.Tenant, value)
	}
	return slices.ContainsFunc(s.Identifiers, func(id dsr.Identifier) bool {
		return id.Name == placeholder && SameValue(sys.Identifiers[placeholder], id.Value.Reveal(), value)
	})
}

// MayName reports whether a part of a path may be an identifier: it has an @ or a % or a number longer than a date's.
func MayName(part string) bool { return strings.ContainsAny(part, "@%") || LongestNumber(part) > 8 }

// LongestNumber is how many digits stand in a row at most.
func LongestNumber(s string) int {
	most, run := 0, 0
	for _, c := range s {
		if run++; c < '0' || c > '9' {
			run = 0
		}
		most = max(most, run)
	}
	return most
}

// SameValue reports whether what is written in a path is an identifier's value, as it is or percent-encoded.
func SameValue(kind dsr.IdentifierKind, value, written string) bool {
	same := func(written string) bool {
		n := Normalise(kind, written)
		return n != "" && n == Normalise(kind, value)
	}
	if same(written) {
		return true
	}
	plain, err := url.PathUnescape(written)
	return err == nil && plain != written && same(plain)
}
