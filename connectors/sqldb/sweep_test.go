package sqldb_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// stockholm is the controller's zone in these tests.
var stockholm = func() *time.Location {
	l, err := time.LoadLocation("Europe/Stockholm")
	if err != nil {
		panic(err)
	}
	return l
}()

// cutAt cuts at the start of a local day.
func cutAt(day string) connectors.Cut {
	t, err := time.ParseInLocation(time.DateOnly, day, stockholm)
	if err != nil {
		panic(err)
	}
	return connectors.Cut{Before: t, Zone: stockholm}
}

// ruleOn deletes by a column.
func ruleOn(field string) connectors.Rule {
	return connectors.Rule{Rule: retention.Rule{
		Name: "shop.rule", Action: retention.Delete, Start: retention.StartingPoint{Kind: retention.StartField, Field: field},
	}}
}

// sweep runs a Sweep to its end and returns what it tallied, as [journal.sum].
func (f *fixture) sweep(db *sqldb.DB, entity string, r connectors.Rule, cut connectors.Cut, held connectors.Holds) map[string]int64 {
	f.t.Helper()
	j := &journal{}
	f.finish(db, connectors.SweepJob{Entity: entity, Rule: r, Cut: cut, Held: held, Journal: j})
	return j.sum()
}

// finish calls Sweep until it is done.
func (f *fixture) finish(db *sqldb.DB, job connectors.SweepJob) {
	f.t.Helper()
	for range 1000 {
		_, err := db.Sweep(context.Background(), job)
		if err == nil {
			return
		}
		require.ErrorIs(f.t, err, connectors.ErrYield)
	}
	require.Fail(f.t, "the sweep does not end")
}

// due asks Due for one cut-off.
func (f *fixture) due(db *sqldb.DB, entity string, r connectors.Rule, cut connectors.Cut, held connectors.Holds) connectors.Due {
	f.t.Helper()
	got, err := db.Due(context.Background(), connectors.DueQuery{Entity: entity, Rule: r, Cuts: []connectors.Cut{cut}, Held: held})
	require.NoError(f.t, err)
	require.Len(f.t, got, 1)
	got[0].Bytes = 0
	return got[0]
}

