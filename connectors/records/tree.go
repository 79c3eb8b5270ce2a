package records

import (
	"slices"
	"strings"
)

// node is a place in a document from which fields can be reached.
type node struct {
	id    int
	path  string
	field int // -1 when the place itself is none
	edges []edge
}

type edge struct {
	name []byte
	to   *node
}

// newTree arranges paths by the members that lead to them. A dot may separate members or be part of a name.
func newTree(names []string) *node {
	count := 0
	add := func(path string) *node {
		count++
		return &node{id: count - 1, path: path, field: -1}
	}
	root := add("")
	var grow func(at *node, rest string, field int)
	grow = func(at *node, rest string, field int) {
		if rest == "" {
			at.field = field
			return
		}
		for end := 1; end <= len(rest); end++ {
			if end < len(rest) && rest[end] != '.' {
				continue
			}
			name := rest[:end]
			i := slices.IndexFunc(at.edges, func(e edge) bool { return string(e.name) == name })
			if i < 0 {
				at.edges = append(at.edges, edge{[]byte(name), add(strings.TrimPrefix(at.path+"."+name, "."))})
				i = len(at.edges) - 1
			}
			grow(at.edges[i].to, strings.TrimPrefix(rest[end:], "."), field)
		}
	}
	for i, name := range names {
		grow(root, strings.ReplaceAll(name, "[]", ""), i)
	}
	return root
}
