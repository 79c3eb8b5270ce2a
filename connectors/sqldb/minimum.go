package sqldb

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// minimum is a statutory minimum of rows of one entity.
type minimum struct {
	starts
	rule connectors.Rule // with the minimum as its class's period
}

// minimaOf reads the statutory minima of an entity's rows as they stand today, which is in the controller's time zone.
func (m *model) minimaOf(e *entity, today time.Time) ([]minimum, error) {
	var out []minimum
	for _, b := range e.Minima(today) {
		if err := e.checkConditions("rule", b.Rule.When); err != nil {
			return nil, err
		}
		s, err := m.newStarts(e, b.Rule, b.Before, today.Location())
		if err != nil {
			return nil, err
		}
		out = append(out, minimum{starts: s, rule: b.Rule})
	}
	return out, nil
}

// unfinished appends that it has not ended for a row.
func (u *minimum) unfinished(s *statement) {
	s.add("(").meets("", u.e, u.rule.When).add(" AND CASE WHEN ")
	u.ended(s)
	s.add(" THEN 0 ELSE 1 END = 1)")
}

// erasureMarks are the marks under which an erasure reads rows: holds on entities, and statutory minima of those that do
// not say keep, which have said what stays of theirs.
func (m *model) erasureMarks(held connectors.Holds) (marks, error) {
	out, err := m.frozenMarks(held)
	if err != nil {
		return nil, err
	}
	today := m.d.System.Today(m.d.now())
	for _, e := range m.entities {
		if e.Keep != nil {
			continue
		}
		minima, err := m.minimaOf(e, today)
		switch {
		case err != nil:
			return nil, err
		case len(minima) == 0:
		case e.keyless:
			return nil, wrongMap(e.Name, "", "a statutory minimum is of rows that cannot be told apart", "Give the table a primary key.")
		default:
			out.of(e).minimum = minima
		}
	}
	return out, nil
}

// furthest is how many days ahead the end of a minimum is looked for: a start may lie in the future.
const furthest = 100 * 366

// ends finds the day on which the statutory minima of rows have all ended, by the id of their keys: the first on which an
// erasure takes them. Rows whose day nobody can tell, because the period has not begun, are left out. Only the database can
// compare a start of any form with a day, so it is asked what has ended in the middle of the time in which each row's day
// lies, until that is one day.
func (m *model) ends(ctx context.Context, s session, tenant string, e *entity, keys []key) (map[string]time.Time, error) {
	today := m.d.System.Today(m.d.now())
	y, mo, d := today.Date()
	day := func(n int) time.Time { return time.Date(y, mo, d+n, 12, 0, 0, 0, today.Location()) } // noon: there may be no midnight
	type row struct {
		key       key
		low, high int // days on which it has not ended, and on which it has
	}
	open := make([]*row, 0, len(keys))
	rows := map[string]*row{}
	for _, k := range keys {
		if rows[k.id()] == nil {
			rows[k.id()] = &row{key: k, high: -1}
			open = append(open, rows[k.id()])
		}
	}
	for at := furthest; len(open) > 0; at = 0 {
		byDay := map[int][]key{}
		for _, r := range open {
			n := at // the first time; then every row has a day of its own
			if n == 0 {
				n = (r.low + r.high) / 2
			}
			byDay[n] = append(byDay[n], r.key)
		}
		over := map[string]bool{}
		var calls []*call
		for n, asked := range byDay {
			minima, err := m.minimaOf(e, day(n))
			if err != nil {
				return nil, err
			}
			for chunk := range slices.Chunk(asked, m.d.dialect.keysPerStatement) {
				q := m.d.dialect.statement("SELECT ").list("", e.key).add(" FROM ", e.from, " WHERE ").in("", e.key, chunk)
				for i := range minima {
					q.add(" AND CASE WHEN ")
					minima[i].unfinished(q)
					q.add(" THEN 0 ELSE 1 END = 1")
				}
				calls = append(calls, e.whereTenant(q, "", tenant).call(func(values [][]byte) error {
					over[key(cells(values)).id()] = true
					return nil
				}))
			}
		}
		if err := s.run(ctx, calls...); err != nil {
			return nil, err
		}
		next := open[:0]
		for _, r := range open {
			switch {
			case at > 0 && over[r.key.id()]:
				r.high = at
			case at > 0:
				continue
			case over[r.key.id()]:
				r.high = (r.low + r.high) / 2
			default:
				r.low = (r.low + r.high) / 2
			}
			if r.high-r.low > 1 {
				next = append(next, r)
			}
		}
		open = next
	}
	out := map[string]time.Time{}
	for id, r := range rows {
		if r.high > 0 {
			out[id] = retention.Period{}.After(day(r.high))
		}
	}
	return out, nil
}

