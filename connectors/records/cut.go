package records

import (
	"context"
	"errors"
	"io"
)

// cutter reads an object and cuts it into blocks of whole records. It is used by one goroutine; the shape is set before
// the first block is handed on.
type cutter struct {
	l      *Layout
	in     *stream
	free   chan struct{} // tokens of memory: a block holds one for each blockSize of its buffer, and all at most
	shape  shape
	offset int64  // of what comes next, in the uncompressed object
	rest   []byte // read and not handed on: the beginning of a record
	spare  spare
	held   int // tokens that the next block holds already
	dec    decoder
}

// spare lends buffers that blocks are done with, so that a pass makes no garbage. They are all of one size, and do for
// content and for what is compressed.
type spare chan []byte

// get returns a buffer of length n.
func (s spare) get(n int) []byte {
	if n > blockSize {
		return make([]byte, n)
	}
	select {
	case b := <-s:
		return b[:n]
	default:
	}
	return make([]byte, n, blockSize)
}

// put takes a buffer back, unless it is longer than blocks are.
func (s spare) put(b []byte) {
	if cap(b) < blockSize || cap(b) > 2*blockSize {
		return
	}
	select {
	case s <- b:
	default:
	}
}

// run hands on blocks until the object ends, or hand returns false. A block with an error is the last.
func (c *cutter) run(ctx context.Context, hand func(*block) bool) {
	for {
		b, err := c.next(ctx)
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return
		}
		if err != nil {
			b = &block{offset: c.offset, err: err}
		}
		b.done = make(chan struct{})
		if !hand(b) || err != nil {
			return
		}
	}
}

// take gets hold of n tokens in all for the next block; false when the pass was stopped.
func (c *cutter) take(ctx context.Context, n int) bool {
	for ; c.held < min(n, memory()); c.held++ {
		select {
		case <-c.free:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// next reads one block; io.EOF ends the object.
func (c *cutter) next(ctx context.Context) (*block, error) {
	if !c.take(ctx, 1) {
		return nil, ctx.Err()
	}
	b, err := c.member(ctx)
	if b == nil && err == nil {
		b, err = c.fill(ctx)
	}
	if err != nil {
		return nil, c.failed(err)
	}
	b.weight, c.held = c.held, 0
	return b, nil
}

// failed tells a source that failed from an object that is damaged.
func (c *cutter) failed(err error) error {
	var f *fault
	switch {
	case c.in.src.err != nil:
		return c.in.src.err
	case errors.Is(err, io.EOF), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &f):
		return damaged(c.offset, err)
	case c.in.kind == plain:
		return err
	}
	return damaged(c.offset+int64(len(c.rest)), &fault{0, "cannot be decompressed"})
}

// member takes a whole member as a block, where Lethe wrote one; nil when it did not.
func (c *cutter) member(ctx context.Context) (*block, error) {
	if len(c.rest) > 0 {
		return nil, nil
	}
	raw, size, ok, err := c.in.member(c.l.format.ends(), 2*MaxRecord, c.spare)
	if !ok || err != nil {
		return nil, err
	}
	if !c.take(ctx, 1+size/blockSize) {
		return nil, ctx.Err()
	}
	b := &block{raw: raw}
	if c.shape == nil {
		if b.data, err = c.dec.member(raw, c.spare); err != nil {
			return nil, err
		}
		if b.preamble, err = c.open(b.data); err != nil {
			return nil, err
		}
	}
	b.offset = c.offset
	c.offset += int64(size)
	return b, nil
}

func (c *cutter) open(head []byte) (preamble int, err error) {
	if err := readable(head); err != nil {
		return 0, err
	}
	preamble, c.shape, err = c.l.format.open(head)
	return preamble, err
}

// fill reads a block, longer than usual when a record is.
func (c *cutter) fill(ctx context.Context) (*block, error) {
	buf := c.spare.get(max(c.l.block, 2*len(c.rest)))
	n := copy(buf, c.rest)
	end := false
	for {
		for n < len(buf) && !end {
			m, err := c.in.Read(buf[n:])
			n += m
			if end = errors.Is(err, io.EOF); err != nil && !end {
				c.rest = append(c.rest[:0], buf[:n]...)
				return nil, err
			}
		}
		whole := n
		if !end {
			whole = c.l.format.whole(buf[:n])
		}
		if whole > 0 || end {
			c.rest = append(c.rest[:0], buf[whole:n]...)
			return c.cut(buf[:whole])
		}
		if n >= MaxRecord {
			return nil, tooLong
		}
		longer := min(2*len(buf), MaxRecord)
		if !c.take(ctx, 1+longer/blockSize) {
			return nil, ctx.Err()
		}
		buf = append(make([]byte, 0, longer), buf[:n]...)[:longer]
	}
}

func (c *cutter) cut(data []byte) (*block, error) {
	if len(data) == 0 {
		return nil, io.EOF
	}
	b := &block{data: data}
	if c.shape == nil {
		var err error
		if b.preamble, err = c.open(data); err != nil {
			return nil, err
		}
	}
	b.offset = c.offset
	c.offset += int64(len(data))
	return b, nil
}
