package sqldb

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// keyed is the predicate that names the rows of a DELETE or an UPDATE. The zero value names none. It is made by
// [keysOf], [childrenOf] and [childrenUpTo] only.
type keyed struct {
	cols []*column
	keys []key
	tie  *tie
	each bool // key by key: see [statement.each]
}

// keysOf names rows by their own key.
func keysOf(e *entity, keys []key) keyed { return keyed{cols: e.key, keys: keys} }

// childrenOf names rows by their only owner's key.
func childrenOf(t *tie, parents []key) keyed {
	return keyed{cols: t.cols, keys: parents, tie: t, each: true}
}

// childrenUpTo is childrenOf for parents of which the last one has children: see [chunkTx.childParts].
func childrenUpTo(t *tie, parents []key) keyed { return keyed{cols: t.cols, keys: parents, tie: t} }

// change is a DELETE or an UPDATE. Its text is written by [DB.change] and nowhere else.
type change struct {
	e      *entity
	tenant string
	where  keyed
	set    []assignment // an UPDATE when not empty
	limit  int          // a DELETE of at most so many rows; 0 is all
	count  *tie         // a DELETE that returns how many rows each parent had
	row    func(values [][]byte) error
}

// assignment sets a column to one value for all rows, or to one value a row, in the order of the keys.
type assignment struct {
	col    *column
	value  cell
	perRow []cell
}

// change writes the statement. A statement that lacks its key predicate, or its tenant where the entity has one, is
// refused: whatever went wrong before, it would reach rows that no plan named.
func (d *DB) change(c change) (*call, error) {
	refuse := func(why string) (*call, error) {
		return nil, connectors.Permanent(dsr.CodeOverCap, "refused to change "+c.e.Name+": "+why, "This is a defect of Lethe: report it.", nil)
	}
	if len(c.where.cols) == 0 || len(c.where.keys) == 0 {
		return refuse("the statement has no key")
	}
	for _, k := range c.where.keys {
		if len(k) != len(c.where.cols) || !k.complete() {
			return refuse("a key is not complete")
		}
	}
	if c.e.tenant != nil && c.tenant == "" {
		return refuse("the statement has no tenant")
	}
	if len(c.set) > 0 {
		return d.update(c), nil
	}
	where := func(s *statement, alias string) *statement {
		if c.where.each {
			s.each(alias, c.where.cols, c.where.keys)
		} else {
			s.in(alias, c.where.cols, c.where.keys)
		}
		if c.where.tie != nil {
			c.where.tie.whereTie(s, alias)
		}
		return c.e.whereTenant(s, alias, c.tenant)
	}
	s := d.dialect.statement()
	switch {
	case c.limit > 0 && d.dialect.name == mariadb:
		where(s.add("DELETE FROM ", c.e.from, " WHERE "), "").add(" LIMIT ").arg(c.limit)
	case c.limit > 0 && d.dialect.arrays && len(c.e.key) == 1: // by an array: the rows are found through their key's index
		key := c.e.key[0].quoted
		where(s.add("DELETE FROM ", c.e.from, " WHERE ", key, " = ANY(ARRAY(SELECT ", key, " FROM ", c.e.from, " WHERE "), "")
		s.add(" LIMIT ").arg(c.limit).add(d.dialect.forUpdate(true), "))")
	case c.limit > 0:
		s.add("DELETE FROM ", c.e.from, " WHERE (").names("", c.e.key).add(") IN (SELECT ").names("", c.e.key)
		where(s.add(" FROM ", c.e.from, " WHERE "), "").add(" LIMIT ").arg(c.limit)
		s.add(d.dialect.forUpdate(true), ")")
	case c.count != nil && d.dialect.name == postgres:
		s.add("WITH gone AS (DELETE FROM ", c.e.from, " WHERE ")
		where(s, "").add(" RETURNING ").names("", c.count.cols).add(") SELECT ").list("", c.count.cols)
		s.add(", count(*) FROM gone GROUP BY ").names("", c.count.cols)
	default:
		where(s.add("DELETE FROM ", c.e.from, " WHERE "), "")
	}
	return s.call(c.row), nil
}

