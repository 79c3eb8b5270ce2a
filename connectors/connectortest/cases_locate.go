package connectortest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// testCapabilities: what is implemented is what works; a connector that erases also shows what it would erase.
func testCapabilities(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	has := connectors.CapabilitiesOf(c)
	require.True(t, has.Export || has.Erase, "a connector that can neither export nor erase serves no Request")
	before := w.dump(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	if has.Export {
		require.NotZero(t, export(t, c, batch).Count(), "Export is implemented but writes nothing")
	}
	if has.Erase && !b.Expires {
		erase(t, c, batch)
		require.NotEmpty(t, cmp.Diff(before, w.dump(t)), "Erase is implemented but changes nothing")
	}
	if has.Grants {
		text, err := c.(connectors.Granter).Grants(context.Background(), "lethe")
		require.NoError(t, err)
		require.NotEmpty(t, text)
	}
}

func testDescribe(t *testing.T, b Backend) {
	w := setupSample(t, b)
	s, err := w.open(t).Describe(context.Background())
	require.NoError(t, err)
	var names []string
	for _, e := range s.Entities {
		names = append(names, e.Name)
	}
	require.True(t, slices.IsSorted(names), "entities are sorted by name")
	if b.Flat { // what its records have in them a store of contents may only guess at
		require.NotEmpty(t, names)
		return
	}
	for _, want := range w.data.Tables {
		i := slices.Index(names, want.Name)
		require.GreaterOrEqual(t, i, 0, "%s is missing", want.Name)
		got := s.Entities[i]
		require.Equal(t, want.PrimaryKey, got.PrimaryKey, want.Name)
		for _, c := range want.Columns {
			j := slices.IndexFunc(got.Columns, func(g connectors.Column) bool { return g.Name == c.Name })
			require.GreaterOrEqual(t, j, 0, "%s.%s is missing", want.Name, c.Name)
			require.Equal(t, c.Class, got.Columns[j].Class, "%s.%s", want.Name, c.Name)
			require.Equal(t, c.Nullable, got.Columns[j].Nullable, "%s.%s", want.Name, c.Name)
		}
		if b.References {
			require.Len(t, got.References, len(want.References), "references of %s", want.Name)
		}
	}
}

// testCheck: a map that fits has no error, a column or a table that is not there is one, and the verbs refuse it too.
func testCheck(t *testing.T, b Backend) {
	w := setup(t, b, shop(), shopData())
	ctx := context.Background()
	failures := func(sys *connectors.System) []string {
		w.sys = sys
		found, err := w.open(t).Check(ctx)
		require.NoError(t, err)
		var out []string
		for _, f := range found {
			if f.Severity == connectors.Error {
				require.NotEmpty(t, f.Code)
				require.NotEmpty(t, f.Message)
				out = append(out, f.Code+" "+f.Entity+" "+f.Field+": "+f.Message)
			}
		}
		return out
	}
	fits := func() *connectors.System {
		sys := shop() // whether text that nobody owns may be personal is for each connector's check to say
		sys.Entities = slices.DeleteFunc(sys.Entities, func(e connectors.Entity) bool { return e.Name == "articles" })
		sys.Ignored = map[string]string{"articles": "published"}
		return sys
	}
	require.Empty(t, failures(fits()))
	for name, spoil := range map[string]func(*connectors.System){
		"table":  func(s *connectors.System) { s.Entity("devices").Source = "no_such_table" },
		"column": func(s *connectors.System) { s.Entity("devices").Fields[0].Name = "no_such_column" },
		"mask":   func(s *connectors.System) { s.Entity("customers").Anchor = masks{"name": toNull} },
		"unmapped": func(s *connectors.System) {
			s.Entities = slices.DeleteFunc(s.Entities, func(e connectors.Entity) bool { return e.Name == "devices" })
		},
	} {
		sys := fits()
		spoil(sys)
		require.NotEmpty(t, failures(sys), name)
		if name == "table" || name == "column" {
			c := w.open(t)
			_, err := c.Locate(ctx, connectors.Query{Batch: connectors.Batch{subject("a", anna)}})
			require.Error(t, err, name)
			require.True(t, connectors.IsPermanent(err), "%s: %v", name, err)
			if e, ok := c.(connectors.Eraser); ok {
				err := e.Erase(ctx, connectors.Job{Batch: connectors.Batch{subject("a", anna)}, Journal: NewJournal()})
				require.Error(t, err, name)
			}
		}
	}
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), "Check and refused verbs change nothing")
}

// testCheckFlat: a map that fits has no error, and what no entity covers is named.
func testCheckFlat(t *testing.T, b Backend) {
	w := setupSample(t, b)
	check := func(sys *connectors.System) (errs, all []string) {
		w.sys = sys
		found, err := w.open(t).Check(context.Background())
		require.NoError(t, err)
		for _, f := range found {
			require.NotEmpty(t, f.Code)
			require.NotEmpty(t, f.Message)
			line := f.Code + " " + f.Entity + " " + f.Field + ": " + f.Message
			if f.Severity == connectors.Error {
				errs = append(errs, line)
			}
			all = append(all, line)
		}
		return errs, all
	}
	fits, _ := b.sample()
	errs, before := check(fits)
	require.Empty(t, errs)
	lacks, _ := b.sample()
	lacks.Entities = slices.DeleteFunc(lacks.Entities, func(e connectors.Entity) bool { return e.Name == "devices" })
	_, after := check(lacks)
	require.True(t, slices.ContainsFunc(after, func(line string) bool { return !slices.Contains(before, line) }),
		"the map says nothing of devices, and Check neither")
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), "Check must not change anything")
}

