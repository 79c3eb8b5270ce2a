package records_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"user":{"id":%d},"text":"line %d"}`+"\n", i, i*7919)
	}
	return b.String()
}

// members splits a gzip file by its members, by decompressing them one after the other.
func members(t *testing.T, b []byte) [][]byte {
	t.Helper()
	var out [][]byte
	r := bytes.NewReader(b)
	for r.Len() > 0 {
		at := len(b) - r.Len()
		z, err := gzip.NewReader(r)
		require.NoError(t, err)
		z.Multistream(false)
		_, err = io.Copy(io.Discard, z)
		require.NoError(t, err)
		out = append(out, b[at:len(b)-r.Len()])
	}
	return out
}

func TestOnlyMembersWithAMatchAreCompressedAgain(t *testing.T) {
	t.Parallel()
	l := layout(t, events()).Block(1000)
	written, _ := rewrite(t, find(l), compressed(t, "gzip", numbered(500)))
	before := members(t, written)
	require.Greater(t, len(before), 15)
	out, totals := rewrite(t, find(l, subject("s", "user_id", "250")), written)
	require.EqualValues(t, 499, totals.Left)
	after := members(t, out)
	require.Len(t, after, len(before))
	changed := 0
	for i := range before {
		if !bytes.Equal(before[i], after[i]) {
			changed++
		}
	}
	require.Equal(t, 1, changed)
	require.Equal(t, strings.Replace(numbered(500), `{"user":{"id":250},"text":"line 1979750"}`+"\n", "", 1), plain(t, "gzip", out))
}

// TestJoinedFiles joins files as cat does: whole ones of Lethe's, others, and one that ends inside a line.
func TestJoinedFiles(t *testing.T) {
	t.Parallel()
	l := layout(t, events()).Block(100)
	f := find(l, subject("s", "user_id", "3"))
	ours, _ := rewrite(t, find(l), compressed(t, "gzip", numbered(20)))
	anything := &connectors.Entity{Name: "lines", Settings: map[string]any{"format": "text", "pattern": "(?P<x>.*)"}, Erase: dsr.Delete}
	half, _ := rewrite(t, find(layout(t, anything).Block(100)), compressed(t, "gzip", numbered(5)+`{"user":{"i`))
	rest, _ := rewrite(t, find(layout(t, anything)), compressed(t, "gzip", `d":3}}`+"\n"+numbered(4)))
	in := bytes.Join([][]byte{ours, half, rest, ours, compressed(t, "gzip", ""), compressed(t, "gzip", numbered(4))}, nil)
	out, totals := rewrite(t, f, in)
	require.EqualValues(t, 6, totals.Tallies[0].Rows)
	less := strings.ReplaceAll(numbered(20), `{"user":{"id":3},"text":"line 23757"}`+"\n", "")
	require.Equal(t, less+lines(less, 4)+lines(less, 3)+less+lines(less, 3), plain(t, "gzip", out))

	zs := bytes.Join([][]byte{compressed(t, "zstd", numbered(4)), compressed(t, "zstd", numbered(5))}, nil)
	out, _ = rewrite(t, f, zs)
	require.Equal(t, lines(less, 3)+lines(less, 4), plain(t, "zstd", out))
}

func lines(s string, n int) string {
	return strings.Join(strings.SplitAfter(s, "\n")[:n], "")
}

func TestDamage(t *testing.T) {
	t.Parallel()
	whole := compressed(t, "gzip", numbered(2000))
	broken := bytes.Clone(whole)
	broken[len(broken)/2] ^= 0x40
	ours, _ := rewrite(t, find(layout(t, events()).Block(1000)), whole)
	tagged := bytes.Clone(ours)
	tagged[len(tagged)-2] ^= 1
	// the first member says that it is as long as the first two, which are equally long once decompressed
	equal, _ := rewrite(t, find(layout(t, events()).Block(13)), compressed(t, "gzip", strings.Repeat(`{"a":"abcd"}`+"\n", 2)))
	require.Len(t, members(t, equal), 2)
	equal[16] = byte(len(equal))
	csv := &connectors.Entity{
		Name: "people", Settings: map[string]any{"format": "csv"}, Erase: dsr.Delete,
		Fields: []connectors.Field{{Name: "email", Identifier: "email"}}, Mentions: []string{"note"},
	}
	text := &connectors.Entity{
		Name: "access", Settings: map[string]any{"format": "text", "pattern": "combined"}, Erase: dsr.Delete,
		Fields: []connectors.Field{{Name: "host", Identifier: "ip"}},
	}
	anything := &connectors.Entity{Name: "lines", Settings: map[string]any{"format": "text", "pattern": "(?P<x>.*)"}, Erase: dsr.Delete}
	for name, c := range map[string]struct {
		e      *connectors.Entity
		in     []byte
		offset string
	}{
		"truncated gzip":       {events(), whole[:len(whole)/2], ""},
		"flipped bit":          {events(), broken, ""},
		"flipped bit of ours":  {events(), tagged, ""},
		"wrong length of ours": {events(), equal, ""},
		"rubbish behind gzip":  {events(), append(bytes.Clone(whole), "canary"...), ""},
		"truncated zstd":       {events(), compressed(t, "zstd", numbered(2000))[:100], ""},
		"half a JSON line":     {events(), []byte(numbered(1) + `{"user":{"id":"canary`), "offset 55 "},
		"bad JSON in a line":   {events(), []byte(`{"a":"canary",}`), "offset 14 "},
		"two JSON lines":       {events(), []byte(`{"a":"canary"} {}`), "offset 15 "},
		"no JSON":              {events(), []byte("canary,canary\n"), "offset 0 "},
		"other columns":        {csv, []byte("email,canary\nx,y\n"), "offset 0 "},
		"another field":        {csv, []byte("note,email\na,b\ncanary\n"), "offset 15 "},
		"quote that stays":     {csv, []byte("note,email\na,\"canary\n"), "offset 13 "},
		"quote in the middle":  {csv, []byte("note,email\na,can\"ary\n"), "offset 13 "},
		"line that is no line": {text, []byte("canary\n"), "offset 0 "},
		"bzip2":                {anything, []byte("BZh91AY&SY canary\n"), "offset 0 "},
		"xz in gzip":           {anything, compressed(t, "gzip", "\xfd7zXZ\x00 canary\n"), "offset 0 "},
		"gzip in gzip":         {anything, compressed(t, "gzip", string(whole)), "offset 0 "},
		"UTF-16":               {anything, []byte("\xff\xfec\x00a\x00n\x00a\x00r\x00y\x00\n\x00"), "offset 0 "},
		"many values":          {events(), []byte(`{"email":[` + strings.Repeat("0,", 1<<18) + `0]}`), "offset "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := find(layout(t, c.e), subject("s", "email", "anna@example.com", "ip", "192.0.2.1"))
			for range 2 {
				_, err := f.Rewrite(context.Background(), "object", bytes.NewReader(c.in), io.Discard)
				require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeUnreadable})
				require.True(t, connectors.IsPermanent(err))
				require.NotContains(t, err.Error(), "canary")
				require.Contains(t, err.Error(), c.offset)
			}
		})
	}
}

