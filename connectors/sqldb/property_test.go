package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// A world is a generated schema with rows, small enough that the expected result can be computed naively: what the
// connector does with sets and pages is compared with a plain fixed point over rows in memory.
type world struct {
	tables []genTable
	rows   map[string]map[int]*genRow // table -> id
	keeps  bool
}

type genTable struct {
	name  string
	refs  []genRef
	owns  int // index of the table that rows of this one are memberships of; -1 none
	keep  bool
	named bool // free text is searched
	law   bool // rows may be under a statutory minimum
}

type genRef struct {
	col      string
	to       int
	enforced bool
	accessor bool
}

type genRow struct {
	refs  map[string]int // 0 is NULL
	body  string
	young bool // its statutory minimum has not ended
}

const people0 = "t0"

func genWorld(t *rapid.T, keeps bool) *world {
	w := &world{rows: map[string]map[int]*genRow{}, keeps: keeps}
	n := rapid.IntRange(2, 6).Draw(t, "tables")
	for i := range n {
		tb := genTable{name: fmt.Sprintf("t%d", i), owns: -1, named: rapid.Bool().Draw(t, "named")}
		if i > 0 {
			for k := range rapid.IntRange(1, 3).Draw(t, "refs") {
				to := rapid.IntRange(0, n-1).Draw(t, "to")
				if k == 0 {
					to = rapid.IntRange(0, i-1).Draw(t, "to")
				}
				r := genRef{col: fmt.Sprintf("r%d", k), to: to, enforced: to <= i && rapid.Bool().Draw(t, "enforced")}
				r.accessor = k > 0 && !r.enforced && rapid.IntRange(0, 4).Draw(t, "accessor") == 0
				tb.refs = append(tb.refs, r)
			}
			if rapid.IntRange(0, 3).Draw(t, "membership") == 0 && i > 1 {
				tb.owns = rapid.IntRange(1, i-1).Draw(t, "owns")
			}
			tb.keep = keeps && rapid.IntRange(0, 3).Draw(t, "keep") == 0
		}
		w.tables = append(w.tables, tb)
	}
	for i, tb := range w.tables {
		w.rows[tb.name] = map[int]*genRow{}
		count := rapid.IntRange(0, 8).Draw(t, "rows")
		if i == 0 {
			count = 5
		}
		for id := 1; id <= count; id++ {
			row := &genRow{refs: map[string]int{}, body: "text"}
			if rapid.Bool().Draw(t, "mentions") {
				row.body = fmt.Sprintf("about P%d@example.com and p%d@example.com.", rapid.IntRange(1, 5).Draw(t, "who"), rapid.IntRange(1, 5).Draw(t, "who"))
			}
			for _, r := range tb.refs {
				row.refs[r.col] = w.draw(t, r, i, id)
			}
			if tb.owns >= 0 {
				row.refs["own"] = w.draw(t, genRef{to: tb.owns, enforced: true}, i, id)
			}
			w.rows[tb.name][id] = row
		}
	}
	return w
}

// draw picks a reference: NULL, a row, or, where no constraint forbids it, a row that does not exist.
func (w *world) draw(t *rapid.T, r genRef, table, id int) int {
	highest := 8
	if r.enforced {
		highest = len(w.rows[w.tables[r.to].name])
		if r.to == table {
			highest = id - 1
		}
	}
	return rapid.IntRange(0, highest).Draw(t, "ref")
}

func (w *world) create(f *fixture) {
	var tables []string
	for _, tb := range slices.Backward(w.tables) {
		f.exec("DROP TABLE IF EXISTS " + tb.name)
	}
	for _, tb := range w.tables {
		cols := "id BIGINT PRIMARY KEY, body VARCHAR(200)"
		if tb.name == people0 {
			cols += ", email VARCHAR(100)"
		}
		names := []string{}
		for _, r := range tb.refs {
			names = append(names, r.col)
			cols += ", " + r.col + " BIGINT"
			if r.enforced {
				cols += " REFERENCES " + w.tables[r.to].name + " (id)"
			}
		}
		if tb.owns >= 0 {
			names = append(names, "own")
			cols += ", own BIGINT REFERENCES " + w.tables[tb.owns].name + " (id)"
		}
		cols += ", since VARCHAR(20)"
		tables = append(tables, "CREATE TABLE "+tb.name+" ("+cols+")")
		var values []string
		for id := 1; id <= len(w.rows[tb.name]); id++ {
			row := w.rows[tb.name][id]
			v := fmt.Sprintf("(%d, '%s'", id, row.body)
			if tb.name == people0 {
				v += fmt.Sprintf(", 'p%d@Example.com'", id)
			}
			for _, name := range names {
				if row.refs[name] == 0 {
					v += ", NULL"
				} else {
					v += fmt.Sprintf(", %d", row.refs[name])
				}
			}
			since := "2020-02-29"
			if row.young {
				since = "2029-05-05"
			}
			values = append(values, v+", '"+since+"')")
		}
		if len(values) > 0 {
			tables = append(tables, "INSERT INTO "+tb.name+" VALUES "+strings.Join(values, ", "))
		}
	}
	f.exec(strings.Join(tables, ";\n"))
}

