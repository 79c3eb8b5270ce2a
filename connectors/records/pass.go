package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Scan reads one object and calls fn for every hit in order; fn may be nil. name chooses the compression when the map
// does not. A damaged object, or one of another format, is a permanent *dsr.Error that gives the offset and no content.
// An error of r or fn is returned as it is. fn is called by the caller's goroutine. Scan waits for a Read of r that has
// begun, so r must give up when ctx ends.
func (f *Finder) Scan(ctx context.Context, name string, r io.Reader, fn func(*Hit) error) (Totals, error) {
	return f.pass(ctx, name, r, nil, fn)
}

// Rewrite copies one object without what is deleted, and with what is masked or redacted. Bytes of untouched records are
// unchanged, and so is the compression's kind. Reading, matching and writing overlap; memory is bounded whatever the
// object's size. On an error what was written is not to be used.
func (f *Finder) Rewrite(ctx context.Context, name string, r io.Reader, w io.Writer) (Totals, error) {
	return f.pass(ctx, name, r, w, nil)
}

// block is a run of whole records on its way through a pass. Its channel gives it back to the pass in the object's
// order.
type block struct {
	data     []byte // uncompressed; nil while it is only in raw
	raw      []byte // the member it came in, when it is one that may be copied
	preamble int    // bytes before the first record of the object
	offset   int64  // of data in the object
	weight   int    // tokens of memory
	done     chan struct{}

	// what a worker found out
	out    []byte // as it is to be written
	hits   []*Hit
	totals Totals
	lines  int64 // line feeds in data; counted where there are hits to be given
	err    error
}

// workers is how many goroutines match and compress.
func workers() int { return max(2, min(runtime.GOMAXPROCS(0), 4)) }

// memory is how many blocks may be on their way at once: one with each worker, one being read, one being written, and
// one that waits.
func memory() int { return workers() + 3 }

// pass runs an object through matching. One goroutine reads, decompresses and cuts it into blocks; some match and
// compress blocks; the caller's takes them in order, and writes.
func (f *Finder) pass(ctx context.Context, name string, r io.Reader, w io.Writer, fn func(*Hit) error) (Totals, error) {
	if f.err != nil {
		return Totals{}, f.err
	}
	outer := ctx
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	in, err := newStream(f.l.compression, name, r)
	if err != nil {
		return Totals{}, err
	}
	defer in.close()
	var all sync.WaitGroup
	defer all.Wait() // before in is closed
	defer stop()

	c := &cutter{l: f.l, in: in, free: make(chan struct{}, memory()), spare: make(spare, 3*memory())}
	for range memory() {
		c.free <- struct{}{}
	}
	todo, order := make(chan *block), make(chan *block, memory())
	all.Go(func() {
		defer close(order)
		defer close(todo)
		c.run(ctx, func(b *block) bool {
			select {
			case order <- b:
			case <-ctx.Done():
				return false
			}
			if b.err != nil {
				close(b.done)
				return true
			}
			select {
			case todo <- b:
				return true
			case <-ctx.Done():
				return false
			}
		})
	})
	var unsearched sync.Map
	for range workers() {
		all.Go(func() {
			var m *matching
			for b := range todo {
				if m == nil {
					if m, b.err = newMatching(f, c, w != nil, fn != nil); b.err != nil {
						m = nil
						close(b.done)
						continue
					}
				}
				m.run(b)
			}
			if m != nil {
				for _, name := range m.unsearched() {
					unsearched.Store(name, true)
				}
			}
		})
	}
	t, err := f.collect(ctx, c, in, order, w, fn)
	stop()
	all.Wait()
	if err == nil {
		err = outer.Err()
	}
	if err != nil {
		return Totals{}, err
	}
	unsearched.Range(func(name, _ any) bool { t.Unsearched = append(t.Unsearched, name.(string)); return true })
	slices.Sort(t.Unsearched)
	t.Unsearched = t.Unsearched[:min(len(t.Unsearched), maxUnsearched)]
	return t, nil
}

