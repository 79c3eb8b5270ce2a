package accesspackage

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// A part is a sequence of blocks. Each is a plain header of fixed size and a sealed payload; the header and the
// block's place are authenticated, so blocks cannot be exchanged, repeated or moved to another part.
//
//	kind 1 byte · entity 4 bytes · count 4 bytes · length of the sealed payload 4 bytes
const headerSize = 13

type blockKind byte

const (
	blockEntity   blockKind = 1 + iota // payload: JSON of an entityInfo; defines the next entity number
	blockRecords                       // payload: count records, each its cells with a length before them
	blockFile                          // payload: a file's name
	blockContent                       // payload: the next bytes of the file
	blockFileEnd                       // no payload: the file is whole
	blockWithheld                      // payload: JSON of a withheld
)

type header struct {
	kind   blockKind
	entity uint32
	count  uint32
	length uint32
}

func (h header) bytes() []byte {
	b := make([]byte, headerSize)
	b[0] = byte(h.kind)
	binary.BigEndian.PutUint32(b[1:], h.entity)
	binary.BigEndian.PutUint32(b[5:], h.count)
	binary.BigEndian.PutUint32(b[9:], h.length)
	return b
}

func parseHeader(b []byte) header {
	return header{
		kind: blockKind(b[0]), entity: binary.BigEndian.Uint32(b[1:]),
		count: binary.BigEndian.Uint32(b[5:]), length: binary.BigEndian.Uint32(b[9:]),
	}
}

// associated binds a block to its part, its place and what its header says. The sealed length follows from the
// payload and is left out.
func associated(place string, offset int64, h header) []byte {
	b := append([]byte("access-part\x00"), place...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	h.length = 0
	return append(b, h.bytes()...)
}

// block is a header and where it stands.
type block struct {
	header
	offset int64
}

func (b block) end() int64 { return b.offset + headerSize + int64(b.length) }

// scan calls fn with every whole block up to limit (-1 is the end) and returns where the last of them ends. A block
// that a crash cut short ends the scan.
func scan(r io.ReaderAt, size, limit int64, fn func(block) error) (int64, error) {
	if limit < 0 || limit > size {
		limit = size
	}
	var at int64
	head := make([]byte, headerSize)
	for at+headerSize <= limit {
		if _, err := r.ReadAt(head, at); err != nil {
			return at, unavailable(err)
		}
		b := block{parseHeader(head), at}
		if b.end() > limit {
			break
		}
		if err := fn(b); err != nil {
			return at, err
		}
		at = b.end()
	}
	return at, nil
}

// open reads and decrypts a block's payload. buf is reused when it is large enough.
func (b block) open(r io.ReaderAt, place string, key engine.DataKey, buf []byte) (plain, reuse []byte, err error) {
	if cap(buf) < int(b.length) {
		buf = make([]byte, b.length)
	}
	buf = buf[:b.length]
	if _, err := r.ReadAt(buf, b.offset+headerSize); err != nil {
		return nil, buf, unavailable(err)
	}
	plain, err = key.Open(buf, associated(place, b.offset, b.header))
	if err != nil {
		return nil, buf, damaged()
	}
	return plain, buf, nil
}

var errShort = errors.New("a record is cut short")

// cell takes the next cell of a record.
func cell(b []byte) (value, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || uint64(len(b)-size) < n {
		return nil, nil, errShort
	}
	return b[size : size+int(n)], b[size+int(n):], nil
}
