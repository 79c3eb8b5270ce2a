package sqldb

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Starting points that are text or numbers, and what becomes of those that nobody can read: a row with one is never due. It stays and
// is counted, by Check before and by every Sweep at its end, which fails for it. Empty text and the year zero, which is how
// MySQL and text that came from it write it, say that there is no time yet.

// lastDay is the day after every due text's own day, in whatever zone that is: what an index serves.
func (u *starts) lastDay() string {
	return u.before.UTC().AddDate(0, 0, 1).Format(time.DateOnly)
}

// iso appends that text is an ISO 8601 date or time which is early enough. One that names UTC or the controller's zone is
// compared to the minute, which is exact, for days begin with one; one that names another waits until its day is over in
// every zone: two days at most.
func (u *starts) iso(s *statement, name string, less func(v string) *statement) {
	local := u.before.In(u.zone)
	s.add("(").readable(name).add(" AND ", name, " NOT LIKE '0000-%' AND (")
	less(local.AddDate(0, 0, -2).Format(time.DateOnly))
	s.add(" OR ")
	for _, zoned := range []string{"%Z", "%z", "%UTC", "%GMT", "%:%+__%", "%:%-__%"} {
		s.add(name, " NOT LIKE '", zoned, "' AND ")
	}
	less(local.Format(time.DateOnly))
	for _, offset := range u.offsets() {
		s.add(" OR replace(substr(", name, ", 1, 16), 'T', ' ') < ")
		s.arg(u.before.In(time.FixedZone("", offset)).Format("2006-01-02 15:04")).add(" AND (")
		for i, form := range offsetForms(offset) {
			if i > 0 {
				s.add(" OR ")
			}
			s.add(name, " LIKE '%:%", form, "'")
		}
		s.add(")")
	}
	s.add("))")
}

// isoText is an ISO 8601 date of the Gregorian calendar, with a time of day and a zone or without, as a regular expression
// that PostgreSQL and MariaDB read alike.
const isoText = "^([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|" +
	"([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)" +
	"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:([0-5][0-9]|60)([.][0-9]+){0,1}){0,1}( {0,1}(Z|z|UTC|GMT|[+-][0-9]{2}(:{0,1}[0-9]{2}){0,1})){0,1}){0,1}$"

// readable appends that text can be read as a date or a time.
func (s *statement) readable(name string) *statement {
	switch s.d.name {
	case postgres:
		return s.add(name, " ~ '", isoText, "'")
	case mariadb:
		return s.add(name, " REGEXP BINARY '", isoText, "'")
	}
	// SQLite has no regular expressions; it gives back the date of a day that there is, and another or none of others.
	s.add("coalesce(date(substr(", name, ", 1, 10), '+0 days'), '') = substr(", name, ", 1, 10) AND (length(", name, ") = 10 OR ")
	s.add("substr(", name, ", 11) GLOB '[T ][0-2][0-9]:[0-5][0-9]*' AND time(substr(", name, ", 12, 5)) IS NOT NULL AND ")
	return s.add("substr(", name, ", 17) NOT GLOB '*[^0-9:.+ ZzUTCGM-]*')")
}

// offsets are those of UTC and of the controller's zone within half a year of the cut-off, in seconds.
func (u *starts) offsets() []int {
	out := []int{0}
	for months := -6; months <= 6; months++ {
		if _, offset := u.before.AddDate(0, months, 0).In(u.zone).Zone(); offset%60 == 0 && !slices.Contains(out, offset) {
			out = append(out, offset)
		}
	}
	return out
}

// offsetForms are the ways to write an offset at the end of a time.
func offsetForms(offset int) []string {
	at := time.Time{}.In(time.FixedZone("", offset))
	out := []string{at.Format("-07:00"), at.Format("-0700")}
	if offset%3600 == 0 {
		out = append(out, at.Format("-07"))
	}
	if offset == 0 {
		out = append(out, "Z", "z", "-00:00", "UTC", "GMT")
	}
	return out
}

// lastSecond ends the year 9999, and is how programs write that something never ends. What is above counts milliseconds.
const lastSecond = "253402300799"

// textStart is a column of text, or of whole numbers, that a period starts with.
type textStart struct {
	e    *entity
	col  *column
	when []dsr.Condition // of the rule, where the rows are its own
}