// waitingRow is a row of a subject's that stays for now, or several of a leaf. Without rows it is only what others wait for.
type waitingRow struct {
	subject connectors.Subject
	e       *entity
	field   string
	rows    int64
	key     key
	own     bool // the minimum is its own, and not that of a row which it leads to or belongs to
}

// waiting are the rows that wait for statutory minima.
type waiting []waitingRow

// causes notes the subjects' rows that are under a minimum, for which others may wait.
func (w *waiting) causes(c *closure) {
	_ = c.each(func(n *node) error {
		if n.minimum && n.touched {
			*w = append(*w, waitingRow{subject: c.batch[n.credit], e: n.e, key: n.key(), own: true})
		}
		return nil
	})
}

// waitingPlace is where rows of one subject wait.
type waitingPlace struct {
	subject string
	e       *entity
	field   string
}

// days finds how many rows can go from which day on. One that waits for others is taken to wait for the last of its
// subject's rows that are under a minimum: all are looked at again whenever one of them can go.
func (w waiting) days(ctx context.Context, m *model, s session) (map[waitingPlace]map[time.Time]int64, error) {
	type place struct {
		tenant string
		e      *entity
	}
	keys := map[place][]key{}
	for _, r := range w {
		if r.own {
			at := place{r.subject.Tenant, r.e}
			keys[at] = append(keys[at], r.key)
		}
	}
	ends := map[place]map[string]time.Time{}
	for at, k := range keys {
		var err error
		if ends[at], err = m.ends(ctx, s, at.tenant, at.e, k); err != nil {
			return nil, err
		}
	}
	end := func(r waitingRow) time.Time { return ends[place{r.subject.Tenant, r.e}][r.key.id()] }
	bySubject := map[string]map[time.Time]int64{}
	for _, r := range w {
		if r.own {
			count(bySubject, r.subject.Ref, end(r), 1)
		}
	}
	out := map[waitingPlace]map[time.Time]int64{}
	for _, r := range w {
		if r.rows == 0 {
			continue
		}
		at := waitingPlace{r.subject.Ref, r.e, r.field}
		last := connectors.LastDay(bySubject[r.subject.Ref])
		switch {
		case r.own:
			count(out, at, end(r), r.rows)
		case last != nil:
			count(out, at, *last, r.rows)
		default:
			count(out, at, time.Time{}, r.rows)
		}
	}
	return out, nil
}

func count[K comparable](days map[K]map[time.Time]int64, at K, day time.Time, n int64) {
	if days[at] == nil {
		days[at] = map[time.Time]int64{}
	}
	days[at][day] += n
}

// counts are what waits as Locate counts it.
func (w waiting) counts(ctx context.Context, m *model, s session) ([]connectors.Count, error) {
	days, err := w.days(ctx, m, s)
	if err != nil {
		return nil, err
	}
	var out []connectors.Count
	for at, of := range days {
		c := connectors.Count{
			Subject: at.subject, Entity: at.e.Name, Method: dsr.Wait, TableRows: at.e.table.Rows,
			Exception: &dsr.Exception{Cause: dsr.CauseMinimum, Ends: connectors.LastDay(of)},
		}
		for _, n := range of {
			c.Rows += n
		}
		out = append(out, c)
	}
	return out, nil
}

// residue is what waits as Verify returns it.
func (w waiting) residue(ctx context.Context, m *model, s session) ([]dsr.Residue, error) {
	days, err := w.days(ctx, m, s)
	if err != nil {
		return nil, err
	}
	var out []dsr.Residue
	for at, of := range days {
		r := dsr.Residue{Subject: at.subject, System: m.d.System.Name, Entity: at.e.Name, Field: at.field}
		out = append(out, connectors.Unfinished(r, of)...)
	}
	return out, nil
}

// compareWaits puts what does not wait before what does, then by cause, earlier days before later ones and none.
func compareWaits(a, b *dsr.Exception) int {
	day := func(x *dsr.Exception) (cause dsr.Cause, known int, ends time.Time) {
		switch {
		case x == nil:
			return "", 0, ends
		case x.Ends == nil:
			return x.Cause, 1, ends
		}
		return x.Cause, 0, *x.Ends
	}
	aCause, aKnown, aEnds := day(a)
	bCause, bKnown, bEnds := day(b)
	return cmp.Or(cmp.Compare(aCause, bCause), cmp.Compare(aKnown, bKnown), aEnds.Compare(bEnds))
}