// log writes the world where a failing check shows it.
func (w *world) log(t *rapid.T, erased []int) {
	for _, tb := range w.tables {
		t.Logf("%+v", tb)
		for id := 1; id <= len(w.rows[tb.name]); id++ {
			t.Logf("  %d %v %q %v", id, w.rows[tb.name][id].refs, w.rows[tb.name][id].body, w.rows[tb.name][id].young)
		}
	}
	t.Logf("erased %v", erased)
}

func (w *world) drop(f *fixture) {
	for _, tb := range slices.Backward(w.tables) {
		f.exec("DROP TABLE IF EXISTS " + tb.name)
	}
}

func (w *world) entities() []connectors.Entity {
	var out []connectors.Entity
	for i, tb := range w.tables {
		e := connectors.Entity{Name: tb.name, Erase: dsr.Delete, OnOwnerErased: map[string]map[string]mask.Spec{}}
		if w.keeps {
			e.Anchor = map[string]mask.Spec{"body": constant("anchored")}
		}
		if tb.named {
			e.Mentions = []string{"body"}
		}
		if i == 0 {
			e.Subject, e.Fields = true, []connectors.Field{idField("email", "email")}
			if w.keeps {
				e.Anchor["email"] = random
			}
		}
		for _, r := range tb.refs {
			o := owner(r.col, w.tables[r.to].name)
			if r.accessor {
				e.AccessedBy = append(e.AccessedBy, o)
				continue
			}
			e.OwnedBy = append(e.OwnedBy, o)
			e.OnOwnerErased[r.col] = map[string]mask.Spec{r.col: null}
		}
		if tb.owns >= 0 {
			e.Owns = []connectors.Owner{owner("own", w.tables[tb.owns].name)}
		}
		if tb.law {
			e.Rules = genLaw(tb.name)
		}
		if tb.keep {
			e.Keep, e.Masks = &connectors.Keep{Article: "17(3)(b)"}, map[string]mask.Spec{"body": constant("kept")}
		}
		out = append(out, e)
	}
	return out
}

type rowID struct {
	table string
	id    int
}

