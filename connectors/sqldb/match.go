package sqldb

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Matching has two halves: a predicate that the database can serve from an index and that finds at least every match,
// and normalise, which decides in this process. The rules:
//
//   - e-mail addresses are compared without regard to case;
//   - opaque identifiers are compared exactly; in an integer column 42 and "42" are equal, "042" is not;
//   - UUIDs are compared without regard to case, dashes and braces, also in binary columns;
//   - telephone numbers are compared by the digits of their international form, with or without + or 00;
//   - IP addresses by value;
//   - in JSON documents and arrays any string or number may be the identifier.

// terms are the identifiers of a batch, by name and normalised value.
type terms struct {
	byName map[string]map[string][]int // name -> normalised -> indices of subjects
	raw    map[string][]string         // name -> values as given, distinct
	kinds  map[string]dsr.IdentifierKind
	keys   mask.Keyring
}

func newTerms(batch connectors.Batch, kinds map[string]dsr.IdentifierKind, keys mask.Keyring) *terms {
	t := &terms{byName: map[string]map[string][]int{}, raw: map[string][]string{}, kinds: kinds, keys: keys}
	for i, s := range batch {
		for _, id := range s.Identifiers {
			v := id.Value.Reveal()
			n := normalise(kinds[id.Name], v)
			if n == "" {
				continue
			}
			if t.byName[id.Name] == nil {
				t.byName[id.Name] = map[string][]int{}
			}
			if t.byName[id.Name][n] == nil {
				t.raw[id.Name] = append(t.raw[id.Name], v)
			}
			if !slices.Contains(t.byName[id.Name][n], i) {
				t.byName[id.Name][n] = append(t.byName[id.Name][n], i)
			}
		}
	}
	return t
}

// of returns the subjects by normalised value for one field, pseudonyms under every live key among them.
func (t *terms) of(e *entity, id identified) (map[string][]int, []string, error) {
	subjects, raw := t.byName[id.name], t.raw[id.name]
	spec, ok := e.Masks[id.col.Name]
	if !ok || spec.Kind != mask.HMAC || t.keys == nil || len(subjects) == 0 {
		return subjects, raw, nil
	}
	domain := spec.Domain
	if domain == "" {
		domain = id.name
	}
	live, err := t.keys.Live(domain)
	if err != nil {
		return nil, nil, err
	}
	all := make(map[string][]int, 2*len(subjects))
	raw = slices.Clone(raw)
	for n, who := range subjects {
		all[n] = append(all[n], who...)
		for _, k := range live {
			p, err := mask.Pseudonym(k, n, e.target(id.col))
			if err != nil {
				continue
			}
			v := textOf(p)
			pn := normalise(id.kind, v)
			if all[pn] == nil {
				raw = append(raw, v)
			}
			all[pn] = append(all[pn], who...)
		}
	}
	return all, raw, nil
}

// normalise brings a value as given or as stored to the form in which equal identifiers are equal strings.
func normalise(kind dsr.IdentifierKind, v string) string {
	switch kind {
	case dsr.KindEmail:
		return strings.ToLower(strings.TrimSpace(v))
	case dsr.KindPhone:
		return strings.TrimPrefix(onlyDigits(v), "00")
	case dsr.KindUUID:
		if len(v) == 16 { // binary
			return hex.EncodeToString([]byte(v))
		}
		return onlyHex(v)
	case dsr.KindIP:
		addr, _, _ := strings.Cut(v, "/")
		if a, err := netip.ParseAddr(strings.TrimSpace(addr)); err == nil {
			return a.Unmap().WithZone("").String()
		}
		return v
	}
	return v
}

func onlyDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

func onlyHex(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'f':
			return r
		case r >= 'A' && r <= 'F':
			return r + 'a' - 'A'
		case r == '-', r == '{', r == '}':
			return -1
		}
		return r
	}, s)
}

// stored is a column's value as normalise takes it.
func stored(c *column, v string) string {
	switch c.class {
	case connectors.ClassBinary:
		if rest, ok := strings.CutPrefix(v, `\x`); ok {
			if b, err := hex.DecodeString(rest); err == nil {
				return string(b)
			}
		}
	case connectors.ClassNumber:
		if whole, frac, ok := strings.Cut(v, "."); ok && strings.Trim(frac, "0") == "" {
			return whole
		}
	case connectors.ClassText:
		return strings.TrimRight(v, " ") // character(n) is padded
	}
	return v
}