func TestStartingPointsOfEveryType(t *testing.T) {
	t.Parallel()
	// The cut is the local midnight of 1 July in Stockholm: 22:00 UTC of 30 June.
	cases := []struct {
		name string
		// column's type by kind, and values: due rows first
		types     map[string]string
		due, kept []string
		unread    []string // no date: it stays, and the sweep fails for it
	}{
		{
			"time with a zone",
			map[string]string{"postgres": "timestamptz", "mariadb": "timestamp"},
			[]string{"'2024-06-30 21:59:59+00'", "'2023-01-01 00:00:00+00'"},
			[]string{"'2024-06-30 22:00:00+00'", "'2024-07-02 00:00:00+00'"},
			nil,
		},
		{
			"time without a zone",
			map[string]string{"postgres": "timestamp", "mariadb": "datetime", "sqlite": "datetime"},
			[]string{"'2024-06-30 23:59:59'", "'2023-01-01 00:00:00'"},
			[]string{"'2024-07-01 00:00:00'", "'2024-07-02 00:00:00'"},
			nil,
		},
		{
			"date",
			map[string]string{"postgres": "date", "mariadb": "date", "sqlite": "date"},
			[]string{"'2024-06-30'", "'2023-01-01'"},
			[]string{"'2024-07-01'", "'2024-07-02'"},
			nil,
		},
		{
			"date without a day",
			map[string]string{"mariadb": "date"},
			[]string{"'2024-06-30'"},
			[]string{"'2024-07-01'", "'0000-00-00'"},
			[]string{"'2024-00-00'", "'2023-05-00'"},
		},
		{
			"text",
			map[string]string{"postgres": "text", "mariadb": "varchar(40)", "sqlite": "text"},
			[]string{
				"'2024-06-30'", "'2024-06-30 23:59:59'", "'2024-06-30T23:59'", "'2024-06-28T10:00:00Z'", "'2024-06-28 10:00:00+02:00'", "'2024-06-28T10:00:00-0500'",
				"'2024-06-30T21:59:59Z'", "'2024-06-30T21:59Z'", "'2024-06-30 21:59:59 UTC'", "'2024-06-30 23:59:59 +0200'", "'2024-02-29'", "'2000-02-29 10:00'", "'2024-06-30 21:59:59.999+00'", "'2024-06-30T23:59:59.9+02:00'", "'2024-06-30 22:59:59+0100'",
			},
			[]string{
				"'2024-07-01'", "'2024-07-01T00:00'", "'2024-06-30T22:30:00Z'", "''", "'0000-00-00'", "'0000-00-00 00:00:00'", "'2024-06-30T23:00:00-05'", "'2024-06-30T22:00Z'",
				"'2024-07-01T00:00+02:00'", "'2024-06-30T22:00:00+00:00'", "'2024-06-30 23:00:00+0100'", "'2024-06-30T10:00:00-05:00'",
				"'2024-06-30 22:00:00 UTC'", "'2024-06-30 23:59:59 GMT'",
			},
			[]string{
				"'1/2/2023'", "'2020-13-45'", "'2020-00-10'", "'2020-01-00'", "'2023-02-29'", "'1900-02-29'", "'2020-06-31'", "'2020-01-01x'",
				"'2020-01-01 25:00'", "'2020-01-01T10'", "'2020-01-01 10:00 CET'", "'abcd-ef-gh'", "'soon'", "'2020-06-30T10:00x'",
			},
		},
		{
			"seconds since 1970",
			map[string]string{"postgres": "bigint", "mariadb": "bigint", "sqlite": "integer"},
			[]string{"1719784799", "1000000000"},
			[]string{"1719784800", "1719784800000", "253402300799", "0"},
			[]string{"1719784799999", "1000000000000"}, // milliseconds
		},
		{
			"seconds in a date column",
			map[string]string{"sqlite": "datetime"},
			[]string{"1719784799", "'2024-06-30'"},
			[]string{"1719784800", "0"},
			[]string{"'x'", "'2024-02-31'"},
		},
	}
	onEach(t, func(t *testing.T, f *fixture) {
		for i, c := range cases {
			typ, ok := c.types[f.kind]
			if !ok {
				continue
			}
			table := fmt.Sprintf("t%d", i)
			f.exec("CREATE TABLE " + table + " (id BIGINT PRIMARY KEY, at " + typ + " NULL)")
			var all, kept []string
			for n, v := range slices.Concat(c.due, c.kept, c.unread) {
				if f.kind == "mariadb" && typ == "timestamp" {
					v = strings.Replace(v, "+00", "", 1)
				}
				all = append(all, fmt.Sprintf("(%d, %s)", n+1, v))
				if n >= len(c.due) {
					kept = append(kept, fmt.Sprint(n+1))
				}
			}
			kept = append(kept, "99")
			if f.kind == "mariadb" {
				f.exec("SET time_zone = '+00:00', sql_mode = ''; INSERT INTO " + table + " VALUES " + strings.Join(all, ", ") + ", (99, NULL)")
			} else {
				f.exec("INSERT INTO " + table + " VALUES " + strings.Join(all, ", ") + ", (99, NULL)")
			}
			db := f.open(connectors.Entity{Name: table, Erase: dsr.Delete})
			r := ruleOn("at")
			r.Start.Null = retention.NullKeep
			n := int64(len(c.due))
			require.Equal(t, connectors.Due{Rows: n, Total: int64(len(all)) + 1}, f.due(db, table, r, cutAt("2024-07-01"), connectors.Holds{}), c.name)
			j := &journal{}
			_, err := db.Sweep(context.Background(), connectors.SweepJob{Entity: table, Rule: r, Cut: cutAt("2024-07-01"), Journal: j})
			if len(c.unread) > 0 {
				require.True(t, connectors.IsPermanent(err), c.name)
				require.Equal(t, connectors.CodeStart, dsr.CodeOf(err), c.name)
				require.ErrorContains(t, err, fmt.Sprintf("in %d rows", len(c.unread)), c.name)
			} else {
				require.NoError(t, err, c.name)
			}
			if n > 0 {
				require.Equal(t, map[string]int64{table + " delete": n}, j.sum(), c.name)
			}
			require.Equal(t, kept, f.rows("SELECT id FROM "+table+" ORDER BY id"), c.name)
		}
	})
}

