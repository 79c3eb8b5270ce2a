package sqldb_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// A past is a generated schema with rows of many ages, in which one table is swept. What must be left is computed in
// plain steps, for all due rows at once, and compared with what the sweep does in chunks.
type past struct {
	tables []pastTable
	rows   map[string]map[int]*pastRow
	swept  int
	rule   connectors.Rule
	cut    connectors.Cut
	held   connectors.Holds
	person int // under a hold; 0 none
	frozen int // table of which rows with flag 1 are frozen; -1 none
	chunk  int
	days   int // the cut, in days after pastDay
}

type pastTable struct {
	name    string
	refs    []int // tables that r0, r1 … refer to
	method  dsr.Method
	minimum int // in days; 0 none
}

type pastRow struct {
	refs  []int // 0 is NULL
	at    int   // days after pastDay; -1 is NULL
	other int
	flag  int
	body  string
}

var pastDay = time.Date(2020, 1, 1, 0, 0, 0, 0, stockholm)

// pastNow is when statutory minima are looked at.
var pastNow = pastDay.AddDate(0, 0, 40).Add(9 * time.Hour)

func genPast(t *rapid.T) *past {
	p := &past{rows: map[string]map[int]*pastRow{}, frozen: -1, chunk: rapid.SampledFrom([]int{1, 2, 3, 5000}).Draw(t, "chunk")}
	n := rapid.IntRange(1, 5).Draw(t, "tables")
	for i := range n {
		tb := pastTable{name: fmt.Sprintf("p%d", i), method: dsr.Delete}
		for range rapid.IntRange(min(i, 1), min(2*i, 2)).Draw(t, "refs") {
			tb.refs = append(tb.refs, rapid.IntRange(0, i).Draw(t, "to"))
		}
		if i > 0 {
			tb.method = rapid.SampledFrom([]dsr.Method{dsr.Delete, dsr.Delete, dsr.Delete, dsr.Keep, dsr.Mask}).Draw(t, "method")
			tb.minimum = rapid.SampledFrom([]int{0, 0, 0, 25}).Draw(t, "minimum")
		}
		p.tables = append(p.tables, tb)
		p.rows[tb.name] = map[int]*pastRow{}
		count := rapid.IntRange(0, 7).Draw(t, "rows")
		for id := 1; id <= count; id++ {
			row := &pastRow{
				at: rapid.IntRange(-1, 30).Draw(t, "at"), other: rapid.IntRange(-1, 30).Draw(t, "other"),
				flag: rapid.IntRange(0, 3).Draw(t, "flag"), body: "text",
			}
			for _, to := range tb.refs {
				most := len(p.rows[p.tables[to].name])
				if to == i {
					most = id - 1
				}
				row.refs = append(row.refs, rapid.IntRange(0, most).Draw(t, "ref"))
			}
			p.rows[tb.name][id] = row
		}
	}
	p.swept = rapid.IntRange(0, n-1).Draw(t, "swept")
	p.rule = ruleOn("at_day")
	p.rule.Start.Null = rapid.SampledFrom([]retention.NullStart{retention.NullKeep, retention.NullDue, retention.NullOther}).Draw(t, "null")
	if p.rule.Start.Null == retention.NullOther {
		p.rule.Start.NullField = "other"
	}
	if rapid.IntRange(0, 2).Draw(t, "condition") == 0 {
		p.rule.When = []dsr.Condition{{Field: "flag", Values: []string{"1", "2"}}}
	}
	p.days = rapid.IntRange(0, 31).Draw(t, "cut")
	p.cut = connectors.Cut{Before: pastDay.AddDate(0, 0, p.days), Zone: stockholm}
	if p.tables[p.swept].refs == nil && rapid.IntRange(0, 3).Draw(t, "latest") == 0 {
		for i, tb := range p.tables {
			if i != p.swept && slices.Contains(tb.refs, p.swept) {
				p.rule.Start.Latest = []retention.Related{{Entity: tb.name, Field: "at_day"}}
			}
		}
	}
	if rapid.Bool().Draw(t, "freeze") {
		p.frozen = rapid.IntRange(0, n-1).Draw(t, "frozen")
		p.held.Entities = []connectors.Frozen{{Entity: p.tables[p.frozen].name, When: []dsr.Condition{{Field: "flag", Values: []string{"1"}}}}}
	}
	if rapid.IntRange(0, 2).Draw(t, "hold") == 0 {
		p.person = rapid.IntRange(1, 5).Draw(t, "person")
		p.held.Subjects = connectors.Batch{subject("h", "email", fmt.Sprintf("p%d@example.com", p.person))}
	}
	return p
}

