package sqldb

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
)

// Names of the dialects; they are also the names of the connector kinds ("mysql" is the MariaDB dialect).
const (
	postgres = "postgres"
	mariadb  = "mariadb"
	sqlite   = "sqlite"
)

// dialect is what differs between the databases in the statements that this package writes. Values travel as text
// in PostgreSQL, cast by the server to the column's own type, and as driver values elsewhere.
type dialect struct {
	name string
	// keysPerStatement bounds the list of keys in one statement.
	keysPerStatement int
	// arrays says that a list of keys is one array parameter, so that a statement's text does not depend on its size.
	arrays bool
	// locks says that SELECT … FOR UPDATE exists; SQLite has one writer instead.
	locks bool
	// aim is the share of a transaction's target that a Sweep's chunks aim at, and worst the share that they may take when they
	// are as slow as the slowest of late. InnoDB cleans up behind them and writes back what they changed, and is up to three
	// times slower from one chunk to the next.
	aim, worst float64
}

func dialectOf(kind string) *dialect {
	switch kind {
	case postgres:
		return &dialect{name: postgres, keysPerStatement: 5000, arrays: true, locks: true, aim: 0.4, worst: 1}
	case sqlite:
		return &dialect{name: sqlite, keysPerStatement: 500, aim: 0.4, worst: 1}
	}
	return &dialect{name: mariadb, keysPerStatement: 500, locks: true, aim: 0.33, worst: 0.8}
}