// expected computes what the tables hold after the erasure of some people, and what was done to how many rows.
func (w *world) expected(erased []int) (map[string][]string, map[string]int64) {
	doomed, touched := map[rowID]bool{}, map[rowID]bool{}
	for _, id := range erased {
		doomed[rowID{people0, id}], touched[rowID{people0, id}] = true, true
	}
	exists := func(table int, id int) bool { return w.rows[w.tables[table].name][id] != nil }
	living := func(tb genTable, row *genRow) bool {
		owners := 0
		for _, r := range tb.refs {
			if r.accessor {
				continue
			}
			owners++
			if id := row.refs[r.col]; id != 0 && exists(r.to, id) && !doomed[rowID{w.tables[r.to].name, id}] {
				return true
			}
		}
		return owners == 0
	}
	for again := true; again; {
		again = false
		for i, tb := range w.tables {
			for id, row := range w.rows[tb.name] {
				me := rowID{tb.name, id}
				for _, r := range tb.refs {
					if !r.accessor && !(r.to == i && row.refs[r.col] == id) && doomed[rowID{w.tables[r.to].name, row.refs[r.col]}] && !touched[me] {
						touched[me], again = true, true
					}
				}
				members := false
				for mi, mt := range w.tables {
					if mt.owns != i {
						continue
					}
					lively := func(m *genRow) bool { return m.young || w.isTarget(mi) || living(mt, m) }
					for mid, m := range w.rows[mt.name] {
						if m.refs["own"] != id {
							continue
						}
						mine := rowID{mt.name, mid}
						if doomed[mine] && !touched[me] {
							touched[me], again = true, true
						}
						if doomed[me] && !doomed[mine] && !lively(m) {
							doomed[mine], touched[mine], again = true, true, true
						}
						members = members || !doomed[mine] && lively(m)
					}
				}
				if touched[me] && !doomed[me] && !row.young && !living(tb, row) && !members && i > 0 {
					doomed[me], again = true, true
				}
			}
		}
	}
	stays, waits := map[rowID]bool{}, map[rowID]bool{}
	for again := true; again; { // a row that stays anchors the doomed rows that it refers to, or has them wait with it
		again = false
		mark := func(set map[rowID]bool, r rowID) {
			if !set[r] {
				set[r], again = true, true
			}
		}
		for i, tb := range w.tables {
			for id, row := range w.rows[tb.name] {
				me := rowID{tb.name, id}
				remains := row.young || waits[me]
				if !remains && !(doomed[me] && (tb.keep || stays[me])) {
					continue
				}
				mark(stays, me)
				refs := map[string]int{}
				for _, r := range tb.refs {
					if !r.accessor {
						refs[r.col] = r.to
					}
				}
				if tb.owns >= 0 {
					refs["own"] = tb.owns
				}
				for col, to := range refs {
					p := rowID{w.tables[to].name, row.refs[col]}
					switch {
					case !doomed[p] || stays[p]:
					case w.keeps:
						mark(stays, p)
					default:
						mark(waits, p)
						mark(stays, p)
					}
				}
				for _, mt := range w.tables {
					for mid, m := range w.rows[mt.name] {
						mine := rowID{mt.name, mid}
						if remains && mt.owns == i && m.refs["own"] == id && doomed[mine] && !mt.keep && !stays[mine] {
							mark(waits, mine) // by which it is found again
							mark(stays, mine)
						}
					}
				}
			}
		}
	}
	out, tallies := map[string][]string{}, map[string]int64{}
	for _, tb := range w.tables {
		out[tb.name] = []string{}
		for id := 1; id <= len(w.rows[tb.name]); id++ {
			row, me := w.rows[tb.name][id], rowID{tb.name, id}
			body := row.body
			if tb.named && !row.young {
				for _, p := range erased {
					for _, form := range []string{"P%d@example.com", "p%d@example.com"} {
						body = strings.ReplaceAll(body, fmt.Sprintf(form, p), mask.Redacted)
					}
				}
			}
			line := fmt.Sprint(id)
			method := dsr.Method("")
			switch {
			case row.young:
			case waits[me]:
				if body != row.body {
					method = dsr.Redact
				}
			case doomed[me] && tb.keep:
				body, method = "kept", dsr.Keep
			case doomed[me] && stays[me]:
				body, method = "anchored", dsr.Anchor
			case doomed[me]:
				tallies[tb.name+" delete"]++
				continue
			case touched[me] && w.leaving(tb, row, doomed):
				method = dsr.Release
			case body != row.body:
				method = dsr.Redact
			}
			if method != "" {
				tallies[tb.name+" "+string(method)]++
			}
			line += "|" + body
			for _, r := range tb.refs {
				ref := row.refs[r.col]
				if !r.accessor && method == dsr.Release && doomed[rowID{w.tables[r.to].name, ref}] {
					ref = 0
				}
				line += "|" + nullable(ref)
			}
			if tb.owns >= 0 {
				line += "|" + nullable(row.refs["own"])
			}
			out[tb.name] = append(out[tb.name], line)
		}
	}
	return out, tallies
}

// leaving reports whether an owner of the row goes; a membership that goes is none.
func (w *world) leaving(tb genTable, row *genRow, doomed map[rowID]bool) bool {
	return slices.ContainsFunc(tb.refs, func(r genRef) bool {
		return !r.accessor && doomed[rowID{w.tables[r.to].name, row.refs[r.col]}]
	})
}

func nullable(id int) string {
	if id == 0 {
		return "NULL"
	}
	return fmt.Sprint(id)
}

func (w *world) actual(f *fixture) map[string][]string {
	out := map[string][]string{}
	for _, tb := range w.tables {
		cols := []string{"id", "body"}
		for _, r := range tb.refs {
			cols = append(cols, r.col)
		}
		if tb.owns >= 0 {
			cols = append(cols, "own")
		}
		out[tb.name] = f.rows("SELECT " + strings.Join(cols, ", ") + " FROM " + tb.name + " ORDER BY id")
	}
	return out
}

// isTarget reports whether memberships own rows of the table.
func (w *world) isTarget(table int) bool {
	return slices.ContainsFunc(w.tables, func(tb genTable) bool { return tb.owns == table })
}

