package sqldb

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// ruleSchema and ruleSystem are cleanSchema and cleanSystem with two entities that have deletion rules: one that requests
// delete from, and one that they keep. Check finds nothing to say about them.
const ruleSchema = `
CREATE TABLE logins (
  id INTEGER PRIMARY KEY, c INTEGER NOT NULL, at DATE NOT NULL, seen DATE NOT NULL, ended DATE, weight NUMERIC(5,2) NOT NULL,
  kind VARCHAR(20) NOT NULL, note VARCHAR(200)
);
CREATE INDEX logins_c ON logins (c);
CREATE INDEX logins_at ON logins (at);
CREATE INDEX logins_ended ON logins (ended);
CREATE TABLE invoices (id INTEGER PRIMARY KEY, c INTEGER NOT NULL, at DATE NOT NULL, FOREIGN KEY (c) REFERENCES customers (id));
CREATE INDEX invoices_c ON invoices (c);
CREATE INDEX invoices_at ON invoices (at)
`

// ruleRows are due.
const ruleRows = `
INSERT INTO logins (id, c, at, seen, ended, weight, kind, note) VALUES (61, 2, '2020-01-01', '2020-01-01', NULL, 1, 'web', 'bob');
INSERT INTO invoices (id, c, at) VALUES (71, 2, '2020-01-01')
`

const (
	loginsRule   = "shop.logins.short"
	invoicesRule = "shop.invoices.short"
)

