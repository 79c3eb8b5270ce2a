package accesspackage

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// staged is a finished part as the assembly reads it.
type staged struct {
	system   string
	part     *part
	entities []*stagedEntity // sorted by title, records before files
	withheld []stagedNote
}

type stagedEntity struct {
	entityInfo
	records int64
	blocks  []block
}

type stagedNote struct {
	entity string
	withheld
}

// openStaged reads where everything is in a part. It returns nil when the System had nothing to stage.
func (s *Store) openStaged(request, system string, key engine.DataKey) (*staged, error) {
	path := s.partPath(request, system)
	if _, err := os.Stat(path); err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, unavailable(err)
	}
	p, err := openPart(path, place(request, system), key)
	if err != nil {
		return nil, err
	}
	st := &staged{system: system, part: p}
	for _, e := range p.entities {
		st.entities = append(st.entities, &stagedEntity{entityInfo: e})
	}
	byID := slices.Clone(st.entities)
	_, err = scan(p.f, p.end, -1, func(b block) error {
		if int(b.entity) >= len(byID) {
			return damaged()
		}
		e := byID[b.entity]
		switch b.kind {
		case blockRecords, blockFile, blockContent, blockFileEnd:
			e.blocks = append(e.blocks, b)
			e.records += int64(b.count)
			if b.kind == blockFileEnd {
				e.records++
			}
		case blockWithheld:
			plain, _, err := b.open(p.f, p.place, key, nil)
			if err != nil {
				return err
			}
			n := stagedNote{entity: e.title()}
			if json.Unmarshal(plain, &n.withheld) != nil {
				return damaged()
			}
			st.withheld = append(st.withheld, n)
		}
		return nil
	})
	if err != nil {
		_ = p.release()
		return nil, err
	}
	slices.SortFunc(st.entities, func(a, b *stagedEntity) int { return strings.Compare(a.Name, b.Name) })
	return st, nil
}

// payloads yields an entity's blocks in order, opened. A payload is good until the next one.
func (s *staged) payloads(ctx context.Context, e *stagedEntity) iter.Seq2[payload, error] {
	return func(yield func(payload, error) bool) {
		var buf []byte
		for _, b := range e.blocks {
			if err := ctx.Err(); err != nil {
				yield(payload{}, err)
				return
			}
			plain, reuse, err := b.open(s.part.f, s.part.place, s.part.key, buf)
			buf = reuse
			if !yield(payload{b, plain}, err) || err != nil {
				return
			}
		}
	}
}

type payload struct {
	block
	plain []byte
}

// records yields the cells of each record, valid until the next.
func (s *staged) records(ctx context.Context, e *stagedEntity) iter.Seq2[[][]byte, error] {
	return func(yield func([][]byte, error) bool) {
		cells := make([][]byte, len(e.Columns))
		for p, err := range s.payloads(ctx, e) {
			if err != nil {
				yield(nil, err)
				return
			}
			rest := p.plain
			for range p.count {
				for i := range cells {
					if cells[i], rest, err = cell(rest); err != nil {
						yield(nil, damaged())
						return
					}
				}
				if !yield(cells, nil) {
					return
				}
			}
		}
	}
}

// chunk is how much output is collected before it is written.
const chunk = 32 << 10

// writeJSON writes an array of objects, one a line.
func (s *staged) writeJSON(ctx context.Context, e *stagedEntity, w io.Writer) (int64, error) {
	keys := make([][]byte, len(e.Columns))
	for i, c := range e.Columns {
		lead := byte(',')
		if i == 0 {
			lead = '{'
		}
		keys[i] = append(appendText([]byte{lead}, c), ':')
	}
	var n int64
	out := []byte("[")
	for cells, err := range s.records(ctx, e) {
		if err != nil {
			return n, err
		}
		if n > 0 {
			out = append(out, ',')
		}
		out = append(out, '\n')
		if len(cells) == 0 {
			out = append(out, '{')
		}
		for i, c := range cells {
			out = append(out, keys[i]...)
			out = append(out, c...)
		}
		out = append(out, '}')
		n++
		if len(out) >= chunk {
			if _, err := w.Write(out); err != nil {
				return n, err
			}
			out = out[:0]
		}
	}
	_, err := w.Write(append(out, "\n]\n"...))
	return n, err
}

// writeCSV writes RFC 4180 with a header line.
func (s *staged) writeCSV(ctx context.Context, e *stagedEntity, w io.Writer) (int64, error) {
	var out []byte
	for i, c := range e.Columns {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendCSV(out, c, true)
	}
	out = append(out, "\r\n"...)
	var n int64
	for cells, err := range s.records(ctx, e) {
		if err != nil {
			return n, err
		}
		for i, c := range cells {
			if i > 0 {
				out = append(out, ',')
			}
			text, quoted := plain(c)
			out = appendCSV(out, text, quoted)
		}
		out = append(out, "\r\n"...)
		n++
		if len(out) >= chunk {
			if _, err := w.Write(out); err != nil {
				return n, err
			}
			out = out[:0]
		}
	}
	_, err := w.Write(out)
	return n, err
}

// close frees the part.
func (s *staged) close() { _ = s.part.release() }