// collect takes the blocks in order.
func (f *Finder) collect(ctx context.Context, c *cutter, in *stream, order <-chan *block, w io.Writer, fn func(*Hit) error) (Totals, error) {
	var t Totals
	var viewer *worker
	var lines int64 // before the block
	wrote := false
	for {
		var b *block
		var ok bool
		select {
		case b, ok = <-order:
		case <-ctx.Done():
			return t, ctx.Err()
		}
		if !ok {
			break
		}
		select {
		case <-b.done:
		case <-ctx.Done():
			return t, ctx.Err()
		}
		if b.err != nil {
			return t, b.err
		}
		if len(b.hits) > 0 && viewer == nil {
			var err error
			if viewer, err = f.worker(c.shape); err != nil {
				return t, err
			}
		}
		for _, h := range b.hits {
			h.worker = viewer // the one that found it works on other blocks
			h.Line += lines
			if err := fn(h); err != nil {
				return t, err
			}
		}
		if w != nil && len(b.out) > 0 {
			wrote = true
			if _, err := w.Write(b.out); err != nil {
				return t, err
			}
		}
		t.add(b.totals)
		lines += b.lines
		for _, buf := range [][]byte{b.data, b.raw, b.out} {
			c.spare.put(buf)
		}
		for range b.weight {
			c.free <- struct{}{}
		}
	}
	if w != nil && !wrote {
		// an empty file of a compression has a frame all the same
		e, err := newEncoder(in.kind)
		if err != nil {
			return t, err
		}
		out, err := e.encode(nil, nil, f.l.format.ends())
		if err != nil {
			return t, err
		}
		if _, err := w.Write(out); err != nil {
			return t, err
		}
	}
	return t, ctx.Err()
}

func (t *Totals) add(o Totals) {
	t.Records += o.Records
	t.Bytes += o.Bytes
	t.Left += o.Left
	t.Changed = t.Changed || o.Changed
	if t.Unread == 0 {
		t.UnreadAt = o.UnreadAt
	}
	t.Unread += o.Unread
	if o.Latest.After(t.Latest) {
		t.Latest = o.Latest
	}
	for _, y := range o.Tallies {
		t.tally(y)
	}
}

func (t *Totals) tally(y connectors.Tally) {
	for i := range t.Tallies {
		if x := &t.Tallies[i]; x.Subject == y.Subject && x.Method == y.Method {
			x.Rows += y.Rows
			return
		}
	}
	t.Tallies = append(t.Tallies, y)
}

// worker makes what one goroutine needs.
func (f *Finder) worker(s shape) (*worker, error) {
	p, err := s.parser(f.paths)
	if err != nil {
		return nil, damaged(0, err)
	}
	return &worker{Finder: f, parser: p}, nil
}

// damaged makes a fault an error that trying again cannot mend; offset is of the record in the object.
func damaged(offset int64, err error) error {
	var at *fault
	if errors.As(err, &at) {
		return connectors.Permanent(
			dsr.CodeUnreadable, fmt.Sprintf("the object cannot be worked: at offset %d it %s", offset+int64(at.at), at.msg),
			"It is damaged, or not as the map says: correct the map, or mend or remove the object.", nil,
		)
	}
	return err
}

// matching is one goroutine's share of a pass.
type matching struct {
	*worker
	spare spare
	kind  compression
	enc   *encoder // made when it is needed first
	dec   decoder
	write bool
	hits  bool
}

func newMatching(f *Finder, c *cutter, write, hits bool) (*matching, error) {
	w, err := f.worker(c.shape)
	if err != nil {
		return nil, err
	}
	return &matching{worker: w, spare: c.spare, kind: c.in.kind, write: write, hits: hits}, nil
}