// Both sides of retention, for columns of every type around the days on which clocks and calendars are odd: what began on a
// day goes on the day that its class says, and not an instant earlier.
func TestRetentionHasTwoSidesOnOddDays(t *testing.T) {
	t.Parallel()
	type column struct{ name, typ, layout string }
	columns := map[string][]column{
		"postgres": {{"d", "date", time.DateOnly}, {"w", "timestamp", time.DateTime}, {"z", "timestamptz", time.RFC3339}},
		"mariadb":  {{"d", "date", time.DateOnly}, {"w", "datetime", time.DateTime}, {"z", "timestamp NULL", "utc"}},
		"sqlite":   {{"d", "date", time.DateOnly}, {"w", "datetime", time.DateTime}, {"z", "text", time.RFC3339}},
	}
	texts := []column{{"t", "varchar(40)", "2006-01-02T15:04:05"}, {"u", "varchar(40)", "utc T"}, {"o", "varchar(40)", time.RFC3339}, {"n", "bigint", "unix"}}
	odd := map[string][]string{ // the cut-off's days
		"Europe/Stockholm":    {"2024-02-29", "2024-03-01", "2024-03-31", "2024-04-01", "2024-10-27", "2024-10-28", "2025-01-01"},
		"America/New_York":    {"2024-03-10", "2024-03-11", "2024-11-03", "2024-11-04"},
		"America/Sao_Paulo":   {"2018-02-18", "2018-11-04", "2018-11-05"}, // days that begin at one o'clock, or have an hour twice at midnight
		"Pacific/Apia":        {"2011-12-29", "2011-12-31"},               // the day between was left out
		"Asia/Kathmandu":      {"2024-02-29"},
		"Pacific/Kiritimati":  {"2024-03-01"},
		"Australia/Lord_Howe": {"2024-04-07", "2024-10-06"},
	}
	onEach(t, func(t *testing.T, f *fixture) {
		list := append(slices.Clone(columns[f.kind]), texts...)
		for zone, days := range odd {
			loc, err := time.LoadLocation(zone)
			require.NoError(t, err)
			for _, day := range days {
				begin, err := time.ParseInLocation(time.DateOnly, day, loc)
				require.NoError(t, err)
				class := retention.Class{Start: retention.Collection, Period: retention.Period{Days: 0}}
				before := class.Cutoff(begin.Add(12*time.Hour).AddDate(0, 0, -1)) // due yesterday: what began before today
				var rows []string
				want := map[string][]string{}
				for i, offset := range []time.Duration{
					-49 * time.Hour, -25 * time.Hour, -time.Hour - time.Second, -time.Minute, -time.Second, 0, time.Second, time.Minute, time.Hour, 25 * time.Hour,
				} {
					at := before.Add(offset)
					values := make([]string, 0, len(list))
					for _, c := range list {
						v := at.In(loc).Format(c.layout)
						switch c.layout {
						case "utc":
							v = at.UTC().Format(time.DateTime)
						case "utc T":
							v = at.UTC().Format("2006-01-02T15:04:05Z")
						case "unix":
							v = fmt.Sprint(at.Unix())
						}
						values = append(values, "'"+v+"'")
						if class.DeletableOn(at.In(loc)).Before(before) {
							want[c.name] = append(want[c.name], fmt.Sprint(i))
						}
					}
					rows = append(rows, fmt.Sprintf("(%d, %s)", i, strings.Join(values, ", ")))
				}
				defs := ""
				for _, c := range list {
					defs += ", " + c.name + " " + c.typ
				}
				f.exec("DROP TABLE IF EXISTS odd;\nCREATE TABLE odd (id BIGINT PRIMARY KEY" + defs + ")")
				insert := "INSERT INTO odd VALUES " + strings.Join(rows, ", ")
				if f.kind == "mariadb" {
					insert = "SET STATEMENT time_zone = '+00:00' FOR " + insert
				}
				db := f.open(connectors.Entity{Name: "odd", Erase: dsr.Delete})
				for _, c := range list {
					f.exec("DELETE FROM odd;\n" + insert)
					label := fmt.Sprintf("%s %s, column %s", zone, day, c.name)
					cut := connectors.Cut{Before: before, Zone: loc}
					require.EqualValues(t, len(want[c.name]), f.due(db, "odd", ruleOn(c.name), cut, connectors.Holds{}).Rows, label)
					f.sweep(db, "odd", ruleOn(c.name), cut, connectors.Holds{})
					left := f.rows("SELECT id FROM odd ORDER BY id")
					require.Len(t, left, 10-len(want[c.name]), label)
					for _, id := range want[c.name] {
						require.NotContains(t, left, id, label)
					}
				}
				require.NoError(t, db.Close())
			}
		}
	})
}

const logins = `
CREATE TABLE logins (id BIGINT PRIMARY KEY, at DATE NULL, seen DATE NULL, kind VARCHAR(10), email VARCHAR(100), ip VARCHAR(40), born DATE, phone VARCHAR(30));
CREATE INDEX logins_at ON logins (at);
INSERT INTO logins VALUES (1, '2024-01-01', NULL, 'a', 'a@example.com', '192.0.2.7', '1990-05-05', '+46701740605'),
 (2, '2024-02-01', '2024-02-02', 'b', 'b@example.com', '192.0.2.7', NULL, NULL), (3, '2024-03-01', NULL, 'a', NULL, NULL, '1980-01-01', NULL),
 (4, NULL, '2024-01-15', 'a', 'd@example.com', '2001:db8:1:2::3', NULL, NULL), (5, NULL, NULL, 'b', 'e@example.com', NULL, NULL, NULL),
 (6, '2024-06-01', NULL, NULL, 'f@example.com', NULL, NULL, NULL);
`