func (p *past) entities() []connectors.Entity {
	var out []connectors.Entity
	for i, tb := range p.tables {
		e := connectors.Entity{Name: tb.name, Erase: tb.method, OnOwnerErased: map[string]map[string]mask.Spec{}}
		if i == 0 {
			e.Subject, e.Fields = true, []connectors.Field{idField("email", "email")}
		}
		masks := map[string]mask.Spec{"body": constant("masked")}
		for k, to := range tb.refs {
			col := fmt.Sprintf("r%d", k)
			e.OwnedBy = append(e.OwnedBy, owner(col, p.tables[to].name))
			e.OnOwnerErased[col] = map[string]mask.Spec{col: null}
			masks[col] = null
		}
		switch tb.method {
		case dsr.Mask:
			e.Masks = masks
		case dsr.Keep:
			e.Erase, e.Keep = "", &connectors.Keep{Article: "17(3)(b)"}
		}
		if tb.minimum > 0 {
			r := ruleOn("at_day")
			r.Class = retention.Class{Name: "c", Period: retention.Period{Days: 60}, Minimum: retention.Period{Days: tb.minimum}}
			r.Start.Null = retention.NullKeep
			e.Rules = []connectors.Rule{r}
		}
		out = append(out, e)
	}
	return out
}

func day(n int) string {
	if n < 0 {
		return "NULL"
	}
	return pastDay.AddDate(0, 0, n).Format("'2006-01-02'")
}

func (p *past) create(f *fixture) {
	p.drop(f)
	for i, tb := range p.tables {
		cols := "id BIGINT PRIMARY KEY, at_day DATE NULL, other DATE NULL, flag INTEGER, body VARCHAR(20)"
		if i == 0 {
			cols += ", email VARCHAR(50)"
		}
		for k, to := range tb.refs {
			cols += fmt.Sprintf(", r%d BIGINT REFERENCES %s (id)", k, p.tables[to].name)
		}
		f.exec("CREATE TABLE " + tb.name + " (" + cols + ")")
		f.exec("CREATE INDEX " + tb.name + "_at ON " + tb.name + " (at_day)")
		for id := 1; id <= len(p.rows[tb.name]); id++ {
			r := p.rows[tb.name][id]
			v := fmt.Sprintf("%d, %s, %s, %d, '%s'", id, day(r.at), day(r.other), r.flag, r.body)
			if i == 0 {
				v += fmt.Sprintf(", 'p%d@example.com'", id)
			}
			for _, ref := range r.refs {
				if ref == 0 {
					v += ", NULL"
				} else {
					v += fmt.Sprint(", ", ref)
				}
			}
			f.exec("INSERT INTO " + tb.name + " VALUES (" + v + ")")
		}
	}
}

func (p *past) drop(f *fixture) {
	for i := 5; i >= 0; i-- {
		f.exec(fmt.Sprintf("DROP TABLE IF EXISTS p%d", i))
	}
}

func (p *past) actual(f *fixture) map[string][]string {
	out := map[string][]string{}
	for _, tb := range p.tables {
		cols := "id, body"
		for k := range tb.refs {
			cols += fmt.Sprintf(", r%d", k)
		}
		out[tb.name] = f.rows("SELECT " + cols + " FROM " + tb.name + " ORDER BY id")
	}
	return out
}

func (p *past) log(t *rapid.T) {
	t.Logf("swept p%d before day %d by %+v, chunk %d, frozen %d, person %d", p.swept, p.days, p.rule.Start, p.chunk, p.frozen, p.person)
	for _, tb := range p.tables {
		t.Logf("%+v", tb)
		for _, id := range slices.Sorted(maps.Keys(p.rows[tb.name])) {
			t.Logf("  %d %+v", id, *p.rows[tb.name][id])
		}
	}
}

// left is what the sweep leaves behind, and its tallies.
type left struct {
	p     *past
	rows  map[rowID]*pastRow
	tally map[string]int64
}

