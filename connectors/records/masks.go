package records

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// edit is the new bytes of one value.
type edit struct {
	field    int
	from, to int
	with     []byte
}

// plan is what is to become of a record's fields.
type plan map[int]mask.Spec

// masked returns what the masks, and the redaction of mentions, make of a record that belongs to somebody.
func (w *worker) masked(r *record, masks map[string]mask.Spec) plan {
	p := plan{}
	for n, in := range r.in {
		if len(in) > 0 {
			p[r.values[n].field] = mask.Spec{Kind: mask.Redact}
		}
	}
	for name, spec := range masks {
		if i, ok := w.paths.index[name]; ok {
			p[i] = spec
		}
	}
	return p
}

// edits returns what the masks change in a record, in its order. A value for which its mask holds already is left
// alone, so that masking twice is masking once.
func (w *worker) edits(r *record, masks map[string]mask.Spec) ([]edit, error) {
	return w.editsOf(r.body, r.values, w.masked(r, masks), w.matcher(r))
}

func (w *worker) editsOf(body []byte, values []value, p plan, m *mask.Matcher) ([]edit, error) {
	var out []edit
	for _, v := range values {
		spec, ok := p[v.field]
		if !ok {
			continue
		}
		with, changed, err := w.mask(body, v, spec, m)
		if err != nil {
			return nil, err
		}
		if changed {
			out = append(out, edit{v.field, v.from, v.to, with})
		}
	}
	slices.SortFunc(out, func(a, b edit) int { return a.from - b.from })
	return out, nil
}

// matcher finds the people whose a record is or whom its free text names. In a Sweep it is nil: all of a text goes.
func (w *worker) matcher(r *record) *mask.Matcher {
	if w.due != nil {
		return nil
	}
	var ids []dsr.Identifier
	for _, i := range slices.Concat(r.owners, r.mentioned) {
		ids = append(ids, w.people[i].Identifiers...)
	}
	return mask.NewMatcher(ids, w.l.sys.Identifiers)
}

// mask applies one mask to one value. Redact takes identifiers out of free text and of documents, and those of the
// record's people out of a list of identifiers; any other value it replaces as a whole.
func (w *worker) mask(body []byte, v value, spec mask.Spec, m *mask.Matcher) (with []byte, changed bool, err error) {
	f := &w.fields[v.field]
	old := string(w.text(body, v))
	in := mask.Input{Value: old, Target: target(f.kind), Keys: w.l.o.Pseudonyms, Domain: f.identifier}
	switch {
	case v.kind == null:
		in.Value = nil
	case v.kind == composite && spec.Kind == mask.Redact && m != nil:
		with := redactDocument(m, old)
		return []byte(with), with != old, nil
	case v.kind == composite && spec.Kind == mask.Redact:
		in.Target.Class = "json"
	case v.kind == composite && spec.Kind != mask.Null && spec.Kind != mask.Constant:
		return nil, false, w.unfit(f, v, "mask "+string(spec.Kind)+" does not fit an object")
	case spec.Kind == mask.Redact && f.mention && m != nil:
		literal := string(w.literal(body, v))
		to := redactText(m, literal)
		if to == literal {
			return nil, false, nil
		}
		with, err = w.encode(body, v, to)
		return with, err == nil, err
	case spec.Kind == mask.Redact && (f.mention || v.listed && f.identifier != "" && len(w.holders(body, f, v, nil)) == 0):
		in.Matcher = m // of a Sweep it is nil
	case (spec.Kind == mask.Random || spec.Kind == mask.HMAC) && made(v.kind, old):
		return nil, false, nil
	case v.kind == number && (spec.Kind == mask.Random || spec.Kind == mask.HMAC):
		in.Target = numbers
	case v.kind == number && spec.Kind == mask.Generalise:
		in.Value = numeric(old)
	}
	if spec.Kind == mask.HMAC && f.identifier != "" && in.Value != nil {
		in.Value = string(normalise(nil, f.kind, w.literal(body, v)))
	}
	out, err := spec.Apply(in)
	if err != nil {
		var de *dsr.Error
		if errors.As(err, &de) && de.Code == dsr.CodeInvalid {
			return nil, false, w.unfit(f, v, de.Msg)
		}
		return nil, false, err
	}
	to, same := written(v, old, spec, out)
	if same {
		return nil, false, nil
	}
	with, err = w.encode(body, v, to)
	return with, err == nil, err
}