// update writes an UPDATE: one value for all rows, or a list of values joined by key.
func (d *DB) update(c change) *call {
	perRow := slices.ContainsFunc(c.set, func(a assignment) bool { return a.perRow != nil })
	s := d.dialect.statement("UPDATE ", c.e.from)
	if !perRow {
		s.add(" SET ")
		for i, a := range c.set {
			if i > 0 {
				s.add(", ")
			}
			s.add(a.col.quoted, " = ").value(a.col, a.value)
		}
		s.add(" WHERE ").in("", c.where.cols, c.where.keys)
		return c.e.whereTenant(s, "", c.tenant).call(c.row)
	}
	at := func(a assignment, i int) cell {
		if a.perRow != nil {
			return a.perRow[i]
		}
		return a.value
	}
	switch d.dialect.name {
	case postgres:
		s.add(" AS t SET ")
		for i, a := range c.set {
			if i > 0 {
				s.add(", ")
			}
			s.add(a.col.quoted, " = v.c", strconv.Itoa(i), "::", a.col.cast)
		}
		s.add(" FROM unnest(")
		for i := range c.where.cols {
			list := make([]string, len(c.where.keys))
			for j, k := range c.where.keys {
				list[j] = k[i].s
			}
			if i > 0 {
				s.add(", ")
			}
			s.arg(list).add("::text[]")
		}
		for _, a := range c.set {
			list := make([]cell, len(c.where.keys))
			for j := range c.where.keys {
				list[j] = at(a, j)
			}
			s.add(", ").arg(nullableArray(list)).add("::text[]")
		}
		s.add(") AS v(")
		for i := range c.where.cols {
			if i > 0 {
				s.add(", ")
			}
			s.add("k", strconv.Itoa(i))
		}
		for i := range c.set {
			s.add(", c", strconv.Itoa(i))
		}
		s.add(") WHERE ")
		for i, k := range c.where.cols {
			if i > 0 {
				s.add(" AND ")
			}
			s.add("t.", k.quoted, " = v.k", strconv.Itoa(i), "::", k.cast)
		}
		return c.e.whereTenant(s, "t.", c.tenant).call(c.row)
	default:
		// SQLite and MariaDB: a CASE by key. Chunks are small, and the key predicate bounds the rows.
		s.add(" SET ")
		for i, a := range c.set {
			if i > 0 {
				s.add(", ")
			}
			s.add(a.col.quoted, " = ")
			if a.perRow == nil {
				s.value(a.col, a.value)
				continue
			}
			s.add("CASE")
			for j, k := range c.where.keys {
				s.add(" WHEN ")
				for n, kc := range c.where.cols {
					if n > 0 {
						s.add(" AND ")
					}
					s.add(kc.quoted, " = ").value(kc, k[n])
				}
				s.add(" THEN ").value(a.col, a.perRow[j])
			}
			s.add(" ELSE ", a.col.quoted, " END")
		}
		s.add(" WHERE ").in("", c.where.cols, c.where.keys)
		return c.e.whereTenant(s, "", c.tenant).call(c.row)
	}
}

// nullableArray is the text form of an array with NULLs.
func nullableArray(list []cell) string {
	var sb strings.Builder
	sb.WriteByte('{')
	for i, c := range list {
		if i > 0 {
			sb.WriteByte(',')
		}
		if !c.ok {
			sb.WriteString("NULL")
			continue
		}
		one := textArray([]string{c.s})
		sb.WriteString(one[1 : len(one)-1])
	}
	sb.WriteByte('}')
	return sb.String()
}

// masked is one row with the masks that apply to it.
type masked struct {
	n     *node
	masks []map[string]mask.Spec
	nulls []*column
}