// quote quotes one name.
func (d *dialect) quote(name string) string {
	if d.name == mariadb {
		return "`" + strings.ReplaceAll(name, "`", "``") + "`"
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// forUpdate ends a SELECT that locks its rows.
func (d *dialect) forUpdate(lock bool) string {
	if lock && d.locks {
		return " FOR UPDATE"
	}
	return ""
}

// statement collects the text and the arguments of one statement.
type statement struct {
	d    *dialect
	sb   strings.Builder
	args []any
}

func (d *dialect) statement(parts ...string) *statement {
	s := &statement{d: d}
	return s.add(parts...)
}

// add appends text as it is; names in it are quoted already.
func (s *statement) add(parts ...string) *statement {
	for _, p := range parts {
		s.sb.WriteString(p)
	}
	return s
}

// arg appends a placeholder for a driver value.
func (s *statement) arg(v any) *statement {
	s.args = append(s.args, v)
	if s.d.arrays {
		s.sb.WriteByte('$')
		s.sb.WriteString(strconv.Itoa(len(s.args)))
		return s
	}
	s.sb.WriteByte('?')
	return s
}

// value appends a placeholder that has column c's type.
func (s *statement) value(c *column, v cell) *statement {
	if s.d.arrays {
		if !v.ok {
			return s.arg(nil).add("::", c.cast)
		}
		return s.arg(v.s).add("::", c.cast)
	}
	return s.param(c, v)
}

// param appends a placeholder where the server types it by what it is given. MariaDB compares as DOUBLE what is given for
// a FLOAT: 0.1 of the one is not 0.1 of the other.
func (s *statement) param(c *column, v cell) *statement {
	if s.d.name == mariadb && v.ok && strings.HasPrefix(c.Type, "float") {
		return s.add("CAST(").arg(c.driver(v)).add(" AS FLOAT)")
	}
	return s.arg(c.driver(v))
}

// in appends the predicate that a row's cols have one of the keys. Keys have the length of cols and no NULL.
func (s *statement) in(alias string, cols []*column, keys []key) *statement {
	if len(keys) == 0 {
		return s.add("1 = 0")
	}
	if s.d.arrays {
		if len(cols) == 1 {
			if from, to, gaps, ok := dense(cols[0], keys); ok {
				s.add("(", alias, cols[0].quoted, " BETWEEN ").value(cols[0], from).add(" AND ").value(cols[0], to)
				return s.add(" AND ", alias, cols[0].quoted, " <> ALL(").arg(gaps).add("::text[]::", cols[0].cast, "[]))")
			}
			list := make([]string, len(keys))
			for i, k := range keys {
				list[i] = k[0].s
			}
			return s.add(alias, cols[0].quoted, " = ANY(").arg(list).add("::text[]::", cols[0].cast, "[])")
		}
		s.add("(")
		for i, c := range cols {
			if i > 0 {
				s.add(", ")
			}
			s.add(alias, c.quoted)
		}
		s.add(") IN (SELECT * FROM unnest(")
		for i, c := range cols {
			if i > 0 {
				s.add(", ")
			}
			list := make([]string, len(keys))
			for j, k := range keys {
				list[j] = k[i].s
			}
			s.arg(list).add("::text[]::", c.cast, "[]")
		}
		return s.add("))")
	}
	if len(cols) == 1 {
		if runs := runsOf(cols[0], keys); runs != nil {
			return s.inRuns(alias, cols[0], runs)
		}
	}
	return s.named(alias, cols, keys)
}

// each is in for statements that lock rows by something that some of the keys may not have: MariaDB gets no ranges. InnoDB
// finds the end of a range by the first row behind it and locks that one, too. It is somebody else's: in a sweep, the
// neighbouring chunk's, and two chunks that wait for each other's rows end in a deadlock.
func (s *statement) each(alias string, cols []*column, keys []key) *statement {
	if len(keys) == 0 || s.d.name != mariadb {
		return s.in(alias, cols, keys)
	}
	return s.named(alias, cols, keys)
}

// named names every key.
func (s *statement) named(alias string, cols []*column, keys []key) *statement {
	if len(cols) == 1 {
		s.add(alias, cols[0].quoted, " IN (")
		for i, k := range keys {
			if i > 0 {
				s.add(",")
			}
			s.param(cols[0], k[0])
		}
		return s.add(")")
	}
	// MariaDB's range optimiser does not look inside a list of row values; it does look inside OR.
	s.add("(")
	for i, k := range keys {
		if i > 0 {
			s.add(" OR ")
		}
		s.add("(")
		for j, c := range cols {
			if j > 0 {
				s.add(" AND ")
			}
			s.add(alias, c.quoted, " = ").param(c, k[j])
		}
		s.add(")")
	}
	return s.add(")")
}

// runsOf returns whole numbers that are given in rising order as runs without a gap, nil when that is no shorter. Nothing
// lies between the numbers of a run, so "between its ends" names exactly them and is quicker to read.
func runsOf(c *column, keys []key) [][2]int64 {
	if c.class != connectors.ClassInteger || len(keys) < 8 {
		return nil
	}
	var runs [][2]int64
	for _, k := range keys {
		n, err := strconv.ParseInt(k[0].s, 10, 64)
		if err != nil {
			return nil
		}
		last := len(runs) - 1
		switch {
		case last >= 0 && n == runs[last][1]+1:
			runs[last][1] = n
			continue
		case len(runs) == len(keys)/4:
			return nil
		}
		runs = append(runs, [2]int64{n, n})
	}
	return runs
}

// maxGaps is how many numbers a range of keys may leave out: each row that is read is compared with all of them.
const maxGaps = 64

// dense returns the ends of whole numbers that are given in rising order and lack few of those between, with those. A
// range of an index is read in one go; for a list it is searched from the top for each number.
func dense(c *column, keys []key) (from, to cell, gaps []string, ok bool) {
	runs := runsOf(c, keys)
	if runs == nil {
		return from, to, nil, false
	}
	gaps = []string{}
	for i, r := range runs[1:] {
		missing := r[0] - runs[i][1] - 1
		if missing < 0 || missing > int64(maxGaps-len(gaps)) {
			return from, to, nil, false
		}
		for n := runs[i][1] + 1; n < r[0]; n++ {
			gaps = append(gaps, strconv.FormatInt(n, 10))
		}
	}
	return keys[0][0], keys[len(keys)-1][0], gaps, true
}

// inRuns appends that a column lies in one of the runs. For MariaDB the last number of a run is named by itself: the row by
// which the range's end is found is then the run's own, if that number has one. See [statement.each].
func (s *statement) inRuns(alias string, c *column, runs [][2]int64) *statement {
	s.add("(")
	for i, r := range runs {
		if i > 0 {
			s.add(" OR ")
		}
		from, to := r[0], r[1]
		if s.d.name == mariadb {
			s.add(alias, c.quoted, " = ").arg(to)
			if to--; to < from {
				continue
			}
			s.add(" OR ")
		}
		s.add(alias, c.quoted, " BETWEEN ").arg(from).add(" AND ").arg(to)
	}
	return s.add(")")
}

// after appends the keyset predicate: rows behind key in the order of cols. MariaDB does not seek by row values.
func (s *statement) after(cols []*column, k key) *statement {
	if len(cols) == 1 || s.d.name != mariadb {
		s.add("(")
		for i, c := range cols {
			if i > 0 {
				s.add(", ")
			}
			s.add(c.quoted)
		}
		s.add(") > (")
		for i, c := range cols {
			if i > 0 {
				s.add(", ")
			}
			s.value(c, k[i])
		}
		return s.add(")")
	}
	s.add("(").add(cols[0].quoted, " >= ").value(cols[0], k[0]).add(" AND (")
	for n := range cols {
		if n > 0 {
			s.add(" OR ")
		}
		s.add("(")
		for i := range n {
			s.add(cols[i].quoted, " = ").value(cols[i], k[i]).add(" AND ")
		}
		s.add(cols[n].quoted, " > ").value(cols[n], k[n]).add(")")
	}
	return s.add("))")
}

// cell is one value as text; ok is false for NULL.
type cell struct {
	s  string
	ok bool
}

// key is the values of a row's key columns, or of a reference's columns.
type key []cell

// complete reports whether no column is NULL.
func (k key) complete() bool {
	for _, c := range k {
		if !c.ok {
			return false
		}
	}
	return true
}

// id makes a map key of k: columns are length-prefixed, so that no two keys have the same id.
func (k key) id() string {
	if len(k) == 1 {
		return k[0].s
	}
	var sb strings.Builder
	for _, c := range k {
		sb.WriteString(strconv.Itoa(len(c.s)))
		sb.WriteByte(':')
		sb.WriteString(c.s)
	}
	return sb.String()
}

// keyOfID reads what id made of a key of n columns.
func keyOfID(id string, n int) key {
	if n == 1 {
		return key{{id, true}}
	}
	out := make(key, 0, n)
	for id != "" {
		length, rest, _ := strings.Cut(id, ":")
		size, err := strconv.Atoi(length)
		if err != nil || size > len(rest) {
			break // not made by id
		}
		out, id = append(out, cell{rest[:size], true}), rest[size:]
	}
	return out
}

// driver turns a cell into what database/sql takes for column c, so that the comparison has the column's type and an
// index can serve it.
func (c *column) driver(v cell) any {
	if !v.ok {
		return nil
	}
	switch c.class {
	case connectors.ClassInteger:
		if n, err := strconv.ParseInt(v.s, 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(v.s, 10, 64); err == nil {
			return n
		}
	case connectors.ClassBool:
		switch strings.ToLower(v.s) {
		case "t", "true", "1":
			return int64(1)
		case "f", "false", "0":
			return int64(0)
		}
	case connectors.ClassNumber:
		if c.sqlite {
			if f, err := strconv.ParseFloat(v.s, 64); err == nil {
				return f
			}
		}
	case connectors.ClassBinary:
		return []byte(v.s)
	}
	return v.s
}

// likeEscape escapes the wildcards of LIKE; the statement says ESCAPE '!'.
func likeEscape(s string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(s)
}

// textArray writes PostgreSQL's text form of an array.
func textArray(list []string) string {
	n := 2
	for _, s := range list {
		n += len(s) + 3
	}
	var sb strings.Builder
	sb.Grow(n)
	sb.WriteByte('{')
	for i, s := range list {
		if i > 0 {
			sb.WriteByte(',')
		}
		sb.WriteByte('"')
		for j := 0; j < len(s); j++ {
			if s[j] == '"' || s[j] == '\\' {
				sb.WriteByte('\\')
			}
			sb.WriteByte(s[j])
		}
		sb.WriteByte('"')
	}
	sb.WriteByte('}')
	return sb.String()
}

// pgText is the text form of a parameter.
func pgText(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(v), nil
	case []string:
		return []byte(textArray(v)), nil
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	}
	return nil, fmt.Errorf("parameter of unexpected type %T", v)
}