func (p *past) expected() *left {
	l := &left{p: p, rows: map[rowID]*pastRow{}, tally: map[string]int64{}}
	for _, tb := range p.tables {
		for id, r := range p.rows[tb.name] {
			c := *r
			c.refs = slices.Clone(r.refs)
			l.rows[rowID{tb.name, id}] = &c
		}
	}
	name := p.tables[p.swept].name
	going := map[rowID]bool{}
	for id, r := range l.rows {
		if id.table == name && l.due(id, r) {
			if l.held(id) {
				l.tally[name+" held"]++
			} else {
				going[id] = true
			}
		}
	}
	l.apply(going)
	maps.DeleteFunc(l.tally, func(_ string, n int64) bool { return n == 0 })
	return l
}

func (l *left) due(id rowID, r *pastRow) bool {
	p := l.p
	if len(p.rule.When) > 0 && r.flag != 1 && r.flag != 2 {
		return false
	}
	before := func(d int) bool { return d >= 0 && d < p.days }
	related := false
	for _, rel := range p.rule.Start.Latest {
		for cid, c := range l.rows {
			if cid.table == rel.Entity && l.owns(id, cid, []string{cid.table}) {
				if related = true; !before(c.at) {
					return false
				}
			}
		}
	}
	switch {
	case r.at >= 0:
		return before(r.at)
	case related:
		return true
	case p.rule.Start.Null == retention.NullDue:
		return true
	case p.rule.Start.Null == retention.NullOther:
		return before(r.other)
	}
	return false
}

// owns reports whether a row is another's owner, directly or through rows of other tables than those passed.
func (l *left) owns(owner, id rowID, passed []string) bool {
	r := l.rows[id]
	if r == nil {
		return false
	}
	for k, t := range l.table(id).refs {
		up := rowID{l.p.tables[t].name, r.refs[k]}
		switch {
		case up == owner:
			return true
		case up.table == owner.table || slices.Contains(passed, up.table):
		case l.owns(owner, up, append(slices.Clone(passed), up.table)):
			return true
		}
	}
	return false
}

func (l *left) table(id rowID) pastTable {
	return l.p.tables[slices.IndexFunc(l.p.tables, func(t pastTable) bool { return t.name == id.table })]
}

func (l *left) isFrozen(id rowID, r *pastRow) bool {
	return l.p.frozen >= 0 && id.table == l.p.tables[l.p.frozen].name && r.flag == 1
}

func (l *left) held(id rowID) bool {
	r := l.rows[id]
	if l.isFrozen(id, r) || l.p.person > 0 && id == (rowID{"p0", l.p.person}) {
		return true
	}
	return l.owned(id)
}

// owned reports whether the held person owns a row, directly or through others.
func (l *left) owned(id rowID) bool {
	if l.p.person == 0 {
		return false
	}
	if id == (rowID{"p0", l.p.person}) {
		return true
	}
	for k, t := range l.table(id).refs {
		if ref := l.rows[id].refs[k]; ref != 0 && l.owned(rowID{l.p.tables[t].name, ref}) {
			return true
		}
	}
	return false
}

// dueToo reports whether a row is one of the sweep's own, which goes with its owner whenever it is read.
func (l *left) dueToo(id rowID) bool {
	return id.table == l.p.tables[l.p.swept].name && l.due(id, l.rows[id]) && !l.held(id)
}