func TestFailingSourceIsNotDamage(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	ours, _ := rewrite(t, find(layout(t, events()).Block(1000)), compressed(t, "gzip", numbered(500)))
	for _, in := range [][]byte{
		nil, []byte(numbered(3)), compressed(t, "gzip", numbered(500)), compressed(t, "zstd", numbered(500)), ours,
	} {
		for _, cut := range []int{0, 1, len(in) / 3, len(in)} {
			_, err := find(layout(t, events())).Scan(context.Background(), "o", failing{bytes.NewReader(in[:min(cut, len(in))]), lost}, nil)
			require.ErrorIs(t, err, lost)
			require.False(t, connectors.IsPermanent(err))
		}
	}
	_, err := find(layout(t, events())).Rewrite(context.Background(), "o", strings.NewReader(numbered(9)), full{lost})
	require.ErrorIs(t, err, lost)
}

type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

func TestStops(t *testing.T) {
	t.Parallel()
	stop := errors.New("enough")
	l := layout(t, events()).Block(500)
	f := find(l, subject("s", "user_id", "5"))
	_, err := f.Scan(context.Background(), "o", strings.NewReader(numbered(5000)), func(*records.Hit) error { return stop })
	require.ErrorIs(t, err, stop)
	ctx, cancel := context.WithCancel(context.Background())
	_, err = f.Scan(ctx, "o", strings.NewReader(numbered(5000)), func(*records.Hit) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
	_, err = f.Rewrite(ctx, "o", strings.NewReader(numbered(5000)), io.Discard)
	require.ErrorIs(t, err, context.Canceled)
}

func TestEmptyObjects(t *testing.T) {
	t.Parallel()
	f := find(layout(t, events()), subject("s", "user_id", "0"))
	for _, name := range []string{"a", "a.gz", "a.zst"} {
		var out bytes.Buffer
		totals, err := f.Rewrite(context.Background(), name, strings.NewReader(""), &out)
		require.NoError(t, err)
		require.Zero(t, out.Len())
		require.Zero(t, totals)
	}
	for _, kind := range []string{"none", "gzip", "zstd"} {
		out, totals := rewrite(t, f, compressed(t, kind, numbered(1)))
		require.Empty(t, plain(t, kind, out))
		require.Zero(t, totals.Left)
		require.EqualValues(t, 1, totals.Records)
	}
}

func TestLongRecords(t *testing.T) {
	t.Parallel()
	f := find(layout(t, events()), subject("s", "user_id", "42"))
	long := `{"user":{"id":42},"x":"` + strings.Repeat("x", 5<<20) + `"}` + "\n"
	other := strings.Replace(long, "42", "43", 1)
	out, _ := rewrite(t, f, []byte(numbered(3)+long+other+numbered(1)))
	require.Equal(t, numbered(3)+other+numbered(1), string(out))
	_, err := f.Scan(context.Background(), "o", strings.NewReader(numbered(1)+`{"x":"`+strings.Repeat("x", records.MaxRecord)+`"}`), nil)
	require.True(t, connectors.IsPermanent(err))
	require.Contains(t, err.Error(), "offset 34 ")
}

// TestCutFiles reads files that were cut while their writers went on where they were: a hole is before the next line.
func TestCutFiles(t *testing.T) {
	t.Parallel()
	hole := strings.Repeat("\x00", records.MaxRecord+5)
	in := numbered(2) + hole + numbered(3) + "\x00\x00" + numbered(1) + "\x00\n"
	want := strings.ReplaceAll(in, numbered(1), "")
	text := &connectors.Entity{
		Name: "log", Settings: map[string]any{"format": "text", "pattern": `.*"id":(?P<user>\d+).*`}, Erase: dsr.Delete,
		Fields: []connectors.Field{{Name: "user", Identifier: "user_id"}},
	}
	for _, e := range []*connectors.Entity{events(), text} {
		for _, kind := range []string{"none", "gzip"} {
			out, totals := rewrite(t, find(layout(t, e), subject("s", "user_id", "0")), compressed(t, kind, in))
			require.Equal(t, want, plain(t, kind, out))
			require.EqualValues(t, 6, totals.Records)
			again, totals := rewrite(t, find(layout(t, e), subject("s", "user_id", "0")), out)
			require.Equal(t, out, again)
			require.False(t, totals.Changed)
		}
	}
}

// TestTextIsText takes no line for the beginning of another kind of file.
func TestTextIsText(t *testing.T) {
	t.Parallel()
	anything := &connectors.Entity{Name: "lines", Settings: map[string]any{"format": "text", "pattern": "(?P<x>.*)"}, Erase: dsr.Delete}
	for _, in := range []string{"BZh9", "PAR1 is a name", "ORC", "PK", "7z", "LZIP", "Obj", "\xff", "é", "\x1f"} {
		_, totals := rewrite(t, find(layout(t, anything)), []byte(in+"\n"))
		require.EqualValues(t, 1, totals.Records, "%q", in)
	}
}

// TestManyEdits masks more values of one record than could be compared with each other, in order and one inside another.
func TestManyEdits(t *testing.T) {
	t.Parallel()
	e := events()
	e.Mentions = []string{"notes", "notes.x"}
	n := 50_000
	f := find(layout(t, e), subject("s", "email", "anna@example.com"))
	in := `{"notes":[` + strings.Repeat(`{"x":"anna@example.com","y":"anna@example.com"},"anna@example.com",`, n) + `0]}`
	out, _ := rewrite(t, f, []byte(in))
	require.Equal(t, strings.ReplaceAll(in, "anna@example.com", "[redacted]"), string(out))
}

// TestBombs reads what decompresses to far more than memory: one line without end, and frames that ask for a window.
func TestBombs(t *testing.T) {
	t.Parallel()
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := w.Write([]byte(`{"x":"`))
	require.NoError(t, err)
	for range 1 << 10 {
		_, err := w.Write(bytes.Repeat([]byte{'0'}, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	var zs bytes.Buffer
	z, err := zstd.NewWriter(&zs, zstd.WithWindowSize(zstd.MaxWindowSize), zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	for range 64 {
		_, err := z.Write(bytes.Repeat([]byte{'0'}, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	for _, in := range [][]byte{gz.Bytes(), zs.Bytes()} {
		_, err = find(layout(t, events()), subject("s", "user_id", "1")).Scan(context.Background(), "o", bytes.NewReader(in), nil)
		require.True(t, connectors.IsPermanent(err))
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeUnreadable})
	}
}

// endless makes events without holding them.
type endless struct {
	left int
	line []byte
	n    int
	rest []byte
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(e.rest) == 0 {
			if e.left <= 0 {
				return n, io.EOF
			}
			e.n++
			e.line = fmt.Appendf(e.line[:0], `{"user":{"id":%d},"email":"p%d@example.com","note":"%0200d"}`+"\n", e.n%1000, e.n, e.n)
			e.rest, e.left = e.line, e.left-len(e.line)
		}
		m := copy(p[n:], e.rest)
		n, e.rest = n+m, e.rest[m:]
	}
	return n, nil
}

// TestMemory rewrites 320 MB and looks at the heap on the way. It must not run beside other tests.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	f := find(layout(t, events()), subject("s", "user_id", "7", "email", "nobody@example.com"))
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	w := &watching{every: 4 << 20, look: func() {
		runtime.ReadMemStats(&now)
		require.Less(t, now.HeapInuse-before.HeapInuse, uint64(48<<20))
	}}
	totals, err := f.Rewrite(context.Background(), "o", &endless{left: 320_000_000}, w)
	require.NoError(t, err)
	require.Greater(t, w.looks, 50)
	require.InDelta(t, totals.Records/1000, totals.Records-totals.Left, 1)
}

type watching struct {
	every, written, looks int
	look                  func()
}

func (w *watching) Write(p []byte) (int, error) {
	if w.written += len(p); w.written/w.every > w.looks {
		w.looks++
		w.look()
	}
	return len(p), nil
}
