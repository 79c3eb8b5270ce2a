package records

import (
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// mentions finds out which people free text names. [mask.Matcher] decides; what is here only spares it the texts that
// name nobody, whatever the number of people.
//
// An identifier that is written in one way has a window of its first bytes, with the bit that tells ASCII letters' cases
// apart set, so that a text without any of the windows has none of the identifiers. Others are written in many ways: of
// telephone numbers the last digits tell, and IP addresses and words with letters outside of ASCII are looked for all at
// once.
type mentions struct {
	people  []*mask.Matcher
	width   int                // of a window, in bytes; 0 when nobody has a word
	filter  [1 << 12]uint64    // of hashed windows
	windows map[uint64][]int32 // people
	tails   map[int][]int32    // people by the last digits of their numbers
	ips     many
	wide    many
}

// many are people whose identifiers of one sort are looked for all at once.
type many struct {
	all *mask.Matcher
	who []int32
}

const (
	widest = 8
	fold   = 0x2020202020202020
	// tail is 10 to the number of digits of which every spelling of a number has the same: [mask.MinFreeText].
	tail = 1_000_000
)

func newMentions(people []person, kinds map[string]dsr.IdentifierKind) *mentions {
	m := &mentions{windows: map[uint64][]int32{}, tails: map[int][]int32{}}
	type word struct {
		text string
		who  int32
	}
	var all []word
	var ips, wide []dsr.Identifier
	for i, p := range people {
		m.people = append(m.people, mask.NewMatcher(p.Identifiers, kinds))
		for _, id := range p.Identifiers {
			switch kind := kinds[id.Name]; {
			case kind == dsr.KindPhone:
				eachNumber(id.Value.Reveal(), func(_, last int) { m.tails[last] = append(m.tails[last], int32(i)) })
			case kind == dsr.KindIP:
				ips, m.ips.who = append(ips, id), append(m.ips.who, int32(i))
			case !isASCII(id.Value.Reveal()):
				wide, m.wide.who = append(wide, id), append(m.wide.who, int32(i))
			default:
				words, _ := mask.NewMatcher([]dsr.Identifier{id}, kinds).Words()
				for _, w := range words {
					if m.width == 0 || len(w) < m.width {
						m.width = min(len(w), widest)
					}
					all = append(all, word{w, int32(i)})
				}
			}
		}
	}
	m.ips.all, m.wide.all = mask.NewMatcher(ips, kinds), mask.NewMatcher(wide, kinds)
	for _, w := range all {
		window := m.window(0, w.text[:m.width])
		m.windows[window] = append(m.windows[window], w.who)
		h := hashWindow(window)
		m.filter[h>>6] |= 1 << (h & 63)
	}
	return m
}

// window shifts the bytes of s into a window.
func (m *mentions) window(w uint64, s string) uint64 {
	for i := range len(s) {
		w = w<<8 | uint64(s[i])
	}
	return (w | fold) & (1<<(8*m.width) - 1)
}

func hashWindow(w uint64) uint64 { return w * 0x9e3779b97f4a7c15 >> 46 }

// in appends the people whom a text names to out, without repeating those that are there.
func (m *mentions) in(text string, out []int32) []int32 {
	out = m.read(text, out)
	for _, r := range readings(text) {
		out = m.read(r.text, out)
	}
	return out
}

// read does what in does for one reading of a text.
func (m *mentions) read(text string, out []int32) []int32 {
	if m.width > 0 && len(text) >= m.width {
		only := uint64(1)<<(8*m.width) - 1
		w := uint64(0)
		for i := range len(text) {
			w = w<<8 | uint64(text[i])
			if i < m.width-1 {
				continue
			}
			folded := (w | fold) & only
			if h := hashWindow(folded); m.filter[h>>6]&(1<<(h&63)) != 0 {
				out = m.confirm(m.windows[folded], text, out)
			}
		}
	}
	if len(m.tails) > 0 {
		eachNumber(text, func(digits, last int) {
			if digits >= mask.MinFreeText {
				out = m.confirm(m.tails[last], text, out)
			}
		})
	}
	if len(m.ips.who) > 0 && (strings.Count(text, ".") >= 3 || strings.Count(text, ":") >= 2) && m.ips.all.Find(text) {
		out = m.confirm(m.ips.who, text, out)
	}
	if len(m.wide.who) > 0 && !isASCII(text) && m.wide.all.Find(text) {
		out = m.confirm(m.wide.who, text, out)
	}
	return out
}

// confirm appends those of who that their own matcher finds.
func (m *mentions) confirm(who []int32, text string, out []int32) []int32 {
	for _, i := range who {
		if !slices.Contains(out, i) && m.people[i].Find(text) {
			out = append(out, i)
		}
	}
	return out
}

// eachNumber calls fn at the end of every number: how many digits there are since something else than digits and
// separators of telephone numbers, and the last of them as a number.
func eachNumber(text string, fn func(digits, last int)) {
	digits, last := 0, 0
	inside := false
	for i := range len(text) {
		c := text[i]
		if '0' <= c && c <= '9' {
			digits, last = digits+1, (last*10+int(c-'0'))%tail
			inside = true
			continue
		}
		if inside {
			fn(digits, last)
			inside = false
		}
		if strings.IndexByte("+ ()-./", c) < 0 {
			digits, last = 0, 0
		}
	}
	if inside {
		fn(digits, last)
	}
}