// reach is what belongs to some people, however many others own it, too: what an export must show at least.
func (w *world) reach(people []int) map[rowID]bool {
	out := map[rowID]bool{}
	for _, id := range people {
		out[rowID{people0, id}] = true
	}
	for again := true; again; {
		again = false
		mark := func(r rowID) {
			if !out[r] && w.rows[r.table][r.id] != nil {
				out[r], again = true, true
			}
		}
		for _, tb := range w.tables {
			for id, row := range w.rows[tb.name] {
				for _, r := range tb.refs {
					if !r.accessor && out[rowID{w.tables[r.to].name, row.refs[r.col]}] {
						mark(rowID{tb.name, id})
					}
				}
				if tb.owns >= 0 && out[rowID{tb.name, id}] {
					mark(rowID{w.tables[tb.owns].name, row.refs["own"]})
				}
			}
		}
	}
	owned := maps.Clone(out)
	for _, tb := range w.tables {
		for id, row := range w.rows[tb.name] {
			for _, r := range tb.refs {
				if r.accessor && owned[rowID{w.tables[r.to].name, row.refs[r.col]}] {
					out[rowID{tb.name, id}] = true
				}
			}
			for _, p := range people {
				if tb.named && strings.Contains(strings.ToLower(row.body), fmt.Sprintf("p%d@", p)) {
					out[rowID{tb.name, id}] = true
				}
			}
		}
	}
	return out
}

func person(id int) connectors.Subject {
	return subject(fmt.Sprintf("s%d", id), "email", fmt.Sprintf("p%d@example.com", id))
}

func drawErased(t *rapid.T) []int {
	ids := rapid.SliceOfNDistinct(rapid.IntRange(1, 5), 1, 4, rapid.ID[int]).Draw(t, "erased")
	slices.Sort(ids)
	return ids
}

func batchOf(ids []int) connectors.Batch {
	var b connectors.Batch
	for _, id := range ids {
		b = append(b, person(id))
	}
	return b
}

// checks runs a property; databases whose tables are slow to make get fewer worlds.
func checks(t *testing.T, f *fixture, property func(rt *rapid.T, g *fixture)) {
	left := map[string]int{"postgres": 60, "mariadb": 25, "sqlite": 100}[f.kind]
	if testing.Short() {
		left = 5
	}
	failed := false // then every run is one of rapid's attempts to make the case smaller
	rapid.Check(t, func(rt *rapid.T) {
		if left--; left < 0 && !t.Failed() && !failed {
			return
		}
		finished := false
		defer func() { failed = failed || !finished || rt.Failed() }()
		g := *f
		g.t = fatal{t, rt}
		property(rt, &g)
		finished = true
	})
}

// fatal lets require fail a rapid check while cleanups stay the test's.
type fatal struct {
	testing.TB
	rt *rapid.T
}

func (f fatal) Helper()                      {}
func (f fatal) Errorf(s string, args ...any) { f.rt.Errorf(s, args...) }
func (f fatal) FailNow()                     { f.rt.FailNow() }
func (f fatal) Fatalf(s string, args ...any) { f.rt.Fatalf(s, args...) }

func (w *world) open(f *fixture) *sqldb.DB { return w.openAt(f, nil) }

// openAt opens the connector with a clock of its own.
func (w *world) openAt(f *fixture, now func() time.Time) *sqldb.DB {
	entities := w.entities()
	s := &connectors.System{
		Name: "shop", Connector: f.kind, Settings: map[string]any{"dsn": f.url}, Entities: entities,
		Identifiers: map[string]dsr.IdentifierKind{"email": dsr.KindEmail}, Limits: connectors.Limits{Connections: 2},
	}
	db, err := sqldb.Open(context.Background(), s, connectors.Options{Now: now})
	require.NoError(f.t, err)
	return db
}