func ruleSystem() *connectors.System {
	s := cleanSystem()
	rule := func(name string) []connectors.Rule {
		return []connectors.Rule{{Rule: retention.Rule{
			Name: name, Class: retention.Class{Name: "short", Period: retention.Period{Days: 30}, Start: retention.Collection},
			Start:  retention.StartingPoint{Kind: retention.StartField, Field: "at"},
			Action: retention.Delete, Unreviewed: true,
		}}}
	}
	owner := []connectors.Owner{{Columns: []string{"c"}, Entity: "customers"}}
	s.Entities = append(
		s.Entities,
		connectors.Entity{
			Name: "invoices", Keep: &connectors.Keep{Article: "17(3)(b)", Statute: "Bokföringslag 7:2", Class: "accounting"}, Erase: dsr.Keep, OwnedBy: owner,
			NotPersonal: []string{"at"}, Rules: rule(invoicesRule),
		},
		connectors.Entity{
			Name: "logins", Erase: dsr.Delete, OwnedBy: owner, NotPersonal: []string{"at", "seen", "ended", "weight"},
			Fields: []connectors.Field{{Name: "kind"}, {Name: "note", Category: "user.content"}}, Rules: rule(loginsRule),
		},
	)
	slices.SortFunc(s.Entities, func(a, b connectors.Entity) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// rulesMap writes rules as a data map has them.
func rulesMap(rules []connectors.Rule) []any {
	var out []any
	for i := range rules {
		r := &rules[i]
		m := map[string]any{"class": r.Class.Name, "action": string(r.Action), "start": r.Start.Field}
		if suffix := r.Name[strings.LastIndexByte(r.Name, '.')+1:]; suffix != r.Class.Name {
			m["name"] = suffix
		}
		if r.Unreviewed {
			m["review"] = "never"
		}
		if len(r.Start.Latest) > 0 {
			var latest []string
			for _, l := range r.Start.Latest {
				latest = append(latest, l.Entity+"."+l.Field)
			}
			m["start"] = map[string]any{"latest": latest, "field": r.Start.Field}
		}
		switch r.Start.Null {
		case "":
		case retention.NullOther:
			m["if_null"] = map[string]any{"field": r.Start.NullField}
		default:
			m["if_null"] = string(r.Start.Null)
		}
		when := map[string]any{}
		for _, w := range r.When {
			switch {
			case w.Null:
				when[w.Field] = nil
			case w.NotNull:
				when[w.Field] = "not_null"
			default:
				when[w.Field] = w.Values
			}
		}
		if len(when) > 0 {
			m["when"] = when
		}
		if len(r.Masks) > 0 {
			m["mask"] = masksMap(r.Masks)
		}
		out = append(out, m)
	}
	return out
}

// onRule edits the first rule of an entity of ruleSystem.
func onRule(entity string, edit func(r *connectors.Rule)) func(*connectors.System) {
	return func(s *connectors.System) { edit(&s.Entity(entity).Rules[0]) }
}

func startAt(column string) func(*connectors.System) {
	return onRule("logins", func(r *connectors.Rule) { r.Start.Field = column })
}

// payments is a table whose rows belong to invoices.
const payments = "CREATE TABLE payments (id INTEGER PRIMARY KEY, invoice INTEGER NOT NULL, note VARCHAR(50));\nCREATE INDEX payments_invoice ON payments (invoice)"

func maskPayments(s *connectors.System) {
	s.Entities = append(s.Entities, connectors.Entity{
		Name: "payments", Erase: dsr.Mask, Masks: map[string]mask.Spec{"note": {Kind: mask.Null}},
		OwnedBy: []connectors.Owner{{Columns: []string{"invoice"}, Entity: "invoices"}},
		Fields:  []connectors.Field{{Name: "note", Category: "user.content"}},
	})
}

// dayColumn adds a column of text to start at.
const dayColumn = "ALTER TABLE logins ADD day VARCHAR(20) NOT NULL DEFAULT '2020-01-01';\nCREATE INDEX logins_day ON logins (day)"

func startAtDay(s *connectors.System) {
	startAt("day")(s)
	s.Entity("logins").NotPersonal = append(s.Entity("logins").NotPersonal, "day")
}

func pseudonymise(masks map[string]mask.Spec) func(*connectors.System) {
	return onRule("logins", func(r *connectors.Rule) { r.Action, r.Masks = retention.Pseudonymise, masks })
}

// many fills a table with 200,000 rows, whose keys $n no other row has.
func many(table, columns, values string) string {
	digits := "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4" +
		" UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9) AS "
	return fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %sa, %sb, %sc, %sd, %se, (SELECT 0 AS d UNION ALL SELECT 1) AS f", table, columns,
		strings.ReplaceAll(values, "$n", "1000 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d"),
		digits, digits, digits, digits, digits)
}

var manyLogins = many("logins", "id, c, at, seen, weight, kind", "$n, 2, '2020-01-01', '2020-01-01', 1, 'web'")

var ruleDefects = []defect{
	{code: FindUnindexedStart, entity: "logins", field: "seen", rule: loginsRule, warn: true, edit: startAt("seen")},
	{code: FindUnindexedStart, entity: "logins", field: "seen", rule: loginsRule, edit: startAt("seen"), on: "postgres sqlite", sql: manyLogins},
	{
		code: FindUnindexedStart, entity: "logins", field: "seen", rule: loginsRule, edit: startAt("seen"), on: mariadb,
		sql: manyLogins + ";\nANALYZE TABLE logins",
	},
	{code: FindNullStart, entity: "logins", field: "ended", rule: loginsRule, edit: startAt("ended")},
	{
		code: FindNullStart, entity: "visits", field: "at", rule: loginsRule, warn: true, // in related rows
		sql: "CREATE TABLE visits (id INTEGER PRIMARY KEY, l INTEGER NOT NULL, at DATE);\nCREATE INDEX visits_l ON visits (l)",
		edit: func(s *connectors.System) {
			s.Entities = append(s.Entities, connectors.Entity{
				Name: "visits", Erase: dsr.Delete, OwnedBy: []connectors.Owner{{Columns: []string{"l"}, Entity: "logins"}}, NotPersonal: []string{"at"},
			})
			r := &s.Entity("logins").Rules[0]
			r.Start.Latest, r.Start.Null = []retention.Related{{Entity: "visits", Field: "at"}}, retention.NullKeep
		},
	},
	{code: FindBlockedRule, entity: "payments", field: "invoice", rule: invoicesRule, warn: true, sql: payments, edit: maskPayments},
	{
		code: FindBlockedRule, entity: "refunds", field: "payment", rule: invoicesRule, warn: true, // through rows that go
		sql: payments + ";\nCREATE TABLE refunds (id INTEGER PRIMARY KEY, payment INTEGER NOT NULL, note VARCHAR(50));\n" +
			"CREATE INDEX refunds_payment ON refunds (payment)",
		edit: func(s *connectors.System) {
			maskPayments(s)
			p := s.Entity("payments")
			p.Erase, p.Masks = dsr.Delete, nil
			p.Anchor = map[string]mask.Spec{"note": {Kind: mask.Null}}
			s.Entities = append(s.Entities, connectors.Entity{
				Name: "refunds", Erase: dsr.Mask, Masks: map[string]mask.Spec{"note": {Kind: mask.Null}},
				OwnedBy: []connectors.Owner{{Columns: []string{"payment"}, Entity: "payments"}},
				Fields:  []connectors.Field{{Name: "note", Category: "user.content"}},
			})
		},
	},
	{code: FindStartType, entity: "logins", field: "weight", rule: loginsRule, edit: startAt("weight")},
	{
		code: string(connectors.CodeStart), entity: "logins", field: "day", rule: loginsRule, warn: true, edit: startAtDay, fails: string(connectors.CodeStart),
		sql: dayColumn, rows: "INSERT INTO logins (id, c, at, seen, weight, kind, day) VALUES (62, 2, '2020-01-01', '2020-01-01', 1, 'web', '2020-13-45')",
	},
	{
		code: string(connectors.CodeStart), entity: "visits", field: "at", rule: loginsRule, warn: true, fails: string(connectors.CodeStart), // in related rows
		sql:  "CREATE TABLE visits (id INTEGER PRIMARY KEY, l INTEGER NOT NULL, at VARCHAR(20) NOT NULL);\nCREATE INDEX visits_l ON visits (l)",
		rows: "INSERT INTO logins (id, c, at, seen, weight, kind) VALUES (62, 2, '2020-01-01', '2020-01-01', 1, 'web');\nINSERT INTO visits VALUES (1, 62, 'soon')",
		edit: func(s *connectors.System) {
			s.Entities = append(s.Entities, connectors.Entity{
				Name: "visits", Erase: dsr.Delete, OwnedBy: []connectors.Owner{{Columns: []string{"l"}, Entity: "logins"}}, NotPersonal: []string{"at"},
			})
			r := &s.Entity("logins").Rules[0]
			r.Start.Latest, r.Start.Null = []retention.Related{{Entity: "visits", Field: "at"}}, retention.NullKeep
		},
	},
	{
		code: FindStartType, entity: "logins", field: "weight", rule: loginsRule, // in place of another that is NULL
		edit: onRule("logins", func(r *connectors.Rule) {
			r.Start.Field, r.Start.Null, r.Start.NullField = "ended", retention.NullOther, "weight"
		}),
	},
	{code: connectors.FindUnknownColumn, entity: "logins", field: "att", rule: loginsRule, edit: startAt("att")},
	{code: connectors.FindUnknownColumn, entity: "logins", field: "sort", rule: loginsRule, edit: onRule("logins", func(r *connectors.Rule) {
		r.When = []dsr.Condition{{Field: "sort", Values: []string{"web"}}}
	})},
	{code: FindConditionValue, entity: "logins", field: "c", rule: loginsRule, edit: onRule("logins", func(r *connectors.Rule) {
		r.When = []dsr.Condition{{Field: "c", Values: []string{"2", "two"}}}
	})},
	{code: connectors.FindMask, entity: "logins", field: "kind", rule: loginsRule, edit: pseudonymise(map[string]mask.Spec{"kind": {Kind: mask.Null}})},
	{
		code: FindMaskUnproven, entity: "logins", field: "mood", rule: loginsRule, warn: true,
		sql: "ALTER TABLE logins ADD mood INTEGER CHECK (mood < 10)",
		edit: func(s *connectors.System) {
			e := s.Entity("logins")
			e.Fields = append(e.Fields, connectors.Field{Name: "mood", Category: "user.behavior"})
			pseudonymise(map[string]mask.Spec{"mood": {Kind: mask.Generalise, Step: 5}, "note": {Kind: mask.Null}})(s)
		},
	},
	{ // a random text cannot be told from one that is not masked
		code: FindUnusableMap, entity: "logins", rule: loginsRule, edit: pseudonymise(map[string]mask.Spec{"note": {Kind: mask.Random}}),
	},
	{ // what a rule waits for is wrong
		code: FindNullStart, entity: "logins", field: "ended", rule: "shop.logins.second",
		edit: func(s *connectors.System) {
			e := s.Entity("logins")
			second := e.Rules[0]
			second.Name = "shop.logins.second"
			e.Rules = append(e.Rules, second)
			e.Rules[0].Start.Field, e.Rules[0].Action, e.Rules[0].Unreviewed = "ended", retention.Next, false
		},
	},
	{ // of rows that requests keep, only the rule minds what refers to them
		code: FindUndeclaredReference, entity: "stamps", field: "i", rule: invoicesRule,
		sql:  "CREATE TABLE stamps (id INTEGER PRIMARY KEY, i INTEGER, FOREIGN KEY (i) REFERENCES invoices (id))",
		edit: func(s *connectors.System) { s.Ignored["stamps"] = "nothing personal" },
	},
	{
		code: FindUndeclaredReference, entity: "stamps", field: "i", rule: invoicesRule,
		sql: "CREATE TABLE stamps (id INTEGER PRIMARY KEY, c INTEGER NOT NULL, i INTEGER, FOREIGN KEY (i) REFERENCES invoices (id));\n" +
			"CREATE INDEX stamps_c ON stamps (c)",
		edit: func(s *connectors.System) {
			s.Entities = append(s.Entities, connectors.Entity{
				Name: "stamps", Erase: dsr.Delete, OwnedBy: []connectors.Owner{{Columns: []string{"c"}, Entity: "customers"}}, NotPersonal: []string{"i"},
			})
		},
	},
	{
		code: FindUndeclaredReference, entity: "stamps", field: "i", rule: invoicesRule, warn: true, sql: cascadingStamps,
		edit: func(s *connectors.System) { s.Ignored["stamps"] = "nothing personal" },
	},
	{
		code: FindUnindexedReference, entity: "stamps", field: "i", rule: invoicesRule, warn: true, on: "postgres sqlite", sql: cascadingStamps,
		edit: func(s *connectors.System) { s.Ignored["stamps"] = "nothing personal" },
	},
	{
		code: FindUnindexedReference, entity: "stamps", field: "i", rule: invoicesRule, on: "postgres sqlite",
		sql:  cascadingStamps + ";\n" + many("stamps", "id, i", "$n, NULL"),
		edit: func(s *connectors.System) { s.Ignored["stamps"] = "nothing personal" },
	},
	{ // what goes with what goes
		code: FindUndeclaredReference, entity: "scans", field: "s", rule: invoicesRule,
		sql: cascadingStamps + ";\nCREATE TABLE scans (id INTEGER PRIMARY KEY, s INTEGER, FOREIGN KEY (s) REFERENCES stamps (id))",
		edit: func(s *connectors.System) {
			s.Ignored["stamps"], s.Ignored["scans"] = "nothing personal", "nothing personal"
		},
	},
}

const cascadingStamps = "CREATE TABLE stamps (id INTEGER PRIMARY KEY, i INTEGER, FOREIGN KEY (i) REFERENCES invoices (id) ON DELETE CASCADE)"

func TestRulesThatFitYieldNoFinding(t *testing.T) {
	t.Parallel()
	for backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			require.Empty(t, check(t, backend, ruleSystem(), cleanSchema, ruleSchema))
		})
	}
}

