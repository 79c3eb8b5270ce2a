package accesspackage

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// blockSize is how many bytes of records a part collects before it seals them. One batch may have hundreds of parts
// open at a time.
const blockSize = 64 << 10

type entityInfo struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns,omitempty"` // nil for an entity of files
}

type withheld struct {
	Count int64         `json:"count"`
	Why   dsr.Exception `json:"why"`
}

// part implements [engine.Part]. It is not safe for concurrent use.
type part struct {
	f     *os.File
	place string
	key   engine.DataKey

	end     int64 // where the next block goes
	synced  int64
	records int64
	broken  error // a write failed half way; only Rewind mends it

	entities []entityInfo
	byName   map[string]uint32
	pending  map[uint32]*pending
	waiting  int // bytes in pending
	content  []byte
}

type pending struct {
	count uint32
	cells []byte
}

func openPart(path, place string, key engine.DataKey) (*part, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unavailable(err)
	}
	p := &part{f: f, place: place, key: key}
	if err := lock(f); err != nil {
		_ = f.Close()
		return nil, &dsr.Error{
			Code: dsr.CodeUnavailable, Msg: "another worker still writes this part",
			Hint: "it is free when that worker stops",
		}
	}
	if err := p.load(-1); err != nil {
		_ = p.release()
		return nil, err
	}
	return p, nil
}