// matches appends the predicate that a field may hold one of the values. It reports false, appending nothing, when no
// value can be in a column of this class.
func (s *statement) matches(alias string, id identified, values []string) bool {
	c := id.col
	switch c.class {
	case connectors.ClassInteger, connectors.ClassNumber:
		return s.anyOf(alias, c, integers(id.kind, values))
	case connectors.ClassUUID:
		return s.anyOf(alias, c, uuids(values))
	case connectors.ClassBinary:
		return s.anyOf(alias, c, s.binaries(id.kind, values))
	case connectors.ClassIP:
		var ips []string
		for _, v := range values {
			if a, err := netip.ParseAddr(v); err == nil {
				ips = append(ips, a.String())
			}
		}
		if s.d.name == postgres && len(ips) > 0 {
			s.add("host(", alias, c.quoted, ") = ANY(").arg(ips).add("::text[])")
			return true
		}
		return s.anyOf(alias, c, ips)
	case connectors.ClassJSON:
		return s.contains(alias, c, values)
	case connectors.ClassArray:
		lower := make([]string, len(values))
		for i, v := range values {
			lower[i] = strings.ToLower(v)
		}
		s.add("EXISTS (SELECT 1 FROM unnest(", alias, c.quoted, ") AS v WHERE lower(v::text) = ANY(").arg(lower).add("::text[]))")
		return true
	case connectors.ClassBool, connectors.ClassDate, connectors.ClassTime:
		return false
	}
	switch id.kind {
	case dsr.KindEmail:
		return s.sameFolded(alias, c, values)
	case dsr.KindPhone:
		return s.samePhone(alias, c, values)
	case dsr.KindUUID:
		var forms []string
		for _, v := range values {
			h := onlyHex(v)
			dashed := v
			if len(h) == 32 {
				dashed = h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
			}
			for _, f := range []string{dashed, h} {
				forms = append(forms, f, strings.ToUpper(f))
			}
		}
		return s.anyOf(alias, c, forms)
	}
	return s.anyOf(alias, c, values)
}

// anyOf appends that a column equals one of the values.
func (s *statement) anyOf(alias string, c *column, values []string) bool {
	if len(values) == 0 {
		return false
	}
	if c.class == connectors.ClassEnum && s.d.arrays {
		s.add(alias, c.quoted, "::text = ANY(").arg(values).add("::text[])")
		return true
	}
	keys := make([]key, len(values))
	for i, v := range values {
		keys[i] = key{{v, true}}
	}
	s.in(alias, []*column{c}, keys)
	return true
}

// sameFolded compares without regard to case.
func (s *statement) sameFolded(alias string, c *column, values []string) bool {
	if len(values) == 0 {
		return false
	}
	lower := make([]string, len(values))
	for i, v := range values {
		lower[i] = strings.ToLower(v)
	}
	switch {
	case s.d.name == postgres && strings.HasSuffix(c.cast, "citext"):
		return s.anyOf(alias, c, lower)
	case s.d.name == postgres:
		s.add("lower(", alias, c.quoted, "::text) = ANY(").arg(lower).add("::text[])")
	case s.d.name == sqlite:
		s.add(alias, c.quoted, " COLLATE NOCASE IN (").strings(lower).add(")")
	case c.folds: // the collation does it, and an index serves it
		return s.anyOf(alias, c, lower)
	default:
		s.add("LOWER(CONVERT(", alias, c.quoted, " USING utf8mb4)) IN (").strings(lower).add(")")
	}
	return true
}

// strings appends placeholders of text.
func (s *statement) strings(list []string) *statement {
	for i, v := range list {
		if i > 0 {
			s.add(",")
		}
		s.arg(v)
	}
	return s
}