// TestRuleDefects sees each defect reported, and what becomes of a sweep and of a request in spite of it: an error ends the
// rule's sweep as failed, with the finding and nothing deleted, is in its forecast and in the simulation of its map, and
// stops no request. A warning stops
// neither.
func TestRuleDefects(t *testing.T) {
	t.Parallel()
	for backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			o, site := newOffice(t), newSite(t, backend)
			for i := range ruleDefects {
				d := &ruleDefects[i]
				if d.on != "" && !slices.Contains(strings.Fields(d.on), backend) {
					continue
				}
				t.Run(fmt.Sprintf("%d/%s", i, d.code), func(t *testing.T) {
					s, raw := site.defective(t, ruleSchema+";\n"+d.sql, ruleRows+";\n"+d.rows, func(s *connectors.System) {
						*s = *ruleSystem()
						d.edit(s)
					})
					d.requireIn(t, checkURL(t, backend, s.Settings["dsn"].(string), s))
					w := o.open(t, s)
					before := ruled(t, raw)
					f, err := w.Forecast(t.Context(), observer, d.rule)
					require.NoError(t, err)
					sim, err := w.Simulate(t.Context(), observer, mapOf(t, s))
					require.NoError(t, err)
					i := slices.IndexFunc(sim.Rules, func(r engine.RuleDifference) bool { return r.Rule == d.rule })
					require.Equal(t, f.Rules[0].Would, sim.Rules[i].After.Would)
					swept := w.sweep(d.rule)
					switch {
					case d.fails != "":
						require.Equal(t, retention.SweepFailed, swept.State)
						require.Equal(t, d.fails, swept.Reason)
						require.Equal(t, before[0]-1, ruled(t, raw)[0], "what can be read is gone: %s", swept.Hint)
					case d.warn:
						require.Equal(t, retention.SweepDone, swept.State, "%s: %s", swept.Reason, swept.Hint)
						require.Empty(t, f.Rules[0].Would)
						require.NotEqual(t, before, ruled(t, raw))
					default:
						require.Equal(t, retention.SweepFailed, swept.State)
						require.Equal(t, "check-"+d.code, swept.Reason)
						require.NotEmpty(t, swept.Hint)
						require.Equal(t, before, ruled(t, raw))
						if f.Rules[0].Problem == "" { // it could be counted
							require.Equal(t, "check-"+d.code, f.Rules[0].Would)
							require.NotEmpty(t, f.Rules[0].Hint)
						}
					}
					requireErased(t, w.erase(), raw)
				})
			}
		})
	}
}

// ruled counts the rows of the entities that have rules, and those whose note is as it was.
func ruled(t *testing.T, db *sql.DB) [3]int {
	t.Helper()
	var n [3]int
	require.NoError(t, db.QueryRowContext(t.Context(),
		"SELECT (SELECT count(*) FROM logins), (SELECT count(*) FROM invoices), (SELECT count(*) FROM logins WHERE note = 'bob')").
		Scan(&n[0], &n[1], &n[2]))
	return n
}

// sweep carries out one rule now.
func (w *ignoring) sweep(rule string) *retention.Sweep {
	w.t.Helper()
	s, err := w.Sweep(w.t.Context(), ignorer, rule, true)
	require.NoError(w.t, err)
	for s.State == retention.SweepRunning {
		require.NoError(w.t, w.SweepSlice(w.t.Context(), engine.SweepSlice{SweepID: s.ID, Fence: s.Fence}))
		s, err = w.GetSweep(w.t.Context(), observer, s.ID)
		require.NoError(w.t, err)
		w.clock.forward(1e9)
	}
	return s
}
