package records

import (
	"strconv"
	"strings"
	"time"
)

// timeFormat reads the times of records.
type timeFormat struct {
	layouts []string // of package time
	unix    bool     // digits are seconds since 1970, or milliseconds, microseconds or nanoseconds by their size
	unit    time.Duration
	now     func() time.Time // tells the year of times without one
}

// automatic are the ways of writing a time that need no time_format.
var automatic = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04:05.999999999", time.DateOnly, "2006-01-02 15:04:05.999999999 -0700",
	"2006-01-02 15:04:05.999999999 -0700 MST", "2006-01-02 15:04:05.999999999 MST", time.RFC1123Z, time.RFC1123,
}

// directives are those of strftime that a time_format may have.
var directives = map[byte]string{
	'Y': "2006", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'p': "PM", 'M': "04", 'S': "05", 'y': "06",
	'b': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'z': "-0700", 'Z': "MST", 'F': "2006-01-02", 'T': "15:04:05",
	'D': "01/02/06", '%': "%",
}

func compileTime(s string) (timeFormat, error) {
	switch s {
	case "", "auto":
		return timeFormat{layouts: automatic, unix: true}, nil
	case "syslog": // of RFC 5424, and of RFC 3164
		return timeFormat{layouts: []string{time.RFC3339Nano, time.Stamp}}, nil
	case "unix":
		return timeFormat{unix: true, unit: time.Second}, nil
	case "unix_ms":
		return timeFormat{unix: true, unit: time.Millisecond}, nil
	}
	var layout strings.Builder
	day := false
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			if '0' <= s[i] && s[i] <= '9' {
				return timeFormat{}, invalid("has a digit outside of a directive", "write for example %Y-%m-%d")
			}
			layout.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) || directives[s[i]] == "" {
			return timeFormat{}, invalid("has an unknown directive", "write for example %d/%b/%Y:%H:%M:%S %z")
		}
		day = day || strings.IndexByte("deFD", s[i]) >= 0
		layout.WriteString(directives[s[i]])
	}
	if !day {
		return timeFormat{}, invalid("has no day", "write auto, unix, unix_ms, or for example %Y-%m-%d")
	}
	return timeFormat{layouts: []string{layout.String()}}, nil
}

// parse reads a time; one without a zone is of zone.
func (f timeFormat) parse(s string, zone *time.Location) (time.Time, bool) {
	if zone == nil {
		zone = time.UTC
	}
	s = strings.TrimSpace(s)
	if f.unix {
		if t, ok := f.number(s); ok {
			return t, true
		}
	}
	for _, layout := range f.layouts {
		t, err := time.ParseInLocation(layout, s, zone)
		if err != nil {
			continue
		}
		if t.Year() == 0 {
			t = f.thisYear(t)
		}
		return t, true
	}
	return time.Time{}, false
}

// thisYear gives a time without a year, as of RFC 3164, the latest year in which it is not in the future. It is then never earlier than
// it was, so that nothing is due before its time. 29 February is looked for in leap years.
func (f timeFormat) thisYear(t time.Time) time.Time {
	latest := f.now().Add(24 * time.Hour) // clocks and zones differ
	for y := latest.In(t.Location()).Year(); ; y-- {
		out := time.Date(y, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
		if out.Day() == t.Day() && !out.After(latest) {
			return out
		}
	}
}

// number reads seconds since 1970, with a fraction or not. Without a unit its size tells: seconds reach the year 5138
// with eleven digits, milliseconds begin in 1973 with twelve.
func (f timeFormat) number(s string) (time.Time, bool) {
	s = integral(s)
	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	digits := len(strings.TrimPrefix(whole, "-"))
	unit := f.unit
	if unit == 0 {
		switch {
		case digits <= 11:
			unit = time.Second
		case digits <= 14:
			unit = time.Millisecond
		case digits <= 17:
			unit = time.Microsecond
		default:
			unit = time.Nanosecond
		}
	}
	var t time.Time
	switch unit {
	case time.Second:
		t = time.Unix(n, 0)
	case time.Millisecond:
		t = time.UnixMilli(n)
	case time.Microsecond:
		t = time.UnixMicro(n)
	default:
		t = time.Unix(0, n)
	}
	if fraction != "" {
		part, err := strconv.ParseFloat("0."+fraction, 64)
		if err != nil || strings.HasPrefix(whole, "-") {
			return time.Time{}, false
		}
		t = t.Add(time.Duration(part * float64(unit)))
	}
	return t.UTC(), true
}