// apply carries out the rule for the rows that are due and free.
func (l *left) apply(going map[rowID]bool) {
	stays := map[rowID]bool{}
	for {
		doomed := maps.Clone(going)
		for again := true; again; {
			again = false
			for id, r := range l.rows {
				if doomed[id] || stays[id] || l.held(id) {
					continue
				}
				touched, living := false, false
				for k, t := range l.table(id).refs {
					owner := rowID{l.p.tables[t].name, r.refs[k]}
					touched = touched || doomed[owner]
					living = living || l.rows[owner] != nil && !doomed[owner]
				}
				if touched && (!living || l.dueToo(id)) {
					doomed[id], again = true, true
				}
			}
		}
		changed := false
		for id, r := range l.rows {
			tb := l.table(id)
			keeps := l.held(id) || stays[id] || doomed[id] && !going[id] && !l.dueToo(id) && (tb.method == dsr.Keep || tb.minimum > 0 && (r.at < 0 || r.at > 40-tb.minimum))
			if !keeps {
				continue
			}
			for k, t := range tb.refs {
				owner := rowID{l.p.tables[t].name, r.refs[k]}
				switch {
				case going[owner]:
					delete(going, owner)
					l.tally[owner.table+" blocked"]++
					changed = true
				case doomed[owner] && (l.dueToo(owner) || l.table(owner).method == dsr.Delete) && !stays[owner]:
					stays[owner], changed = true, true
				}
			}
			if doomed[id] && !stays[id] {
				stays[id], changed = true, true
			}
		}
		if changed {
			continue
		}
		gone := map[rowID]bool{}
		for id := range doomed {
			if going[id] || l.dueToo(id) || l.table(id).method == dsr.Delete {
				gone[id] = true
			}
		}
		for id, r := range l.rows {
			switch {
			case gone[id]:
				l.tally[id.table+" delete"]++
			case doomed[id]:
				l.tally[id.table+" mask"]++
				r.body = "masked"
				clear(r.refs)
			case !l.held(id) && !stays[id]:
				released := false
				for k, t := range l.table(id).refs {
					if doomed[rowID{l.p.tables[t].name, r.refs[k]}] {
						r.refs[k], released = 0, true
					}
				}
				if released {
					l.tally[id.table+" release"]++
				}
			}
		}
		for id := range gone {
			delete(l.rows, id)
		}
		return
	}
}

func (l *left) dump() map[string][]string {
	out := map[string][]string{}
	for _, tb := range l.p.tables {
		out[tb.name] = []string{}
		for id := 1; id <= len(l.p.rows[tb.name]); id++ {
			r := l.rows[rowID{tb.name, id}]
			if r == nil {
				continue
			}
			line := fmt.Sprintf("%d|%s", id, r.body)
			for _, ref := range r.refs {
				line += "|" + strings.Replace(fmt.Sprint(ref), "0", "NULL", 1)
			}
			out[tb.name] = append(out[tb.name], line)
		}
	}
	return out
}

func (p *past) open(f *fixture) *sqldb.DB {
	db := f.openAt(func() time.Time { return pastNow }, p.entities()...)
	db.Split(p.chunk, p.chunk)
	return db
}

func TestSweepsDoWhatTheOracleSays(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		rapid.Check(t, func(rt *rapid.T) {
			p := genPast(rt)
			p.log(rt)
			p.create(f)
			db := p.open(f)
			defer db.Close()
			want := p.expected()
			name := p.tables[p.swept].name
			due := f.due(db, name, p.rule, p.cut, p.held)
			require.Equal(rt, want.tally[name+" blocked"], due.Blocked)
			require.Equal(rt, want.tally[name+" held"], due.Held)
			pace := connectors.Pace{}
			j := &journal{}
			job := connectors.SweepJob{Entity: name, Rule: p.rule, Cut: p.cut, Held: p.held, Journal: j, Pace: pace}
			f.finish(db, job)
			require.Equal(rt, want.dump(), p.actual(f))
			require.Equal(rt, want.tally, j.sum())
			due = f.due(db, name, p.rule, p.cut, p.held)
			require.Equal(rt, due.Rows, due.Held+due.Blocked, "nothing due stays without a reason")
			f.finish(db, job)
			require.Equal(rt, want.dump(), p.actual(f), "a job delivered twice")
			require.Equal(rt, want.tally, j.sum())
		})
	})
}

func TestSweepsAreResumedAtEveryStep(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		rapid.Check(t, func(rt *rapid.T) {
			p := genPast(rt)
			p.log(rt)
			want := p.expected()
			stop := rapid.IntRange(1, 12).Draw(rt, "stop")
			again := rapid.IntRange(1, 6).Draw(rt, "again")
			p.create(f)
			db := p.open(f)
			defer db.Close()
			j := &journal{}
			job := connectors.SweepJob{Entity: p.tables[p.swept].name, Rule: p.rule, Cut: p.cut, Held: p.held, Journal: j}
			for _, at := range []int{stop, stop + again} {
				j.stopAt = at
				func() {
					defer func() {
						if r := recover(); r != nil {
							if _, ok := r.(interrupted); !ok {
								panic(r)
							}
						}
					}()
					_, err := db.Sweep(context.Background(), job)
					require.NoError(rt, err)
				}()
			}
			j.stopAt = 0
			f.finish(db, job)
			require.Equal(rt, want.dump(), p.actual(f))
			require.Equal(rt, want.tally, j.sum())
		})
	})
}
