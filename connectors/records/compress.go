package records

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/lethe-gdpr/lethe/connectors/records/inflate"
)

// compression is how an object is compressed; its zero value is found out for each object.
type compression string

const (
	auto  compression = ""
	plain compression = "none"
	gzipd compression = "gzip"
	zstdd compression = "zstd"
)

var compressions = []string{"auto", string(plain), string(gzipd), string(zstdd)}

func parseCompression(s string) (compression, error) {
	switch s {
	case "", "auto":
		return auto, nil
	}
	if !slices.Contains(compressions, s) {
		return auto, invalid("is not one of "+strings.Join(compressions, ", "), "")
	}
	return compression(s), nil
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	// skippable frames may come first (RFC 8878 §3.1.2): 0x184D2A50 to 5F
	zstdSkippable = []byte{0x2a, 0x4d, 0x18}
)

// detect finds out how an object is compressed. What begins like a compressed file is one, because no record does; an
// empty object is not compressed, whatever its name.
// foreign are the beginnings of files that hold no records which this package reads. Some patterns of text match
// anything, so that such a file would seem to have been searched. No line of text begins like one of them.
var foreign = []struct {
	begins *regexp.Regexp
	what   string
}{
	{begins(`BZh[1-9](?:1AY&SY|\x17rE8P\x90)`), "bzip2"},
	{begins(`\xfd7zXZ\x00`), "xz"},
	{begins(`\x04"M\x18`), "lz4"},
	{begins(`\xff\x06\x00\x00sNaPpY`), "Snappy"},
	{begins(`PK\x03\x04`), "zip"},
	{begins(`7z\xbc\xaf\x27\x1c`), "7-Zip"},
	{begins(`LZIP\x01`), "lzip"},
	{begins(`\x1f[\x9d\xa0]`), "compress"},
	{begins(`PAR1[\x00-\x1f]`), "Parquet"},
	{begins(`ORC[\x00-\x08]`), "ORC"},
	{begins(`Obj\x01`), "Avro"},
	{begins(`\xff\xfe|\xfe\xff|\x00\x00\xfe\xff`), "UTF-16 or UTF-32"},
	{begins(`\x1f\x8b\x08|\x28\xb5\x2f\xfd`), "compressed once more"},
}

// begins compiles a pattern of bytes.
func begins(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + pattern + `)`) }

// readable refuses content that cannot be records; its error is a *fault.
func readable(head []byte) error {
	head = head[:min(len(head), 16)]
	latin := make([]rune, len(head)) // a pattern is of characters: each byte is one
	for i, c := range head {
		latin[i] = rune(c)
	}
	for _, f := range foreign {
		if f.begins.MatchString(string(latin)) {
			return &fault{0, "is " + f.what + ", which is not read here"}
		}
	}
	return nil
}

func (c compression) detect(name string, head []byte) compression {
	switch {
	case len(head) == 0:
		return plain
	case c != auto:
		return c
	case bytes.HasPrefix(head, gzipMagic):
		return gzipd
	case bytes.HasPrefix(head, zstdMagic), len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], zstdSkippable):
		return zstdd
	case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".gzip"):
		return gzipd
	case strings.HasSuffix(name, ".zst"), strings.HasSuffix(name, ".zstd"):
		return zstdd
	}
	return plain
}

// Lethe writes gzip as members of about a block each. An extra field (RFC 1952 §2.3.1.1) with the ids L and t gives the
// member's compressed length, four bytes of little endian, and the ending of its content, so that the next pass finds
// members without decompressing them, works on several at once, and copies those that it does not change. Everybody
// else's gunzip ignores it.
const (
	memberHead = 10 + 2 + 4 + 5
	sizeAt     = 16
)

// member reads the length and ending from the first bytes of a gzip member; ok is false when Lethe did not write it.
func member(head []byte) (size int, end ending, ok bool) {
	if len(head) < memberHead || !bytes.HasPrefix(head, gzipMagic) || head[3] != 4 || // flags: FEXTRA alone
		!bytes.Equal(head[10:sizeAt], []byte{9, 0, 'L', 't', 5, 0}) {
		return 0, 0, false
	}
	return int(binary.LittleEndian.Uint32(head[sizeAt:])), ending(head[sizeAt+4]), true
}

// gzipLevel is where a lake's objects are no larger than before; see bench/records.
const gzipLevel = 6

// encoder compresses blocks independently of each other. It is used by one goroutine.
type encoder struct {
	kind compression
	gz   *gzip.Writer
	zs   *zstd.Encoder
	out  bytes.Buffer
}

func newEncoder(c compression) (*encoder, error) {
	e := &encoder{kind: c}
	var err error
	switch c {
	case gzipd:
		e.gz, err = gzip.NewWriterLevel(&e.out, gzipLevel)
	case zstdd:
		e.zs, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
	}
	return e, err
}