// updates computes the new values of rows of one entity and writes them: rows that need the same columns share a
// statement. Rows are in key order. Free text that stays is redacted in the same statement.
func (d *DB) updates(ctx context.Context, s session, e *entity, rows []masked, tenant string, matcher *mask.Matcher) ([]*call, error) {
	var calls []*call
	groups := map[string][]masked{}
	var order []string
	for _, r := range rows {
		shape := fmt.Sprintf("%v|%v", r.masks, columnNames(r.nulls))
		if groups[shape] == nil {
			order = append(order, shape)
		}
		groups[shape] = append(groups[shape], r)
	}
	for _, shape := range order {
		group := groups[shape]
		columns, specs := e.maskedColumns(group[0])
		for _, c := range columns {
			if err := specs[c.Name].Holds(e.target(c)); err != nil && !(specs[c.Name].Kind == mask.Redact && c.class == connectors.ClassText) {
				return nil, connectors.Permanent(CodeValue, e.Name+"."+c.Name+": a mask cannot hold in its column", "Run `lethe check` and correct the mask.", err)
			}
		}
		read := e.readColumns(columns, specs, matcher)
		size := d.dialect.keysPerStatement
		if d.dialect.name != postgres {
			size = 100
		}
		for chunk := range slices.Chunk(group, size) {
			cs, err := d.updateChunk(ctx, s, e, chunk, columns, specs, read, tenant, matcher)
			if err != nil {
				return nil, err
			}
			calls = append(calls, cs...)
		}
	}
	return calls, nil
}

// maskedColumns are the columns that change, in a stable order.
func (e *entity) maskedColumns(r masked) ([]*column, map[string]mask.Spec) {
	specs := map[string]mask.Spec{}
	for _, m := range r.masks {
		for name, spec := range m {
			specs[name] = spec
		}
	}
	for _, c := range r.nulls {
		specs[c.Name] = mask.Spec{Kind: mask.Null}
	}
	var columns []*column
	for name := range specs {
		columns = append(columns, e.columns[name])
	}
	slices.SortFunc(columns, func(a, b *column) int { return strings.Compare(a.Name, b.Name) })
	return columns, specs
}

// readColumns are the columns whose old value decides the new one.
func (e *entity) readColumns(columns []*column, specs map[string]mask.Spec, matcher *mask.Matcher) []*column {
	var read []*column
	for _, c := range columns {
		switch specs[c.Name].Kind {
		case mask.Null, mask.Constant, mask.Random:
		default:
			read = append(read, c)
		}
	}
	if matcher != nil && !matcher.Empty() {
		for _, c := range e.mentions {
			if _, ok := specs[c.Name]; !ok {
				read = append(read, c)
			}
		}
	}
	return read
}

func (d *DB) updateChunk(ctx context.Context, s session, e *entity, chunk []masked, columns []*column, specs map[string]mask.Spec,
	read []*column, tenant string, matcher *mask.Matcher,
) ([]*call, error) {
	keys := make([]key, len(chunk))
	for i, r := range chunk {
		keys[i] = r.n.key()
	}
	old := map[string][]cell{}
	if len(read) > 0 {
		q := d.dialect.statement("SELECT ").list("", e.key).add(", ").list("", read).add(" FROM ", e.from, " WHERE ").in("", e.key, keys)
		err := s.run(ctx, e.whereTenant(q, "", tenant).call(func(values [][]byte) error {
			row := cells(values)
			old[key(row[:len(e.key)]).id()] = row[len(e.key):]
			return nil
		}))
		if err != nil {
			return nil, err
		}
	}
	if len(columns) == 0 && len(read) == 0 {
		return nil, nil
	}
	readAt := map[string]int{}
	for i, c := range read {
		readAt[c.Name] = i
	}
	var sets []assignment
	for _, c := range append(slices.Clone(columns), read...) {
		if slices.ContainsFunc(sets, func(a assignment) bool { return a.col == c }) {
			continue
		}
		spec, ok := specs[c.Name]
		if !ok {
			spec = mask.Spec{Kind: mask.Redact}
		}
		a := assignment{col: c}
		switch spec.Kind {
		case mask.Null:
		case mask.Constant:
			a.value = cell{spec.Value, true}
		default:
			a.perRow = make([]cell, len(chunk))
			for i := range chunk {
				var in cell
				if at, ok := readAt[c.Name]; ok {
					row := old[keys[i].id()]
					if row == nil {
						continue // gone meanwhile
					}
					in = row[at]
				}
				v, err := d.applyMask(e, c, spec, in, ok, matcher)
				if err != nil {
					return nil, err
				}
				a.perRow[i] = v
			}
		}
		sets = append(sets, a)
	}
	cl, err := d.change(change{e: e, tenant: tenant, where: keysOf(e, keys), set: sets})
	if err != nil {
		return nil, err
	}
	return []*call{cl}, nil
}

