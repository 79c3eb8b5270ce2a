package sqldb

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// exportSave is how many records are written between checkpoints.
const exportSave = 20_000

// exportPoint is what Export resumes from: subjects before Next are done, of the group at Next the entities before
// Entity, and of Entity the parts before Part and in it the rows up to After.
type exportPoint struct {
	Next   int      `json:"next"`
	Entity string   `json:"entity,omitempty"`
	Part   int      `json:"part,omitempty"`
	After  []string `json:"after,omitempty"`
	Done   bool     `json:"done,omitempty"`
}

type exporting struct {
	d       *DB
	m       *model
	job     connectors.Job
	sinks   connectors.SinkFor
	batch   connectors.Batch
	cp      exportPoint
	open    map[string]connectors.Sink
	tallies map[countKey]int64
	written int
	masks   map[*entity]*exportShape
}

// exportShape is how records of an entity look.
type exportShape struct {
	names   []string
	columns []*column
	specs   []mask.Spec // by column; empty Kind is none
	owned   []int       // index into ids of the identifier that a masked column holds, -1 when none
}

// Export writes every record of each subject to its sink. See [connectors.Exporter].
func (d *DB) Export(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
	m, err := d.modelOf(ctx)
	if err != nil {
		return err
	}
	if err := d.checkTenants(j.Batch); err != nil {
		return err
	}
	x := &exporting{
		d: d, m: m, job: j, sinks: sinks, batch: slices.Clone(j.Batch),
		open: map[string]connectors.Sink{}, tallies: map[countKey]int64{}, masks: map[*entity]*exportShape{},
	}
	slices.SortFunc(x.batch, func(a, b connectors.Subject) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Ref, b.Ref))
	})
	raw, err := j.Journal.Load(ctx)
	if err != nil {
		return err
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &x.cp); err != nil {
			return connectors.Permanent(CodeDatabase, "the checkpoint cannot be read", "It was written by another version of Lethe: retry the request.", nil)
		}
	}
	for !x.cp.Done && x.cp.Next < len(x.batch) {
		start := x.cp.Next
		end := start + 1
		for end < len(x.batch) && end-start < x.d.perTx && x.batch[end].Tenant == x.batch[start].Tenant {
			end++
		}
		if err := x.group(ctx, x.batch[start:end]); err != nil {
			return err
		}
		x.cp = exportPoint{Next: end, Done: end == len(x.batch)}
		if err := x.save(ctx); err != nil {
			return err
		}
	}
	if len(x.batch) == 0 && !x.cp.Done {
		x.cp.Done = true
		return x.save(ctx)
	}
	return nil
}

// save makes what was written durable; it reports ErrYield when the slice is over.
func (x *exporting) save(ctx context.Context) error {
	b, err := json.Marshal(x.cp)
	if err != nil {
		return err
	}
	var done []connectors.Tally
	for k, n := range x.tallies {
		done = append(done, connectors.Tally{Subject: k.subject, Entity: k.entity, Method: k.method, Rows: n})
	}
	slices.SortFunc(done, func(a, b connectors.Tally) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Entity, b.Entity))
	})
	if err := x.job.Journal.Save(ctx, b, done); err != nil {
		return err
	}
	x.tallies, x.written = map[countKey]int64{}, 0
	x.job.Journal.Step(StepExported)
	if !x.cp.Done && !x.job.Deadline.IsZero() && !x.d.now().Before(x.job.Deadline) {
		return connectors.ErrYield
	}
	return nil
}

func (x *exporting) sink(subject string) (connectors.Sink, error) {
	if s := x.open[subject]; s != nil {
		return s, nil
	}
	s, err := x.sinks(subject)
	if err != nil {
		return nil, err
	}
	x.open[subject] = s
	return s, nil
}

