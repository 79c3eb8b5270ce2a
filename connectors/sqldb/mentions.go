package sqldb

import (
	"context"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// search looks for some subjects' identifiers in the declared free text of one entity, whoever owns the rows. The
// database narrows the rows by the identifiers' literal text where they have one; [mask.Matcher] decides.
type search struct {
	d      *DB
	e      *entity
	batch  connectors.Batch
	tenant string
	all    *mask.Matcher
	each   []*mask.Matcher // by subject; nil where the entity is not in the subject's plan
	words  []string
	narrow bool
	mark   *mark
}

// mention is a row whose free text names subjects.
type mention struct {
	cells    []cell // as entity.load
	subjects []int
	fields   []*column
	held     bool // by a hold on the entity
	minimum  bool // a statutory minimum of its own has not ended
}

func (d *DB) newSearch(e *entity, batch connectors.Batch) *search {
	s := &search{d: d, e: e, batch: batch, tenant: batch[0].Tenant, each: make([]*mask.Matcher, len(batch))}
	var ids []dsr.Identifier
	for i, sub := range batch {
		if sub.Entities != nil && !sub.Entities[e.Name] {
			continue
		}
		ids = append(ids, sub.Identifiers...)
		s.each[i] = mask.NewMatcher(sub.Identifiers, d.System.Identifiers)
	}
	s.all = mask.NewMatcher(ids, d.System.Identifiers)
	s.words, s.narrow = s.all.Words()
	return s
}

// searches splits the batch into what one pass looks for.
func (m *model) searches(batch connectors.Batch, held marks, covers func(e *entity) bool) []*search {
	var out []*search
	for start := 0; start < len(batch); {
		end := start
		for end < len(batch) && end-start < subjectsPerSearch && batch[end].Tenant == batch[start].Tenant {
			end++
		}
		for _, e := range m.entities {
			if len(e.mentions) == 0 || !covers(e) {
				continue
			}
			if s := m.d.newSearch(e, batch[start:end]); !s.all.Empty() {
				s.mark = held[e]
				out = append(out, s)
			}
		}
		start = end
	}
	return out
}

// page reads the next rows after a key that mention a subject, and the key to go on from; nil when there are no more.
func (s *search) page(ctx context.Context, on session, after key, lock bool) ([]mention, key, error) {
	e := s.e
	q := s.d.dialect.statement("SELECT ").list("", e.load).add(", ").list("", e.mentions).marked(e, s.mark).add(" FROM ", e.from, " WHERE ")
	if s.narrow {
		q.add("(")
		for i, c := range e.mentions {
			if i > 0 {
				q.add(" OR ")
			}
			q.contains("", c, s.words)
		}
		q.add(")")
	} else {
		q.add("(")
		for i, c := range e.mentions {
			if i > 0 {
				q.add(" OR ")
			}
			q.add(c.quoted, " IS NOT NULL")
		}
		q.add(")")
	}
	if after != nil {
		q.add(" AND ").after(e.key, after)
	}
	e.whereTenant(q, "", s.tenant)
	q.add(" ORDER BY ").names("", e.key).add(" LIMIT ").arg(mentionPage).add(s.d.dialect.forUpdate(lock))
	var found []mention
	var last key
	n := 0
	err := on.run(ctx, q.call(func(values [][]byte) error {
		n++
		texts := values[len(e.load) : len(e.load)+len(e.mentions)]
		if n == mentionPage {
			last = cells(values[:len(e.key)])
		}
		if !mentionedIn(s.all, e, texts) {
			return nil
		}
		m := mention{cells: cells(values[:len(e.load)])}
		if s.mark != nil {
			mark := string(values[len(values)-1])
			m.held, m.minimum = mark == markHeld, mark == markMinimum
		}
		for i, one := range s.each {
			if one == nil || one.Empty() || !mentionedIn(one, e, texts) {
				continue
			}
			m.subjects = append(m.subjects, i)
			for j, c := range e.mentions {
				if texts[j] != nil && finds(one, c, string(texts[j])) && !slices.Contains(m.fields, c) {
					m.fields = append(m.fields, c)
				}
			}
		}
		if len(m.subjects) > 0 {
			found = append(found, m)
		}
		return nil
	}))
	return found, last, err
}

func mentionedIn(m *mask.Matcher, e *entity, texts [][]byte) bool {
	for i, c := range e.mentions {
		if texts[i] != nil && finds(m, c, string(texts[i])) {
			return true
		}
	}
	return false
}

func finds(m *mask.Matcher, c *column, text string) bool {
	if c.class == connectors.ClassJSON {
		return m.FindJSON(text)
	}
	return m.Find(text)
}

// mentions redacts the subjects' identifiers in free text of rows that stay.
func (e *erasure) mentions(ctx context.Context) error {
	if !e.cp.Mentions {
		e.job.Journal.Step(StepMentions)
		if err := e.yield(); err != nil {
			return err
		}
		e.position(checkpointPosition{Next: len(e.batch), Mentions: true})
	}
	var ok connectors.Batch
	for _, s := range e.batch {
		if !e.hasFailed(s.Ref) {
			ok = append(ok, s)
		}
	}
	searches := e.m.searches(ok, e.marks, func(*entity) bool { return true })
	for i := e.cp.Batch; i < len(searches); i++ {
		after, resumed := key(nil), e.cp.Batch == i && e.cp.After != nil
		if resumed {
			for _, v := range e.cp.After {
				after = append(after, cell{v, true})
			}
		}
		for {
			var next key
			err := e.retry(ctx, func() error {
				var err error
				next, err = e.redactPage(ctx, searches[i], i, after)
				return err
			})
			if err != nil {
				return err
			}
			if next == nil {
				break
			}
			after = next
			if err := e.yield(); err != nil {
				return err
			}
		}
		e.position(checkpointPosition{Next: len(e.batch), Mentions: true, Batch: i + 1})
	}
	return nil
}

func (e *erasure) redactPage(ctx context.Context, s *search, at int, after key) (key, error) {
	tx, err := e.d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.rollback()
	held, err := e.m.heldRows(ctx, tx, e.job.Held, s.tenant, nil)
	if err != nil {
		return nil, err
	}
	found, next, err := s.page(ctx, tx, after, true)
	if err != nil {
		return nil, err
	}
	w := &work{d: e.d, c: &closure{m: e.m, batch: s.batch}, tx: tx, tenant: s.tenant, matcher: s.all}
	var rows []masked
	for _, m := range found {
		n := &node{e: s.e, cells: m.cells, credit: m.subjects[0], action: dsr.Redact}
		if m.held || m.minimum || held[s.e][n.key().id()] {
			continue
		}
		rows = append(rows, masked{n: n})
		w.count(n.credit, s.e, dsr.Redact, 1)
		if w.probe == nil {
			w.probe = &probe{Entity: s.e.Name, Key: spoolKey(n.key()), Mention: true}
		}
	}
	then := checkpointPosition{Next: len(e.batch), Mentions: true, Entity: s.e.Name, Batch: at}
	for _, c := range next {
		then.After = append(then.After, c.s)
	}
	if next == nil {
		then.Batch, then.After = at+1, nil
	}
	if len(rows) == 0 {
		e.position(then)
		return next, nil
	}
	calls, err := e.d.updates(ctx, tx, s.e, rows, s.tenant, s.all)
	if err != nil {
		return nil, err
	}
	if err := tx.run(ctx, calls...); err != nil {
		return nil, err
	}
	if err := w.flush(ctx, &pipeline{}); err != nil {
		return nil, err
	}
	return next, e.commit(ctx, tx, w, then)
}