func TestConditionsMissingStartsAndEarlierRules(t *testing.T) {
	t.Parallel()
	cut := cutAt("2024-03-02")
	for name, c := range map[string]struct {
		rule  func(r *connectors.Rule)
		after []connectors.Bound
		goes  string
	}{
		"no conditions":   {func(*connectors.Rule) {}, nil, "1 2 3"},
		"a value":         {func(r *connectors.Rule) { r.When = []dsr.Condition{{Field: "kind", Values: []string{"a"}}} }, nil, "1 3"},
		"values":          {func(r *connectors.Rule) { r.When = []dsr.Condition{{Field: "id", Values: []string{"2", "3", "6"}}} }, nil, "2 3"},
		"null":            {func(r *connectors.Rule) { r.When = []dsr.Condition{{Field: "seen", Null: true}} }, nil, "1 3"},
		"not null":        {func(r *connectors.Rule) { r.When = []dsr.Condition{{Field: "seen", NotNull: true}} }, nil, "2"},
		"due when null":   {func(r *connectors.Rule) { r.Start.Null = retention.NullDue }, nil, "1 2 3 4 5"},
		"another if null": {func(r *connectors.Rule) { r.Start.Null, r.Start.NullField = retention.NullOther, "seen" }, nil, "1 2 3 4"},
		"an earlier rule": {func(*connectors.Rule) {}, []connectors.Bound{{Rule: ruleOn("at"), Before: cutAt("2024-02-15").Before}}, "1 2"},
		"an earlier rule of others": {func(*connectors.Rule) {}, []connectors.Bound{{
			Rule: func() connectors.Rule {
				r := ruleOn("at")
				r.When = []dsr.Condition{{Field: "kind", Values: []string{"a"}}}
				return r
			}(), Before: cutAt("2024-01-01").Before,
		}}, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, f *fixture) {
				f.exec(logins)
				db := f.open(connectors.Entity{Name: "logins"})
				r, at := ruleOn("at"), cut
				r.Start.Null = retention.NullKeep
				at.After = c.after
				c.rule(&r)
				goes := strings.Fields(c.goes)
				require.EqualValues(t, len(goes), f.due(db, "logins", r, at, connectors.Holds{}).Rows)
				require.Equal(t, map[string]int64{"logins delete": int64(len(goes))}, f.sweep(db, "logins", r, at, connectors.Holds{}))
				left := f.rows("SELECT id FROM logins ORDER BY id")
				require.Len(t, left, 6-len(goes))
				for _, id := range goes {
					require.NotContains(t, left, id)
				}
				require.Empty(t, f.sweep(db, "logins", r, at, connectors.Holds{}), "twice is once")
			})
		})
	}
}

// Single precision is compared as such: 0.1 of it is another number than 0.1 of double precision.
func TestConditionOnASinglePrecisionNumber(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		kind := "FLOAT"
		if f.kind == "postgres" {
			kind = "REAL"
		}
		f.exec("CREATE TABLE scores (id BIGINT PRIMARY KEY, at DATE NOT NULL, score " + kind + ");" +
			"INSERT INTO scores VALUES (1, '2024-01-01', 0.1), (2, '2024-01-01', 0.25), (3, '2024-01-01', 0.3)")
		db := f.open(connectors.Entity{Name: "scores"})
		r := ruleOn("at")
		for _, c := range []struct {
			when []string
			left []string
		}{{[]string{"0.10"}, []string{"2", "3"}}, {[]string{"0.3", "0.7"}, []string{"2"}}} {
			r.When = []dsr.Condition{{Field: "score", Values: c.when}}
			f.sweep(db, "scores", r, cutAt("2024-12-01"), connectors.Holds{})
			require.Equal(t, c.left, f.rows("SELECT id FROM scores ORDER BY id"), "%v", c.when)
		}
	})
}

