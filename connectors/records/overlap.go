package records

import "strings"

// Overlaps reports whether some path matches both patterns: what is there would belong to two entities.
func (g *Glob) Overlaps(other *Glob) bool {
	a, b := g.automaton(), other.automaton()
	type pair struct{ a, b int }
	seen := map[pair]bool{{}: true}
	for open := []pair{{}}; len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		if at.a == len(a)-1 && at.b == len(b)-1 {
			return true
		}
		reach := func(p pair) {
			if !seen[p] {
				seen[p] = true
				open = append(open, p)
			}
		}
		for _, m := range a[at.a] {
			if m.on == nothing {
				reach(pair{m.to, at.b})
			}
			for _, n := range b[at.b] {
				if m.meets(n) {
					reach(pair{m.to, n.to})
				}
			}
		}
		for _, n := range b[at.b] {
			if n.on == nothing {
				reach(pair{at.a, n.to})
			}
		}
	}
	return false
}

// move leads to another state of an automaton on one character: itself, or one of these.
type move struct {
	on rune
	to int
}

const (
	nothing  rune = -1 - iota // no character is read
	anything                  // any character
	unslash                   // any but a slash
)

// meets reports whether one character takes both moves.
func (m move) meets(n move) bool {
	if m.on < n.on { // a character before a kind of them
		m, n = n, m
	}
	switch {
	case m.on == nothing || n.on == nothing:
		return false
	case n.on == anything:
		return true
	case n.on == unslash:
		return m.on != '/'
	}
	return m.on == n.on
}

// automaton are the moves from each state; the first state begins and the last one accepts.
func (g *Glob) automaton() [][]move {
	states := [][]move{nil}
	add := func(on rune) { // one character
		last := len(states) - 1
		states[last] = append(states[last], move{on, last + 1})
		states = append(states, nil)
	}
	loop := func(on rune) { // any number of them
		last := len(states) - 1
		states[last] = append(states[last], move{on, last})
		add(nothing)
	}
	segments := strings.Split(g.text, "/")
	for i, seg := range segments {
		last := i == len(segments)-1
		if seg == "**" {
			if last {
				loop(anything)
				continue
			}
			before := len(states) - 1
			add(nothing)
			loop(anything)
			add('/')
			states[before] = append(states[before], move{nothing, len(states) - 1})
			continue
		}
		for seg != "" {
			switch {
			case strings.HasPrefix(seg, "**"):
				loop(anything)
				seg = seg[2:]
			case seg[0] == '*':
				loop(unslash)
				seg = seg[1:]
			case seg[0] == '{':
				add(unslash)
				loop(unslash)
				seg = seg[strings.IndexByte(seg, '}')+1:]
			default:
				n := strings.IndexAny(seg, "*{")
				if n < 0 {
					n = len(seg)
				}
				for _, r := range seg[:n] {
					add(r)
				}
				seg = seg[n:]
			}
		}
		if !last {
			add('/')
		}
	}
	return states
}
