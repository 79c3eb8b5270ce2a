package dsr

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Bounds say how far a count may rise above what was approved before it is drift: the larger of a share and a number
// of rows.
type Bounds struct {
	Share float64 // 0.10 is +10%
	Rows  int64
}

// DefaultBounds are +10% or +100 rows.
var DefaultBounds = Bounds{Share: 0.10, Rows: 100}

// Most returns the highest count that a planned count allows.
func (b Bounds) Most(planned int64) int64 {
	return planned + max(b.Rows, int64(float64(planned)*b.Share))
}

// Sort puts a Plan into its canonical order.
func (p *Plan) Sort() {
	slices.SortFunc(p.Lines, func(a, b PlanLine) int {
		return strings.Compare(a.key(), b.key())
	})
	slices.Sort(p.Commitments)
	p.Commitments = slices.Compact(p.Commitments)
	slices.Sort(p.Unsearched)
	p.Unsearched = slices.Compact(p.Unsearched)
}

func (l PlanLine) key() string {
	k := l.System + "\x00" + l.Entity + "\x00" + string(l.Method)
	if l.Exception != nil {
		k += "\x00" + string(l.Exception.Cause)
	}
	return k
}

// Hash returns the SHA-256, in hex, of what an approval is of: the right, the map, the identifiers, and method and
// exception per Entity. Counts are bounds and stay out of it: rows may come and go while a Plan waits.
func (p *Plan) Hash() string {
	type line struct {
		System    string     `json:"system"`
		Entity    string     `json:"entity"`
		Method    Method     `json:"method"`
		Exception *Exception `json:"exception,omitempty"`
	}
	c := struct {
		Request     string   `json:"request"`
		Kind        Kind     `json:"kind"`
		MapHash     string   `json:"map_hash"`
		Commitments []string `json:"commitments"`
		Lines       []line   `json:"lines"`
	}{Request: p.Request, Kind: p.Kind, MapHash: p.MapHash}
	sorted := Plan{Lines: slices.Clone(p.Lines), Commitments: slices.Clone(p.Commitments)}
	sorted.Sort()
	c.Commitments = sorted.Commitments
	for _, l := range sorted.Lines {
		e := l.Exception
		if e != nil { // the day it ends follows from the rows, as counts do
			e = &Exception{Cause: e.Cause, Article: e.Article, Statute: e.Statute, Class: e.Class}
		}
		c.Lines = append(c.Lines, line{l.System, l.Entity, l.Method, e})
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("plan of strings does not marshal: %v", err)) // cannot happen
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Drift compares the approved Plan with what was located just before its Run and returns stable codes of every
// difference that needs a new approval: "identifier", "map", "new:SYSTEM.ENTITY.METHOD", "count:SYSTEM.ENTITY.METHOD".
// Fewer rows, or a line that is gone, is not drift, and nor is what waits: nothing is done to it yet. Rows that waited when
// the Plan was approved may have become due by any other method of their Entity: a log file was rotated. With them goes what
// was anchored for the sake of rows under a statutory minimum. Releasing a row and deleting it are one line here, counted as
// delete: which of them a shared row meets depends on whether its other owners go first, and the Plan says that it goes with
// the last. Drift returns nil when there is none.
func (p *Plan) Drift(now *Plan, b Bounds) []string {
	var codes []string
	if p.MapHash != now.MapHash {
		codes = append(codes, "map")
	}
	for _, c := range now.Commitments {
		if !slices.Contains(p.Commitments, c) {
			codes = append(codes, "identifier")
			break
		}
	}
	planned, found := p.counts(), now.counts()
	for _, name := range slices.SortedFunc(maps.Keys(found), func(a, b place) int { return strings.Compare(a.String(), b.String()) }) {
		was, ok := planned[name]
		waited, waits := planned[name.of(Wait)]
		if anchored, is := planned[name.of(Anchor)]; is && name.method == Delete && p.keepsFor(name.system) {
			waited, waits = waited+anchored, true
		}
		switch {
		case found[name] == 0 || name.method == Wait:
		case !ok && !waits:
			codes = append(codes, "new:"+name.String())
		case found[name] > b.Most(was+waited):
			codes = append(codes, "count:"+name.String())
		}
	}
	return codes
}

// keepsFor reports whether rows of a System wait for a statutory minimum.
func (p *Plan) keepsFor(system string) bool {
	return slices.ContainsFunc(p.Lines, func(l PlanLine) bool {
		return l.System == system && l.Exception != nil && l.Exception.Cause == CauseMinimum
	})
}

// place is what a Plan counts rows by.
type place struct {
	system, entity string
	method         Method
}

func (p place) of(m Method) place { return place{p.system, p.entity, m} }

func (p place) String() string { return p.system + "." + p.entity + "." + string(p.method) }

// counts sums a Plan's rows, release with delete.
func (p *Plan) counts() map[place]int64 {
	sums := map[place]int64{}
	for _, l := range p.Lines {
		if l.Method == Release {
			l.Method = Delete
		}
		sums[place{l.System, l.Entity, l.Method}] += l.Count
	}
	return sums
}