// load reads the blocks up to limit and cuts off what follows them.
func (p *part) load(limit int64) error {
	info, err := p.f.Stat()
	if err != nil {
		return unavailable(err)
	}
	p.entities, p.byName, p.pending = nil, map[string]uint32{}, map[uint32]*pending{}
	p.waiting, p.records = 0, 0
	p.end, err = scan(p.f, info.Size(), limit, func(b block) error {
		switch b.kind {
		case blockRecords:
			p.records += int64(b.count)
		case blockFileEnd:
			p.records++
		case blockEntity:
			plain, _, err := b.open(p.f, p.place, p.key, nil)
			if err != nil {
				return err
			}
			var e entityInfo
			if json.Unmarshal(plain, &e) != nil {
				return damaged()
			}
			p.byName[e.Name] = b.entity
			p.entities = append(p.entities, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if limit >= 0 && p.end != limit {
		return connectors.Permanent(
			"package-lost", "what was staged for the package is no longer there",
			"every worker must use the same package store; retry the request to export it again", nil,
		)
	}
	if p.end < info.Size() {
		if err := p.f.Truncate(p.end); err != nil {
			return unavailable(err)
		}
	}
	p.synced, p.broken = -1, nil
	return nil
}

// Records counts records and files.
func (p *part) Records() int64 {
	n := p.records
	for _, w := range p.pending {
		n += int64(w.count)
	}
	return n
}

func (p *part) Record(entity string, names []string, values []any) error {
	if p.broken != nil {
		return p.broken
	}
	if len(names) != len(values) {
		return shape(entity)
	}
	id, err := p.entity(entity, names)
	if err != nil {
		return err
	}
	w := p.pending[id]
	if w == nil {
		w = &pending{}
		p.pending[id] = w
	}
	before := len(w.cells)
	for _, v := range values {
		p.content = appendValue(p.content[:0], v)
		w.cells = binary.AppendUvarint(w.cells, uint64(len(p.content)))
		w.cells = append(w.cells, p.content...)
	}
	w.count++
	if p.waiting += len(w.cells) - before; p.waiting >= blockSize {
		return p.flush()
	}
	return nil
}

func (p *part) File(entity, name string, r io.Reader) error {
	if p.broken != nil {
		return p.broken
	}
	id, err := p.entity(entity, nil)
	if err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	start := p.end
	if err := p.file(id, name, r); err != nil {
		if p.broken == nil { // the source failed: take back what was written of the file
			p.end = start
			p.broken = unavailable(p.f.Truncate(start))
		}
		return err
	}
	p.records++
	return nil
}

func (p *part) file(id uint32, name string, r io.Reader) error {
	if err := p.append(header{kind: blockFile, entity: id}, []byte(name)); err != nil {
		return err
	}
	buf := make([]byte, blockSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := p.append(header{kind: blockContent, entity: id}, buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return p.append(header{kind: blockFileEnd, entity: id}, nil)
		case err != nil:
			return err
		}
	}
}

func (p *part) Withheld(entity string, count int64, why dsr.Exception) error {
	if p.broken != nil {
		return p.broken
	}
	id, err := p.entity(entity, nil)
	if err != nil {
		return err
	}
	note, err := json.Marshal(withheld{count, why})
	if err != nil {
		return err
	}
	return p.append(header{kind: blockWithheld, entity: id}, note)
}

// Mark implements [engine.Part]. The position is the length of the part.
func (p *part) Mark() (string, error) {
	if err := p.flush(); err != nil {
		return "", err
	}
	if p.synced != p.end {
		if err := p.f.Sync(); err != nil {
			return "", p.fail(err)
		}
		p.synced = p.end
	}
	return strconv.FormatInt(p.end, 10), nil
}

// Rewind implements [engine.Part]; the empty mark is the beginning.
func (p *part) Rewind(mark string) error {
	var to int64
	if mark != "" {
		var err error
		if to, err = strconv.ParseInt(mark, 10, 64); err != nil || to < 0 {
			return &dsr.Error{Code: dsr.CodeInvalid, Msg: "this is not a mark of a part"}
		}
	}
	return p.load(to)
}

// Close writes what is pending and frees the part. What was written since the last Mark may or may not survive.
func (p *part) Close() error {
	err := p.flush()
	return errors.Join(err, p.release())
}

func (p *part) release() error {
	unlock(p.f)
	return unavailable(p.f.Close())
}

// entity returns an entity's number and defines it when it is new. Its columns are those of its first record.
func (p *part) entity(name string, columns []string) (uint32, error) {
	key := name
	if columns == nil {
		key = name + "\x00files"
	}
	if id, ok := p.byName[key]; ok {
		if !slices.Equal(p.entities[id].Columns, columns) {
			return 0, shape(name)
		}
		return id, nil
	}
	e := entityInfo{Name: key, Columns: slices.Clone(columns)}
	def, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	id := uint32(len(p.entities))
	if err := p.append(header{kind: blockEntity, entity: id}, def); err != nil {
		return 0, err
	}
	p.entities = append(p.entities, e)
	p.byName[key] = id
	return id, nil
}

func shape(entity string) error {
	return connectors.Permanent(
		"record-shape", "the records of "+entity+" do not have the same columns",
		"this is a defect of the connector", nil,
	)
}

// title is the entity's name in the data map.
func (e entityInfo) title() string {
	name, _, _ := strings.Cut(e.Name, "\x00")
	return name
}

func (p *part) flush() error {
	if p.broken != nil {
		return p.broken
	}
	for id := range p.entities {
		w := p.pending[uint32(id)]
		if w == nil || w.count == 0 {
			continue
		}
		if err := p.append(header{kind: blockRecords, entity: uint32(id), count: w.count}, w.cells); err != nil {
			return err
		}
		p.records += int64(w.count)
		w.count, w.cells = 0, w.cells[:0]
		if cap(w.cells) > 4*blockSize {
			w.cells = nil
		}
	}
	p.waiting = 0
	return nil
}

// append seals a payload and writes it with its header in one write.
func (p *part) append(h header, payload []byte) error {
	sealed, err := p.key.Seal(payload, associated(p.place, p.end, h))
	if err != nil {
		return p.fail(err)
	}
	h.length = uint32(len(sealed))
	if _, err := p.f.WriteAt(append(h.bytes(), sealed...), p.end); err != nil {
		return p.fail(err)
	}
	p.end += headerSize + int64(len(sealed))
	return nil
}

func (p *part) fail(err error) error {
	p.broken = unavailable(err)
	return p.broken
}