func testLocateReadsOnly(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	for _, who := range []string{anna, bert, cleo, dora} {
		batch := discover(t, c, connectors.Batch{subject("s", who)})
		found, err := c.Locate(context.Background(), connectors.Query{Batch: batch})
		require.NoError(t, err)
		got := map[string]int64{}
		for _, n := range found.Counts {
			require.Equal(t, "s", n.Subject)
			require.Positive(t, n.Rows, "an entity without a match is absent")
			got[n.Entity+" "+string(n.Method)] += n.Rows
		}
		require.Empty(t, cmp.Diff(expect(w.sys, w.data, batch).counts, got), who)
	}
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), "Locate must not change anything")

	// a batch is the same as its members one by one
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("b", bert)})
	found, err := c.Locate(context.Background(), connectors.Query{Batch: batch})
	require.NoError(t, err)
	for _, s := range batch {
		got := map[string]int64{}
		for _, n := range found.Counts {
			if n.Subject == s.Ref {
				got[n.Entity+" "+string(n.Method)] += n.Rows
			}
		}
		require.Empty(t, cmp.Diff(expect(w.sys, w.data, connectors.Batch{s}).counts, got), s.Ref)
	}
}

// testTeaching: e-mail address to number to device; only what teaches is asked, and what is known is not learned.
func testTeaching(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := connectors.Batch{subject("a", anna), subject("b", bert)}
	found, err := c.Locate(context.Background(), connectors.Query{Batch: batch, Teaching: true})
	require.NoError(t, err)
	for _, n := range found.Counts {
		require.True(t, w.sys.Entity(n.Entity).Teaches, "%s does not teach", n.Entity)
	}
	batch = discover(t, c, batch)
	learned := map[string][]string{}
	for _, s := range batch {
		for _, id := range s.Identifiers {
			if id.Origin != dsr.Learned {
				continue
			}
			require.Contains(t, id.Source, w.sys.Name+".")
			v := id.Value.Reveal()
			if id.Name == "phone" {
				v = strings.NewReplacer(" ", "", "+", "").Replace(v)
			}
			learned[s.Ref] = append(learned[s.Ref], id.Name+"="+v)
		}
		slices.Sort(learned[s.Ref])
	}
	require.Equal(t, map[string][]string{
		"a": {"device=tok-anna-phone", "phone=46701740605", "user_id=1001"}, "b": {"device=tok-bert-phone", "user_id=1002"},
	}, learned)
}

// testAmbiguity: one identifier that matches several people is reported, not guessed about.
func testAmbiguity(t *testing.T, b Backend) {
	sys, d := b.sample()
	d.add("customers", Row{"id": 1006, "email": "anna@work.example.com", "name": "Anna", "phone": "0046701740605"})
	w := setup(t, b, sys, d)
	s := connectors.Subject{Ref: "a", Identifiers: []dsr.Identifier{{Name: "phone", Value: dsr.NewSecret("+46701740605"), Origin: dsr.Known}}}
	found, err := w.open(t).Locate(context.Background(), connectors.Query{Batch: connectors.Batch{s, subject("b", bert)}, Teaching: true})
	require.NoError(t, err)
	require.Equal(t, []connectors.Ambiguity{{Subject: "a", Entity: "customers", Identifier: "phone", Rows: 2}}, found.Ambiguous)
}

// testUnsearched: free text that the map does not declare is named. Where records of one entity differ it is that of any.
func testUnsearched(t *testing.T, b Backend) {
	sys, d := b.sample()
	sys.Entity("messages").Mentions = nil
	w := setup(t, b, sys, d)
	found, err := w.open(t).Locate(context.Background(), connectors.Query{Batch: connectors.Batch{subject("a", anna)}})
	require.NoError(t, err)
	require.Equal(t, []string{"messages.body"}, found.Unsearched)
}

func testLocateExport(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	exporter(t, c)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	found, err := c.Locate(context.Background(), connectors.Query{Batch: batch, Export: true})
	require.NoError(t, err)
	got := map[string]int64{}
	for _, n := range found.Counts {
		require.Equal(t, dsr.Export, n.Method)
		got[n.Entity] += n.Rows
	}
	have := map[string]int64{}
	for _, r := range w.records(export(t, c, batch), "a") {
		have[r.Entity]++
	}
	require.Empty(t, cmp.Diff(have, got), "Locate counts what Export writes")
}

// testSpellings: the same identifier in another spelling is the same.
func testSpellings(t *testing.T, b Backend) {
	sys, d := b.sample()
	d.Table("customers").Rows[0]["email"] = "Anna.CANARY@Example.COM"
	w := setup(t, b, sys, d)
	c := w.open(t)
	for name, s := range map[string]connectors.Subject{
		"email": subject("a", anna),
		"phone": {Ref: "a", Identifiers: []dsr.Identifier{{Name: "phone", Value: dsr.NewSecret("+46701740605")}}},
		"id":    {Ref: "a", Identifiers: []dsr.Identifier{{Name: "user_id", Value: dsr.NewSecret("1001")}}},
	} {
		found, err := c.Locate(context.Background(), connectors.Query{Batch: connectors.Batch{s}})
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(found.Counts, func(n connectors.Count) bool { return n.Entity == "customers" && n.Rows == 1 }), name)
	}
}

// testAbsent: someone who is not there is found nowhere, and erasing them changes nothing.
func testAbsent(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := connectors.Batch{subject("e", evan), {Ref: "none"}}
	found, err := c.Locate(context.Background(), connectors.Query{Batch: batch})
	require.NoError(t, err)
	require.Empty(t, found.Counts)
	require.Empty(t, found.Learned)
	j := erase(t, c, batch)
	require.Empty(t, tallied(j.Tallies()))
	noResidue(t, c, batch, j)
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)))
}