// applyMask computes one new value. declared says that the map masks the column itself; otherwise it is free text, in
// which only identifiers are redacted.
func (d *DB) applyMask(e *entity, c *column, spec mask.Spec, in cell, declared bool, matcher *mask.Matcher) (cell, error) {
	input := mask.Input{Target: e.target(c), Keys: d.pseudonyms}
	if in.ok {
		input.Value = any(in.s)
		if c.class == connectors.ClassInteger && spec.Kind == mask.Generalise {
			n, err := strconv.ParseInt(in.s, 10, 64)
			if err == nil {
				input.Value = n
			}
		}
		if c.class == connectors.ClassNumber && spec.Kind == mask.Generalise {
			f, err := strconv.ParseFloat(in.s, 64)
			if err == nil {
				input.Value = f
			}
		}
	}
	for _, id := range e.ids {
		if id.col == c {
			input.Domain = id.name
			if in.ok && spec.Kind == mask.HMAC {
				input.Value = normalise(id.kind, stored(c, in.s))
			}
		}
	}
	// A declared redact takes the whole text: a name under it must not stay because it is no identifier. Free text in
	// mentions, and documents of others, lose the identifiers only.
	if spec.Kind == mask.Redact && (!declared || slices.Contains(e.mentions, c) || c.class == connectors.ClassJSON) {
		input.Matcher = matcher
	}
	out, err := spec.Apply(input)
	if err != nil {
		return cell{}, connectors.Permanent(CodeValue, e.Name+"."+c.Name+": a mask does not fit a value", "Run `lethe check` and correct the mask.", err)
	}
	if out == nil {
		return cell{}, nil
	}
	text := textOf(out)
	if spec.Kind == mask.Year && c.class == connectors.ClassTime && len(text) == len(time.DateOnly) {
		text += " 00:00:00"
	}
	return cell{text, true}, nil
}

// textOf is a masked value as it travels.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case time.Time:
		return v.Format("2006-01-02 15:04:05.999999")
	}
	return fmt.Sprint(v)
}

// spoolKey is a row's key as the journal keeps it.
func spoolKey(k key) connectors.Key {
	list := make([]string, len(k))
	for i, c := range k {
		list[i] = c.s
	}
	b, err := json.Marshal(list)
	if err != nil {
		return "[]"
	}
	return connectors.Key(b)
}

func parseKey(k connectors.Key) (key, bool) {
	var list []string
	if json.Unmarshal([]byte(k), &list) != nil {
		return nil, false
	}
	out := make(key, len(list))
	for i, s := range list {
		out[i] = cell{s, true}
	}
	return out, true
}

func integerBits(typ string) int {
	base, _, _ := strings.Cut(strings.ToLower(typ), "(")
	bits := map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}[strings.Fields(base + " x")[0]]
	if bits == 0 {
		return 64
	}
	return bits
}