// samePhone compares digits.
func (s *statement) samePhone(alias string, c *column, values []string) bool {
	var forms []string
	for _, v := range values {
		if n := normalise(dsr.KindPhone, v); n != "" {
			forms = append(forms, n, "00"+n)
		}
	}
	if len(forms) == 0 {
		return false
	}
	switch s.d.name {
	case postgres:
		s.add("regexp_replace(", alias, c.quoted, "::text, '[^0-9]', '', 'g') = ANY(").arg(forms).add("::text[])")
		return true
	case sqlite:
		expr := alias + c.quoted
		for _, sep := range []string{" ", "-", "+", "(", ")", ".", "/"} {
			expr = "replace(" + expr + ", '" + sep + "', '')"
		}
		s.add(expr)
	default:
		s.add("REGEXP_REPLACE(", alias, c.quoted, ", '[^0-9]', '')")
	}
	s.add(" IN (").strings(forms).add(")")
	return true
}

// contains appends that the text of a column contains one of the values, without regard to case.
func (s *statement) contains(alias string, c *column, values []string) bool {
	var patterns []string
	for _, v := range values {
		forms := []string{v}
		if quoted, err := json.Marshal(v); err == nil && c.class == connectors.ClassJSON {
			if inner := string(quoted[1 : len(quoted)-1]); inner != v {
				forms = append(forms, inner)
			}
		}
		for _, f := range forms {
			if s.d.name == postgres {
				f = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f)
			} else {
				f = likeEscape(strings.ToLower(f))
			}
			patterns = append(patterns, "%"+f+"%")
		}
	}
	if len(patterns) == 0 {
		return false
	}
	if s.d.name == postgres {
		s.add(alias, c.quoted, "::text ILIKE ANY(").arg(patterns).add("::text[])")
		return true
	}
	s.add("(")
	for i, p := range patterns {
		if i > 0 {
			s.add(" OR ")
		}
		if s.d.name == sqlite {
			s.add(alias, c.quoted, " LIKE ").arg(p).add(" ESCAPE '!'")
		} else {
			s.add("LOWER(CONVERT(", alias, c.quoted, " USING utf8mb4)) LIKE ").arg(p).add(" ESCAPE '!'")
		}
	}
	s.add(")")
	return true
}

// integers are the values that an integer column can hold.
func integers(kind dsr.IdentifierKind, values []string) []string {
	var out []string
	for _, v := range values {
		if kind == dsr.KindPhone {
			v = normalise(kind, v)
		}
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && strconv.FormatInt(n, 10) == v {
			out = append(out, v)
		}
	}
	return out
}

func uuids(values []string) []string {
	var out []string
	for _, v := range values {
		if h := onlyHex(v); len(h) == 32 {
			if _, err := hex.DecodeString(h); err == nil {
				out = append(out, h[:8]+"-"+h[8:12]+"-"+h[12:16]+"-"+h[16:20]+"-"+h[20:])
			}
		}
	}
	return out
}

func (s *statement) binaries(kind dsr.IdentifierKind, values []string) []string {
	var out []string
	add := func(b []byte) {
		if s.d.name == postgres {
			out = append(out, `\x`+hex.EncodeToString(b))
		} else {
			out = append(out, string(b))
		}
	}
	for _, v := range values {
		add([]byte(v))
		if kind == dsr.KindUUID {
			if b, err := hex.DecodeString(onlyHex(v)); err == nil {
				add(b)
			}
		}
	}
	return out
}

// inDocument calls fn for every string and number of a JSON document.
func inDocument(doc string, fn func(v string)) {
	dec := json.NewDecoder(strings.NewReader(doc))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		fn(doc)
		return
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			fn(v)
		case json.Number:
			fn(v.String())
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for k, x := range v {
				fn(k)
				walk(x)
			}
		}
	}
	walk(v)
}

// who returns the subjects whose identifier a field's value is.
func who(id identified, subjects map[string][]int, value string) []int {
	if id.col.class == connectors.ClassJSON || id.col.class == connectors.ClassArray {
		var out []int
		inDocument(value, func(v string) {
			for _, i := range subjects[normalise(id.kind, v)] {
				if !slices.Contains(out, i) {
					out = append(out, i)
				}
			}
		})
		return out
	}
	return subjects[normalise(id.kind, stored(id.col, value))]
}

// document appends a JSON or array column as a JSON document.
func (s *statement) document(alias string, c *column) *statement {
	if c.class == connectors.ClassArray {
		return s.add("to_json(", alias, c.quoted, ")")
	}
	return s.selected(alias, c)
}