// encode appends one member or frame with the block to dst.
func (e *encoder) encode(dst, block []byte, end ending) ([]byte, error) {
	switch e.kind {
	case gzipd:
		e.out = *bytes.NewBuffer(dst)
		at := len(dst)
		e.gz.Reset(&e.out)
		e.gz.Extra = []byte{'L', 't', 5, 0, 0, 0, 0, 0, byte(end)}
		if _, err := e.gz.Write(block); err != nil {
			return nil, err
		}
		if err := e.gz.Close(); err != nil {
			return nil, err
		}
		dst = e.out.Bytes()
		e.out = bytes.Buffer{}
		binary.LittleEndian.PutUint32(dst[at+sizeAt:], uint32(len(dst)-at))
		return dst, nil
	case zstdd:
		return e.zs.EncodeAll(block, dst), nil
	}
	return append(dst, block...), nil
}

// decoder decompresses members. It is used by one goroutine.
type decoder struct{ inflate.Decoder }

// member decompresses a whole member that Lethe wrote.
func (d *decoder) member(raw []byte, buffers spare) ([]byte, error) {
	body, trailer := raw[memberHead:len(raw)-8], raw[len(raw)-8:]
	dst := buffers.get(int(binary.LittleEndian.Uint32(trailer[4:])))
	used, err := d.Decode(dst, body)
	if err != nil {
		return nil, err
	}
	if used != len(body) || crc32.ChecksumIEEE(dst) != binary.LittleEndian.Uint32(trailer) {
		return nil, errDamagedMember
	}
	return dst, nil
}

var errDamagedMember = errors.New("a member is not what it says")

// stream is an object's content, decompressed as it is read.
type stream struct {
	kind compression
	src  *reader
	in   *bufio.Reader
	gz   *gzip.Reader
	zs   *zstd.Decoder
	open bool // inside a gzip member
	eof  bool
}

// reader remembers why the source failed: the object is damaged only when it did not.
type reader struct {
	r   io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

func newStream(c compression, name string, r io.Reader) (*stream, error) {
	s := &stream{src: &reader{r: r}}
	s.in = bufio.NewReaderSize(s.src, 256<<10)
	head, err := s.in.Peek(4)
	if err != nil && s.src.err != nil {
		return nil, s.src.err
	}
	switch s.kind = c.detect(name, head); s.kind {
	case gzipd:
		s.gz = new(gzip.Reader)
	case zstdd:
		// the largest window that zstd makes without --ultra is 8 MiB, with --long 128 MiB
		s.zs, err = zstd.NewReader(s.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(16<<20))
		if err != nil {
			return nil, fmt.Errorf("read zstd: %w", err)
		}
	}
	return s, nil
}

func (s *stream) close() {
	if s.zs != nil {
		s.zs.Close()
	}
}

// member takes the whole compressed member that comes next, where Lethe wrote it with this ending. It may be called
// between members only, and then reports ok.
func (s *stream) member(end ending, limit int, buffers spare) (raw []byte, size int, ok bool, err error) {
	if s.kind != gzipd || s.open || s.eof {
		return nil, 0, false, nil
	}
	head, _ := s.in.Peek(memberHead)
	n, has, ok := member(head)
	if !ok || has != end && !(has == endsCSV && end == endsLine) || n < memberHead+8 || n > limit {
		return nil, 0, false, nil
	}
	raw = buffers.get(n)
	if _, err := io.ReadFull(s.in, raw); err != nil {
		return nil, 0, false, err
	}
	if size = int(binary.LittleEndian.Uint32(raw[n-4:])); size > limit {
		return nil, 0, false, errDamagedMember
	}
	if _, err := s.in.Peek(1); errors.Is(err, io.EOF) {
		s.eof = true
	}
	return raw, size, true, nil
}

// Read implements [io.Reader] over all members or frames. A gzip member's end is the end of a Read.
func (s *stream) Read(p []byte) (int, error) {
	switch s.kind {
	case gzipd:
		return s.readGzip(p)
	case zstdd:
		return s.zs.Read(p)
	}
	return s.in.Read(p)
}

func (s *stream) readGzip(p []byte) (int, error) {
	if s.eof {
		return 0, io.EOF
	}
	if !s.open {
		if err := s.gz.Reset(s.in); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		s.gz.Multistream(false)
		s.open = true
	}
	n, err := s.gz.Read(p)
	if errors.Is(err, io.EOF) {
		s.open = false
		if _, perr := s.in.Peek(1); perr != nil {
			s.eof = errors.Is(perr, io.EOF)
			if !s.eof {
				return n, perr
			}
		}
		return n, nil
	}
	return n, err
}