func TestDueCountsEveryCutInOrder(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(logins)
		db := f.open(connectors.Entity{Name: "logins"})
		r := ruleOn("at")
		held := connectors.Holds{Entities: []connectors.Frozen{{Entity: "logins", When: []dsr.Condition{{Field: "kind", Values: []string{"b"}}}}}}
		got, err := db.Due(context.Background(), connectors.DueQuery{
			Entity: "logins", Rule: r, Held: held,
			Cuts: []connectors.Cut{cutAt("2024-01-15"), cutAt("2024-02-15"), cutAt("2024-12-01"), cutAt("2023-01-01")},
		})
		require.NoError(t, err)
		var rows, heldRows []int64
		for _, d := range got {
			rows, heldRows = append(rows, d.Rows), append(heldRows, d.Held)
			require.EqualValues(t, 6, d.Total)
		}
		require.Equal(t, []int64{1, 2, 4, 0}, rows)
		require.Equal(t, []int64{0, 1, 1, 0}, heldRows)
		require.Equal(t, map[string]int64{"logins delete": 3, "logins held": 1}, f.sweep(db, "logins", r, cutAt("2024-12-01"), held))
		require.Equal(t, []string{"2", "4", "5"}, f.rows("SELECT id FROM logins ORDER BY id"))
	})
}

func TestMaskedRowsAreNotDueAgain(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(logins)
		db := f.open(connectors.Entity{Name: "logins", Fields: []connectors.Field{idField("email", "email"), idField("phone", "phone")}})
		r := ruleOn("at")
		r.Action = retention.Pseudonymise
		cut := cutAt("2024-03-02")
		step := func(masks map[string]mask.Spec, n int64) {
			t.Helper()
			r.Masks = masks
			require.Equal(t, n, f.due(db, "logins", r, cut, connectors.Holds{}).Rows, "%v", masks)
			require.Equal(t, map[string]int64{"logins mask": n}, f.sweep(db, "logins", r, cut, connectors.Holds{}), "%v", masks)
			require.Zero(t, f.due(db, "logins", r, cut, connectors.Holds{}).Rows, "%v", masks)
			require.Empty(t, f.sweep(db, "logins", r, cut, connectors.Holds{}), "%v", masks)
		}
		before := f.rows("SELECT * FROM logins WHERE id > 3 ORDER BY id")
		step(map[string]mask.Spec{"ip": {Kind: mask.TruncateIP}}, 2)
		step(map[string]mask.Spec{"born": {Kind: mask.Year}}, 1)
		step(map[string]mask.Spec{"email": {Kind: mask.HMAC}, "phone": random}, 3)
		step(map[string]mask.Spec{"kind": constant("gone"), "phone": null}, 3)
		require.Equal(t, []string{
			"1|gone|192.0.2.0|1990|NULL", "2|gone|192.0.2.0|NULL|NULL", "3|gone|NULL|1980|NULL",
		}, f.rows("SELECT id, kind, ip, substr(CAST(born AS CHAR(10)), 1, 4), phone FROM logins WHERE id <= 3 ORDER BY id"))
		for _, email := range f.rows("SELECT email FROM logins WHERE id <= 2") {
			require.True(t, mask.Made(email, mask.Email))
		}
		require.Equal(t, before, f.rows("SELECT * FROM logins WHERE id > 3 ORDER BY id"))
		r.Masks = map[string]mask.Spec{"ip": random}
		_, err := db.Sweep(context.Background(), connectors.SweepJob{Entity: "logins", Rule: r, Cut: cut, Journal: &journal{}})
		require.True(t, connectors.IsPermanent(err), "%v", err)
	})
}

func TestExpireAndUnusableRulesArePermanent(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(logins)
		db := f.open(connectors.Entity{Name: "logins"})
		for name, change := range map[string]func(r *connectors.Rule, entity *string){
			"expire":         func(r *connectors.Rule, _ *string) { r.Action = retention.Expire },
			"no such entity": func(_ *connectors.Rule, e *string) { *e = "nowhere" },
			"no such column": func(r *connectors.Rule, _ *string) { r.Start.Field = "nowhere" },
			"object age":     func(r *connectors.Rule, _ *string) { r.Start = retention.StartingPoint{Kind: retention.StartObject} },
			"no such condition": func(r *connectors.Rule, _ *string) {
				r.When = []dsr.Condition{{Field: "nowhere", Null: true}}
			},
		} {
			r, entity := ruleOn("at"), "logins"
			change(&r, &entity)
			_, err := db.Sweep(context.Background(), connectors.SweepJob{Entity: entity, Rule: r, Cut: cutAt("2030-01-01"), Journal: &journal{}})
			require.True(t, connectors.IsPermanent(err), "%s: %v", name, err)
		}
		r := ruleOn("at")
		r.Action = retention.Next
		require.Empty(t, f.sweep(db, "logins", r, cutAt("2030-01-01"), connectors.Holds{}), "nothing to do yet")
		require.Len(t, f.rows("SELECT id FROM logins"), 6)
	})
}