// Properties 1 to 7, 14 and 19: the erasure does what the graph says, nothing else, and says what it did.
func TestErasureIsTheClosureOfTheGraph(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		checks(t, f, func(rt *rapid.T, f *fixture) {
			w := genWorld(rt, rapid.Bool().Draw(rt, "keeps"))
			erased := drawErased(rt)
			w.log(rt, erased)
			w.create(f)
			defer w.drop(f)
			db := w.open(f)
			defer db.Close()
			shown := map[rowID]bool{}
			for _, records := range f.export(db, batchOf(erased)...) {
				seen := map[rowID]bool{}
				for _, r := range records {
					var row rowID
					_, err := fmt.Sscanf(strings.NewReplacer(":", "", ",", " ", "id=", "").Replace(r), "%s %d", &row.table, &row.id)
					require.NoError(f.t, err)
					require.False(f.t, seen[row], "a row is exported once to a subject")
					seen[row], shown[row] = true, true
				}
			}
			if diff := cmp.Diff(w.reach(erased), shown); diff != "" {
				rt.Fatalf("export differs (-want +got):\n%s", diff)
			}
			want, tallies := w.expected(erased)
			j := f.erase(db, batchOf(erased)...)
			if diff := cmp.Diff(want, w.actual(f)); diff != "" {
				rt.Fatalf("rows differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tallies, j.sum()); diff != "" {
				rt.Fatalf("tallies differ (-want +got):\n%s", diff)
			}
			again := f.erase(db, batchOf(erased)...)
			require.Empty(f.t, again.sum(), "twice is once")
		})
	})
}

// Properties 3 and 21: order and size of batches and transactions do not matter.
func TestSameInEverySizeAndOrder(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		checks(t, f, func(rt *rapid.T, f *fixture) {
			w := genWorld(rt, false)
			erased := drawErased(rt)
			w.log(rt, erased)
			want, _ := w.expected(erased)
			rows, subjects := rapid.IntRange(1, 3).Draw(rt, "rows"), rapid.IntRange(1, 3).Draw(rt, "subjects")
			order := rapid.Permutation(erased).Draw(rt, "order")
			defer w.drop(f)
			check := func(name string, run func(db *sqldb.DB)) {
				w.create(f)
				db := w.open(f)
				run(db)
				require.NoError(f.t, db.Close())
				if diff := cmp.Diff(want, w.actual(f)); diff != "" {
					rt.Fatalf("%s (-want +got):\n%s", name, diff)
				}
			}
			check("small transactions", func(db *sqldb.DB) {
				db.Split(rows, subjects)
				f.erase(db, batchOf(erased)...)
			})
			check("one by one", func(db *sqldb.DB) {
				for _, id := range order {
					f.erase(db, person(id))
				}
			})
		})
	})
}

// Properties 8, 9 and 19: killed at any step and called again, the end and the receipts are the same.
func TestInterruptedAtAnyStepItEndsTheSame(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		checks(t, f, func(rt *rapid.T, f *fixture) {
			w := genWorld(rt, rapid.Bool().Draw(rt, "keeps"))
			erased := drawErased(rt)
			w.log(rt, erased)
			want, tallies := w.expected(erased)
			rows, subjects := rapid.SampledFrom([]int{1, 3, 1000}).Draw(rt, "rows"), rapid.IntRange(1, 3).Draw(rt, "subjects")
			defer w.drop(f)
			w.create(f)
			db := w.open(f)
			defer db.Close()
			if !w.keeps || subjects >= len(erased) && rows == 1000 {
				db.Split(rows, subjects)
			}
			j := &journal{stopAt: rapid.IntRange(1, 25).Draw(rt, "stop")}
			job := connectors.Job{Batch: batchOf(erased), Journal: j}
			for range 3 {
				stopped, err := attempt(db, job)
				require.NoError(f.t, err)
				if !stopped {
					break
				}
				j.stopAt = 0
				if rapid.Bool().Draw(rt, "again") {
					j.stopAt = len(j.steps) + rapid.IntRange(1, 10).Draw(rt, "stop")
				}
			}
			j.stopAt = 0
			_, err := attempt(db, job)
			require.NoError(f.t, err)
			residue, err := db.Verify(context.Background(), connectors.Search{Batch: job.Batch, Keys: j})
			require.NoError(f.t, err)
			require.Empty(f.t, residue)
			if diff := cmp.Diff(want, w.actual(f)); diff != "" {
				rt.Fatalf("rows differ (-want +got):\n%s", diff)
			}
			if rows == 1000 && subjects >= len(erased) { // in several transactions a shared row is released, then deleted
				if diff := cmp.Diff(tallies, j.sum()); diff != "" {
					rt.Fatalf("tallies differ (-want +got):\n%s", diff)
				}
			}
		})
	})
}

// attempt runs Erase and reports whether a step interrupted it.
func attempt(db *sqldb.DB, job connectors.Job) (stopped bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			var i interrupted
			if e, ok := r.(interrupted); ok {
				i, stopped = e, true
				_ = i
				return
			}
			panic(r)
		}
	}()
	for {
		err = db.Erase(context.Background(), job)
		if !errors.Is(err, connectors.ErrYield) {
			return false, err
		}
	}
}
