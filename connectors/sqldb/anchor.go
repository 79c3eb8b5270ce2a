package sqldb

import (
	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/mask"
)

// anchored reports whether an earlier erasure has anchored the row already. Such a row stays as it is and teaches
// nothing: what stands in it now is made up, and its own key is what kept rows refer to. A row that was found by a field
// which the anchor masks is not anchored, whatever else it looks like. Masks whose output cannot be told from a real
// value do not count; an anchor made of those alone is applied again.
func (n *node) anchored() bool {
	if len(n.e.Anchor) == 0 {
		return false
	}
	for _, col := range n.matched {
		if _, masked := n.e.Anchor[col.Name]; masked {
			return false
		}
	}
	certain := false
	for name, spec := range n.e.Anchor {
		pos, ok := n.e.pos[name]
		if !ok {
			continue
		}
		switch v := n.cells[pos]; {
		case spec.Kind == mask.Null:
			if v.ok {
				return false
			}
		case spec.Kind == mask.Constant || spec.Kind == mask.Redact:
			want := spec.Value
			if spec.Kind == mask.Redact {
				want = clipped(n.e.columns[name])
			}
			if !v.ok || stored(n.e.columns[name], v.s) != want {
				return false
			}
			certain = true
		case spec.Kind == mask.Random:
			format := n.e.target(n.e.columns[name]).Format
			if format == mask.Free {
				continue
			}
			if !v.ok || !mask.Made(v.s, format) {
				return false
			}
			certain = true
		}
	}
	return certain
}

// anchorColumns are the columns that anchored looks at.
func (e *entity) anchorColumns() []*column {
	var cols []*column
	for name := range e.Anchor {
		if c := e.columns[name]; c != nil && c.class != connectors.ClassJSON && c.class != connectors.ClassArray {
			cols = append(cols, c)
		}
	}
	return cols
}
