package inflate_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	fast "github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors/records/inflate"
)

// deflate compresses with one of the two writers that Go programs use.
func deflate(t require.TestingT, level int, other bool, content []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	if other {
		w, err = fast.NewWriter(&b, level)
	} else {
		w, err = flate.NewWriter(&b, level)
	}
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// standard is what the standard library makes of a stream, and how much of it it reads.
func standard(src []byte) (content []byte, used int, err error) {
	r := bytes.NewReader(src)
	content, err = io.ReadAll(io.LimitReader(flate.NewReader(r), 1<<22))
	return content, len(src) - r.Len(), err
}

// content draws something that compresses in all ways: words, runs, repetitions near and far, and noise.
func content(t *rapid.T) []byte {
	rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	var out []byte
	for range rapid.IntRange(0, 40).Draw(t, "parts") {
		n := rapid.IntRange(0, 3000).Draw(t, "length")
		switch rapid.IntRange(0, 4).Draw(t, "part") {
		case 0:
			for range n / 20 {
				out = fmt.Appendf(out, `{"id":"%08x","event":"view"}`+"\n", rnd.Uint32())
			}
		case 1:
			out = append(out, bytes.Repeat([]byte("abcdefghij")[:1+n%10], 1+n/3)...)
		case 2:
			for range n {
				out = append(out, byte(rnd.Uint32()))
			}
		case 3:
			if len(out) > 0 {
				from := rnd.IntN(len(out))
				out = append(out, out[from:min(len(out), from+n)]...)
			}
		default: // few letters, unevenly, so that some codes are long
			for range n {
				out = append(out, byte(rnd.ExpFloat64()*float64(1+n%9)))
			}
		}
	}
	return out
}

func TestWhatWritersMake(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	rapid.Check(t, func(t *rapid.T) {
		want := content(t)
		src := deflate(t, rapid.IntRange(-2, 9).Draw(t, "level"), rapid.Bool().Draw(t, "other"), want)
		got := make([]byte, len(want))
		used, err := d.Decode(got, append(src, "trailer"...))
		require.NoError(t, err)
		require.Equal(t, len(src), used)
		require.True(t, bytes.Equal(want, got))

		for _, size := range []int{len(want) - 1, len(want) + 1} {
			if size >= 0 {
				_, err := d.Decode(make([]byte, size), src)
				require.ErrorIs(t, err, inflate.ErrCorrupt)
			}
		}
		_, err = d.Decode(got, src[:rapid.IntRange(0, len(src)-1).Draw(t, "cut")])
		require.ErrorIs(t, err, inflate.ErrCorrupt)
	})
}

// TestDamagedStreams flips bits: the outcome is that of the standard library.
func TestDamagedStreams(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	rapid.Check(t, func(t *rapid.T) {
		src := deflate(t, rapid.IntRange(-2, 9).Draw(t, "level"), rapid.Bool().Draw(t, "other"), content(t))
		for range rapid.IntRange(1, 3).Draw(t, "flips") {
			// mostly in the codes at the beginning
			at := rapid.IntRange(0, min(len(src), 1<<rapid.IntRange(3, 16).Draw(t, "where"))-1).Draw(t, "at")
			src[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		}
		agree(t, &d, src)
	})
}

func agree(t require.TestingT, d *inflate.Decoder, src []byte) {
	want, used, err := standard(src)
	if len(want) == 1<<22 {
		return
	}
	got := make([]byte, len(want))
	n, mine := d.Decode(got, src)
	if err != nil {
		require.ErrorIs(t, mine, inflate.ErrCorrupt)
		return
	}
	require.NoError(t, mine)
	require.Equal(t, used, n)
	require.True(t, bytes.Equal(want, got))
}

func FuzzDecode(f *testing.F) {
	for level := -2; level < 10; level++ {
		f.Add(deflate(f, level, false, []byte("abcabcabcabcabcabc, and so on; and so on")))
		f.Add(deflate(f, level, true, bytes.Repeat([]byte("0123456789abcdef"), 100)))
	}
	f.Add([]byte{3, 0})
	f.Add([]byte{0x05, 0xe0, 0x81, 0x08, 0, 0, 0, 0, 0x20, 0x7f, 0xeb, 0x0b, 0, 0}) // one distance code
	var d inflate.Decoder
	f.Fuzz(func(t *testing.T, src []byte) { agree(t, &d, src) })
}

func BenchmarkDecode(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 0))
	var want []byte
	for len(want) < 1<<20 {
		want = fmt.Appendf(want, `{"id":"%016x","ts":%d,"event":"page_view","user_id":"u%08d","ip":"198.51.%d.%d"}`+"\n", rnd.Uint64(), 1_760_000_000_000+len(want), rnd.IntN(200000), rnd.IntN(256), rnd.IntN(256))
	}
	src := deflate(b, 6, true, want)
	got := make([]byte, len(want))
	b.Run("memory", func(b *testing.B) {
		var d inflate.Decoder
		b.SetBytes(int64(len(want)))
		for range b.N {
			_, err := d.Decode(got, src)
			require.NoError(b, err)
		}
	})
	b.Run("stream", func(b *testing.B) {
		r := fast.NewReader(bytes.NewReader(src))
		b.SetBytes(int64(len(want)))
		for range b.N {
			require.NoError(b, r.(fast.Resetter).Reset(bytes.NewReader(src), nil))
			_, err := io.ReadFull(r, got)
			require.NoError(b, err)
		}
	})
}
