package sqldb

import (
	"context"
	"slices"

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

// loadAnchors reads from the journal which rows earlier Runs of the same subjects may have anchored. An anchor has lost what
// its person was known by, so nothing else leads to what a hold kept of them until now.
func (e *erasure) loadAnchors(ctx context.Context) error {
	e.anchors = map[*entity]map[string][]key{}
	for _, en := range e.m.entities {
		if len(en.Anchor) == 0 {
			continue
		}
		bySubject := map[string][]key{}
		err := e.job.Journal.Each(ctx, en.Name, func(subject string, keys []connectors.Key) error {
			for _, k := range keys {
				if parsed, ok := parseKey(k); ok && len(parsed) == len(en.key) {
					bySubject[subject] = append(bySubject[subject], parsed)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(bySubject) > 0 {
			e.anchors[en] = bySubject
		}
	}
	return nil
}

// findAnchors reads those of the noted rows that are anchored, as roots. Any other row under such a key is a person's whose
// identifiers find it, or somebody new.
func (c *closure) findAnchors(root func(n *node)) []*call {
	var calls []*call
	for _, e := range c.m.entities {
		for i, s := range c.batch {
			for chunk := range slices.Chunk(c.anchors[e][s.Ref], c.m.d.dialect.keysPerStatement) {
				calls = append(calls, c.fetch(e, e.key, chunk, nil, func(values [][]byte) error {
					n, _ := c.node(e, i, values)
					if n.anchored() {
						n.seed, n.touched, n.accessed, n.root = true, true, false, min(n.root, i)
						root(n)
					}
					return nil
				}))
			}
		}
	}
	return calls
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