// run matches one block, and compresses what is left of it unless it may be copied.
func (m *matching) run(b *block) {
	defer close(b.done)
	if b.data == nil {
		if b.data, b.err = m.dec.member(b.raw, m.spare); b.err == nil && m.l.format.whole(b.data) != len(b.data) {
			b.err = errDamagedMember
		}
		if b.err != nil {
			b.err = damaged(b.offset, &fault{0, "cannot be decompressed"})
			return
		}
	}
	out, err := m.records(b)
	switch {
	case err != nil:
		b.err = err
		return
	case len(b.hits) > 0:
		return // they are of the data
	case !m.write || len(out) == 0:
	case b.raw != nil && !b.totals.Changed:
		b.out, b.raw = b.raw, nil
	case m.kind == plain && !b.totals.Changed:
		b.out, b.data = b.data, nil
	case m.kind == plain:
		b.out, out = out, nil
	default:
		b.out, b.err = m.compress(out)
	}
	if b.totals.Changed {
		m.spare.put(out)
	}
	m.spare.put(b.data)
	m.spare.put(b.raw)
	b.data, b.raw = nil, nil
}

// compress makes a member or frame of whole records.
func (m *matching) compress(block []byte) ([]byte, error) {
	if m.enc == nil {
		var err error
		if m.enc, err = newEncoder(m.kind); err != nil {
			return nil, err
		}
	}
	end := endsAnywhere
	if m.l.format.whole(block) == len(block) {
		end = m.l.format.ends()
	}
	return m.enc.encode(m.spare.get(blockSize)[:0], block, end)
}

// records matches the records of a block and returns what is left of it.
func (m *matching) records(b *block) ([]byte, error) {
	var out []byte
	kept := 0 // what lies before is in out, or is not to be written
	b.totals.Bytes = int64(len(b.data))
	counted := 0 // up to where lines are
	feeds := func(to int) int64 {
		b.lines += int64(bytes.Count(b.data[counted:to], []byte{'\n'}))
		counted = to
		return b.lines
	}
	for at, n := b.preamble, 0; at < len(b.data); at += n {
		n = m.l.format.next(b.data[at:])
		a, err := m.record(b, at, b.data[at:at+n])
		if err != nil {
			return nil, damaged(b.offset+int64(at), err)
		}
		for _, h := range a.hits {
			h.Offset, h.Line = b.offset+int64(at), feeds(at)+1
			b.hits = append(b.hits, h)
		}
		for _, y := range a.tallies {
			b.totals.tally(y)
		}
		if a.deleted || a.changed != nil {
			b.totals.Changed = true
			if m.write {
				if out == nil {
					out = m.spare.get(len(b.data))[:0]
				}
				out = append(append(out, b.data[kept:at]...), a.changed...)
			}
			kept = at + n
		}
	}
	if m.hits {
		feeds(len(b.data))
	}
	if !b.totals.Changed {
		return b.data, nil
	}
	if !m.write {
		return nil, nil
	}
	return append(out, b.data[kept:]...), nil
}

// record finds out what becomes of one record, which begins at an offset of the block.
func (m *matching) record(b *block, offset int, rec []byte) (act, error) {
	if len(rec) > MaxRecord {
		return act{}, tooLong
	}
	body := body(rec)
	if m.l.format.blank(body) {
		return act{}, nil
	}
	b.totals.Records++
	b.totals.Left++
	found, at, err := m.candidate(body)
	if err != nil {
		return act{}, err
	}
	if at.After(b.totals.Latest) {
		b.totals.Latest = at
	}
	if !found {
		return act{}, nil
	}
	r, err := m.look(body, at)
	if err != nil {
		return act{}, err
	}
	if r.unread {
		if b.totals.Unread == 0 {
			b.totals.UnreadAt = b.offset + int64(offset)
		}
		b.totals.Unread++
	}
	a, err := m.decide(rec, r, m.hits)
	if a.deleted {
		b.totals.Left--
	}
	return a, err
}

var tooLong = &fault{0, fmt.Sprintf("has a record of more than %d bytes", MaxRecord)}
