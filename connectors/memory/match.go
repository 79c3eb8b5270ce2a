package memory

import (
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// normalise brings a value, given or stored, to the form in which equal identifiers are equal strings.
func normalise(kind dsr.IdentifierKind, v string) string {
	switch kind {
	case dsr.KindEmail:
		return strings.ToLower(strings.TrimSpace(v))
	case dsr.KindPhone:
		return strings.TrimPrefix(keep(v, "0123456789"), "00")
	case dsr.KindUUID:
		return keep(strings.ToLower(v), "0123456789abcdef")
	case dsr.KindIP:
		if a, err := netip.ParseAddr(strings.TrimSpace(v)); err == nil {
			return a.Unmap().String()
		}
	}
	return v
}

func keep(s, cutset string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(cutset, r) {
			return r
		}
		return -1
	}, s)
}

// holds reports whether a column of a row holds the identifier: its value, one of a document's, or its pseudonym under
// any live key.
func (db *DB) holds(e *connectors.Entity, t *Table, r Row, column string, id dsr.Identifier) bool {
	c := t.column(column)
	if c == nil || r[column] == nil || identifierOf(e, column) != id.Name {
		return false
	}
	kind := db.sys.Identifiers[id.Name]
	want := normalise(kind, id.Value.Reveal())
	if c.Class == connectors.ClassJSON || c.Class == connectors.ClassArray {
		found := false
		inDocument(text(r[column]), func(v string) { found = found || normalise(kind, v) == want })
		return found
	}
	got := normalise(kind, text(r[column]))
	return want != "" && got == want || db.isPseudonym(e, t, r, column, want)
}

// isPseudonym reports whether a column holds the keyed pseudonym of a normalised identifier.
func (db *DB) isPseudonym(e *connectors.Entity, t *Table, r Row, column, value string) bool {
	spec := e.Masks[column]
	if spec.Kind != mask.HMAC || db.keys == nil {
		return false
	}
	domain := spec.Domain
	if domain == "" {
		domain = identifierOf(e, column)
	}
	live, err := db.keys.Live(domain)
	if err != nil {
		return false
	}
	for _, k := range live {
		if p, err := mask.Pseudonym(k, value, db.target(e, t, column)); err == nil && text(p) == text(r[column]) {
			return true
		}
	}
	return false
}

// inDocument calls fn for every string, number and key of a JSON document.
func inDocument(doc string, fn func(v string)) {
	dec := json.NewDecoder(strings.NewReader(doc))
	dec.UseNumber()
	for {
		tok, err := dec.Token()
		if err != nil {
			return
		}
		switch v := tok.(type) {
		case string:
			fn(v)
		case json.Number:
			fn(v.String())
		}
	}
}

// mentions lists the columns of free text in which the matcher finds someone.
func mentions(e *connectors.Entity, t *Table, r Row, m *mask.Matcher) []string {
	var out []string
	for _, name := range e.Mentions {
		c := t.column(name)
		if c == nil || r[name] == nil {
			continue
		}
		if c.Class == connectors.ClassJSON && m.FindJSON(text(r[name])) || c.Class != connectors.ClassJSON && m.Find(text(r[name])) {
			out = append(out, name)
		}
	}
	return out
}