func (x *exporting) group(ctx context.Context, batch connectors.Batch) error {
	s, release, err := x.d.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { release() }()
	c := &closure{
		m: x.m, s: s, any: true, tenant: batch[0].Tenant, batch: batch,
		terms: newTerms(batch, x.d.System.Identifiers, x.d.pseudonyms),
	}
	if err := c.run(ctx); err != nil {
		return err
	}
	for _, e := range x.m.entities {
		if e.Name < x.cp.Entity {
			continue
		}
		if e.Name != x.cp.Entity {
			x.cp.Entity, x.cp.Part, x.cp.After = e.Name, 0, nil
		}
		if e.leaf {
			err = x.leaf(ctx, s, c, e)
		} else {
			err = x.rows(ctx, s, c, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// part is rows of one statement: those of cols with one of the keys, and who gets each.
type part struct {
	e    *entity
	tie  *tie
	cols []*column
	keys []key
	who  map[string][]int // by the id of cols' values
}

func (x *exporting) leaf(ctx context.Context, s session, c *closure, e *entity) error {
	t := e.owners[0]
	who := map[string][]int{}
	var keys []key
	var parents []*node
	for _, n := range c.nodes[t.parent] {
		if n.doomed && !n.accessed && c.permits(n.credit, e) {
			parents = append(parents, n)
		}
	}
	sortNodes(parents)
	for _, n := range parents {
		k := n.at(t.parentPos)
		if !k.complete() {
			continue
		}
		id := refID(t.refs, k)
		if who[id] == nil {
			keys = append(keys, k)
		}
		if !slices.Contains(who[id], n.credit) {
			who[id] = append(who[id], n.credit)
		}
	}
	i := 0
	for chunk := range slices.Chunk(keys, x.d.dialect.keysPerStatement) {
		if err := x.stream(ctx, s, c, i, part{e: e, tie: t, cols: t.cols, keys: chunk, who: who}); err != nil {
			return err
		}
		i++
	}
	return nil
}

func (x *exporting) rows(ctx context.Context, s session, c *closure, e *entity) error {
	who := map[string][]int{}
	var nodes []*node
	for _, n := range c.nodes[e] {
		if n.touched && n.allowed {
			nodes = append(nodes, n)
		}
	}
	sortNodes(nodes)
	for _, n := range nodes {
		id := n.key().id()
		who[id] = append(who[id], n.credit)
	}
	if err := x.mentioned(ctx, s, c, e, who, &nodes); err != nil {
		return err
	}
	slices.SortStableFunc(nodes, compareKeys)
	var keys []key
	last := ""
	for _, n := range nodes {
		if id := n.key().id(); id != last || len(keys) == 0 {
			keys, last = append(keys, n.key()), id
		}
	}
	i := 0
	for chunk := range slices.Chunk(keys, x.d.dialect.keysPerStatement) {
		if err := x.stream(ctx, s, c, i, part{e: e, cols: e.key, keys: chunk, who: who}); err != nil {
			return err
		}
		i++
	}
	return nil
}

// mentioned adds rows of others that name a subject in free text: an erasure would redact them, so they are shown,
// with other people's fields masked as the map says.
func (x *exporting) mentioned(ctx context.Context, s session, c *closure, e *entity, who map[string][]int, nodes *[]*node) error {
	for _, search := range x.m.searches(c.batch, nil, func(o *entity) bool { return o == e }) {
		var after key
		for {
			found, next, err := search.page(ctx, s, after, false)
			if err != nil {
				return err
			}
			for _, m := range found {
				id := key(m.cells[:len(e.key)]).id()
				for _, i := range m.subjects {
					at := slices.IndexFunc(c.batch, func(b connectors.Subject) bool { return b.Ref == search.batch[i].Ref })
					if !slices.Contains(who[id], at) {
						who[id] = append(who[id], at)
						*nodes = append(*nodes, &node{e: e, cells: m.cells, credit: at})
					}
				}
			}
			if next == nil {
				break
			}
			after = next
		}
	}
	return nil
}

var errMidway = errors.New("slice over in the middle of a statement")

// stream reads the rows of one part in key order and writes them.
func (x *exporting) stream(ctx context.Context, s session, c *closure, n int, p part) error {
	if n < x.cp.Part {
		return nil
	}
	if n != x.cp.Part {
		x.cp.Part, x.cp.After = n, nil
	}
	e := p.e
	shape := x.shape(e)
	q := x.d.dialect.statement("SELECT ").list("", e.key).add(", ").list("", p.cols)
	for _, col := range shape.columns {
		q.add(", ").document("", col)
	}
	q.add(" FROM ", e.from, " WHERE ").in("", p.cols, p.keys)
	if p.tie != nil {
		p.tie.whereTie(q, "")
	}
	e.whereTenant(q, "", c.tenant)
	if x.cp.After != nil {
		after := make(key, len(x.cp.After))
		for i, v := range x.cp.After {
			after[i] = cell{v, true}
		}
		q.add(" AND ").after(e.key, after)
	}
	if len(e.key) > 0 {
		q.add(" ORDER BY ").names("", e.key)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	values := make([]any, len(shape.columns))
	ref := make(key, len(p.cols))
	err := s.run(ctx, q.call(func(row [][]byte) error {
		for i := range p.cols {
			ref[i] = cell{string(row[len(e.key)+i]), true}
		}
		id := refID(p.cols, ref)
		for _, i := range p.who[id] {
			subject := c.batch[i].Ref
			sink, err := x.sink(subject)
			if err != nil {
				return err
			}
			if err := x.record(c, e, shape, i, row[len(e.key)+len(p.cols):], values); err != nil {
				return err
			}
			if err := sink.Record(e.Name, shape.names, values); err != nil {
				return err
			}
			x.tallies[countKey{subject, e.Name, dsr.Export}]++
			x.written++
		}
		if x.written < exportSave || e.keyless {
			return nil
		}
		x.cp.After = x.cp.After[:0]
		for i := range e.key {
			x.cp.After = append(x.cp.After, string(row[i]))
		}
		if err := x.save(ctx); err != nil {
			if errors.Is(err, connectors.ErrYield) {
				cancel() // do not read the rest of the answer
				return errMidway
			}
			return err
		}
		return nil
	}))
	if errors.Is(err, errMidway) {
		return connectors.ErrYield
	}
	return err
}

func (x *exporting) shape(e *entity) *exportShape {
	if s := x.masks[e]; s != nil {
		return s
	}
	s := &exportShape{}
	for _, col := range e.table.Columns {
		c := e.columns[col.Name]
		s.names = append(s.names, col.Name)
		s.columns = append(s.columns, c)
		s.specs = append(s.specs, e.ExportMask[col.Name])
		s.owned = append(s.owned, slices.IndexFunc(e.ids, func(id identified) bool { return id.col == c }))
	}
	x.masks[e] = s
	return s
}

// record converts one row for one subject. A field that the map masks in exports is another person's, unless it holds
// the subject's own identifier. In a person's own row nothing is another person's.
func (x *exporting) record(c *closure, e *entity, shape *exportShape, subject int, row [][]byte, values []any) error {
	own := func(i int) bool {
		if row[i] == nil || shape.owned[i] < 0 {
			return false
		}
		id := e.ids[shape.owned[i]]
		return slices.Contains(who(id, c.terms.byName[id.name], string(row[i])), subject)
	}
	self := false
	for i := range shape.columns {
		self = self || e.Subject && own(i)
	}
	for i, col := range shape.columns {
		if row[i] == nil {
			values[i] = nil
			continue
		}
		if spec := shape.specs[i]; spec.Kind != "" {
			if !self && !own(i) {
				v, err := x.d.applyMask(e, col, spec, cell{string(row[i]), true}, true, nil)
				if err != nil {
					return err
				}
				values[i] = nil
				if v.ok {
					values[i] = exported(col, []byte(v.s))
				}
				continue
			}
		}
		values[i] = exported(col, row[i])
	}
	return nil
}

// exported is a value as records carry it: numbers and documents keep their type, the rest is text.
func exported(c *column, b []byte) any {
	switch c.class {
	case connectors.ClassInteger:
		if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
			return n
		}
	case connectors.ClassNumber:
		if _, err := strconv.ParseFloat(string(b), 64); err == nil && json.Valid(b) {
			return json.Number(b)
		}
	case connectors.ClassBool:
		switch string(b) {
		case "t", "1", "true":
			return true
		case "f", "0", "false":
			return false
		}
	case connectors.ClassJSON, connectors.ClassArray:
		if json.Valid(b) {
			return json.RawMessage(slices.Clone(b))
		}
	case connectors.ClassBinary:
		if len(b) >= 2 && b[0] == '\\' && b[1] == 'x' {
			if raw, err := hex.DecodeString(string(b[2:])); err == nil {
				return raw
			}
		}
		return slices.Clone(b)
	}
	return string(b)
}