func (w *worker) unfit(f *field, v value, msg string) error {
	return &fault{v.from, "field " + f.name + ": " + msg}
}

// written shapes a mask's result for the format, and reports whether the value is that already.
func written(v value, old string, spec mask.Spec, out any) (to any, same bool) {
	switch out := out.(type) {
	case nil:
		return nil, v.kind == null
	case int64:
		if spec.Kind == mask.Random || spec.Kind == mask.HMAC {
			out = -out - 1
		}
		s := strconv.FormatInt(out, 10)
		return literal(s), s == old
	case float64:
		s := strconv.FormatFloat(out, 'f', -1, 64)
		return literal(s), s == old
	case string:
		same = v.kind != null && out == old
		switch {
		case v.kind == composite && spec.Kind == mask.Redact,
			v.kind == number && spec.Kind == mask.Constant && isNumber(out),
			v.kind == boolean && spec.Kind == mask.Constant && (out == "true" || out == "false"):
			return literal(out), same
		}
		return out, same
	}
	return fmt.Sprint(out), false
}

// target describes text to the masks.
func target(k dsr.IdentifierKind) mask.Target {
	t := mask.Target{Class: "text", Nullable: true}
	switch k {
	case dsr.KindEmail:
		t.Format = mask.Email
	case dsr.KindPhone:
		t.Format = mask.Phone
	}
	return t
}

// numbers describes JSON numbers to the masks: 53 bits are exact for everybody who reads them as a double (RFC 8259 §6).
// What a mask makes of a number is written below zero. Identifiers are not, so a made number is known for one: it
// is not masked again, it teaches nothing, and a rule that pseudonymises does not find it due.
var numbers = mask.Target{Class: "integer", Bits: 54, Nullable: true}

// made reports whether a value is the output of a random or keyed mask.
func made(k kind, s string) bool {
	if k == number {
		return strings.HasPrefix(s, "-")
	}
	return mask.Made(s, mask.Email) || mask.Made(s, mask.Phone) || len(s) == 52 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// pseudonyms are the ways in which an identifier's keyed pseudonym may stand in a record.
func pseudonyms(key []byte, v string, k dsr.IdentifierKind) []string {
	var out []string
	if p, err := mask.Pseudonym(key, v, target(k)); err == nil {
		out = append(out, fmt.Sprint(p))
	}
	if p, err := mask.Pseudonym(key, v, numbers); err == nil {
		if n, ok := p.(int64); ok {
			out = append(out, strconv.FormatInt(-n-1, 10))
		}
	}
	return out
}

// numeric is a JSON number as the masks take it.
func numeric(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f
	}
	return s
}

// rewrite returns a record with the plan carried out and every other byte as it was; changed is false when nothing is.
// Where a field lies inside another the inner one is done first, and the record is read again.
func (w *worker) rewrite(rec []byte, r *record, p plan, m *mask.Matcher) (out []byte, changed bool, err error) {
	end := rec[len(r.body):]
	b, values := r.body, r.values
	for {
		edits, err := w.editsOf(b, values, p, m)
		if err != nil {
			return nil, false, err
		}
		if len(edits) == 0 {
			break
		}
		again := false
		next := make([]byte, 0, len(b)+64)
		at := 0
		for i, e := range edits {
			if i+1 < len(edits) && edits[i+1].from < e.to { // what lies inside comes next
				again = true
				continue
			}
			next = append(append(next, b[at:e.from]...), e.with...)
			at = e.to
		}
		b = append(next, b[at:]...)
		changed = true
		if !again {
			break
		}
		if w.all, err = w.parse(b, w.all[:0], true); err != nil {
			return nil, false, err
		}
		values = slices.Clone(w.all)
	}
	if !changed {
		return rec, false, nil
	}
	if err := w.check(b); err != nil {
		return nil, false, err
	}
	if len(b)+len(end) > MaxRecord {
		return nil, false, &fault{0, "is too long once it is masked"}
	}
	return append(slices.Clip(b), end...), true, nil
}
