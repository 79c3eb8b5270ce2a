// Package retention is the domain of retention in the terms of ISO/IEC 27555: deletion classes, starting points,
// regular deletion periods, and the dates that follow from them. It is calendar arithmetic over local dates; nothing
// here reads a clock or a database.
package retention

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Period is a calendar period of ISO 8601: years, months, weeks and days. The zero Period is no time at all.
type Period struct {
	Years, Months, Days int
}

// longestPeriod is the most days that a Period may have: a thousand years, before which no database keeps dates.
const longestPeriod = 366 * 1000

// ParsePeriod reads an ISO 8601 period of calendar units, such as P7Y, P1Y6M, P35D or P2W. Times of day are refused:
// retention is counted in days. So are more than a thousand years. The error is a *dsr.Error with CodeInvalid.
func ParsePeriod(s string) (Period, error) {
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" {
		return Period{}, badPeriod()
	}
	var p Period
	order := "YMWD"
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 {
			return Period{}, badPeriod()
		}
		n, err := strconv.Atoi(rest[:i])
		if err != nil || n > 1_000_000 {
			return Period{}, badPeriod()
		}
		at := strings.IndexByte(order, rest[i])
		if at < 0 {
			return Period{}, badPeriod()
		}
		switch rest[i] {
		case 'Y':
			p.Years = n
		case 'M':
			p.Months = n
		case 'W':
			p.Days += 7 * n
		case 'D':
			p.Days += n
		}
		order, rest = order[at+1:], rest[i+1:]
	}
	if p.longest() > longestPeriod {
		return Period{}, &dsr.Error{
			Code: dsr.CodeInvalid, Msg: "is longer than a thousand years", Hint: "data that stays for ever needs no deletion class",
		}
	}
	return p, nil
}

func badPeriod() error {
	return &dsr.Error{
		Code: dsr.CodeInvalid,
		Msg:  "is not an ISO 8601 period of years, months, weeks and days",
		Hint: "write for example P7Y, P6M or P30D",
	}
}

// String returns the canonical form; ParsePeriod reads it back.
func (p Period) String() string {
	s := "P"
	for _, u := range []struct {
		n    int
		unit string
	}{{p.Years, "Y"}, {p.Months, "M"}, {p.Days, "D"}} {
		if u.n != 0 {
			s += fmt.Sprint(u.n) + u.unit
		}
	}
	if s == "P" {
		return "P0D"
	}
	return s
}

// After returns the start of the local day that lies the period after day. Where the month reached has no such date it is
// that month's last day: 31 January + P1M is 28 or 29 February.
func (p Period) After(day time.Time) time.Time {
	return startOf(p.after(dateOf(day)), day.Location())
}

func (p Period) after(day date) date {
	y, m, d := day.t.Date()
	months := int(m) - 1 + p.Months
	return clamped(y+p.Years+months/12, time.Month(months%12+1), d).add(p.Days)
}

// longest is a bound on the period's days.
func (p Period) longest() int { return 366*p.Years + 31*p.Months + p.Days }

// Covers reports whether p ends no earlier than other, whatever day both start on: P366D covers P1Y, P365D does not.
func (p Period) Covers(other Period) bool {
	if p.Days >= other.Days && 12*p.Years+p.Months >= 12*other.Years+other.Months {
		return true
	}
	const cycle = 400*365 + 97 // days after which the Gregorian calendar repeats
	for first, n := newDate(2000, time.January, 1), 0; n < cycle; n++ {
		if day := first.add(n); other.after(day).after(p.after(day)) {
			return false
		}
	}
	return true
}