// textual are the columns that the start is read from which may hold text: of the rule's own rows, of which when leaves
// some out, and of related ones.
func (u *starts) textual(when []dsr.Condition) []textStart {
	var out []textStart
	dates := u.m.d.dialect.name != postgres // elsewhere a column of dates may hold what is none
	add := func(e *entity, c *column, when []dsr.Condition) {
		if c != nil && (c.class == connectors.ClassText || c.class == connectors.ClassInteger || dates) {
			out = append(out, textStart{e, c, when})
		}
	}
	add(u.e, u.field, when)
	if u.null == retention.NullOther {
		add(u.e, u.other, when)
	}
	for _, r := range u.latest {
		add(r.path[0].child, r.col, nil)
	}
	return out
}

// unread counts rows whose start cannot be read, among those that would have been due by now if it were a date, and among
// those that sort behind every date: an index finds both once a Sweep is over. It looks at up to limit rows of either; at
// all when limit is 0.
func (u *starts) unread(ctx context.Context, s session, d *DB, c textStart, limit int) (int64, error) {
	var n int64
	var calls []*call
	name := c.col.quoted
	count := func(where func(q *statement)) {
		q := d.dialect.statement("SELECT count(*) FROM (SELECT ", name, " FROM ", c.e.from, " WHERE ").meets("", c.e, c.when).add(" AND ")
		where(q)
		calls = append(calls, q.call(func(values [][]byte) error { n += parseInt(values[0]); return nil }))
	}
	read := func(q *statement) {
		if limit > 0 {
			q.add(" ORDER BY ", name, " LIMIT ", strconv.Itoa(limit))
		}
		q.add(") AS t WHERE ")
	}
	if c.col.class == connectors.ClassInteger {
		count(func(q *statement) {
			if c.col.sqlite {
				q.add("typeof(", name, ") = 'integer' AND ")
			}
			q.add(name, " > ", lastSecond, " AND ", name, " < ", strconv.FormatInt(u.before.UnixMilli(), 10))
			read(q)
			q.add("1 = 1")
		})
		return n, s.run(ctx, calls...)
	}
	if c.col.class != connectors.ClassText && !c.col.sqlite { // MariaDB keeps dates whose month or day is not known
		count(func(q *statement) {
			q.add(name, " > '0000-00-00' AND ", name, " < ").arg(u.lastDay())
			read(q)
			q.add("month(", name, ") = 0 OR dayofmonth(", name, ") = 0")
		})
		return n, s.run(ctx, calls...)
	}
	for i, bound := range []string{u.lastDay(), "9999-12-32"} {
		count(func(q *statement) {
			q.add(name, []string{" < ", " > "}[i])
			if c.col.class == connectors.ClassText {
				q.value(c.col, cell{bound, true})
			} else {
				q.arg(bound)
			}
			read(q)
			if c.col.class != connectors.ClassText { // numbers are seconds
				q.add("typeof(", name, ") <> 'integer' AND ")
			}
			q.add(name, " <> '' AND ", name, " NOT LIKE '0000-%' AND NOT (").readable(name).add(")")
		})
	}
	return n, s.run(ctx, calls...)
}

// textual are the columns of text that decide when the rule's rows are due.
func (u *sweepRule) textual() []textStart {
	cols := u.start.textual(u.rule.When)
	for i := range u.after {
		cols = append(cols, u.after[i].start.textual(u.after[i].rule.When)...)
	}
	return cols
}

// allRead fails a Sweep that has left rows whose start it cannot read.
func (s *sweep) allRead(ctx context.Context) error {
	cols := s.u.textual()
	if len(cols) == 0 {
		return nil
	}
	r, release, err := s.d.reader(ctx)
	if err != nil {
		return err
	}
	defer release()
	for _, c := range cols {
		n, err := s.u.start.unread(ctx, r, s.d, c, 0)
		if err != nil {
			return err
		}
		if n > 0 {
			return connectors.Permanent(connectors.CodeStart, fmt.Sprintf("%s.%s: in %d rows the rule's start is no date, or no seconds since 1970; they stay", c.e.Name, c.col.Name, n),
				"Everything else that was due is gone. Correct the rows, or let the rule start elsewhere.", nil)
		}
	}
	return nil
}
