package s3_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
)

func TestABucketOfManyObjects(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("20,000 objects")
	}
	s := newStore(t, false)
	const objects, each = 20_000, 4
	const writers = 16
	failed := make(chan error, writers)
	for w := range writers {
		go func() {
			for n := w; n < objects; n += writers {
				key := fmt.Sprintf("avatars/%d/%05d.png", n%each, n)
				if _, err := s.Client.PutObject(background, &awss3.PutObjectInput{Bucket: &s.Name, Key: &key, Body: bytes.NewReader([]byte("x"))}); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range writers {
		require.NoError(t, <-failed)
	}
	b := s.open(t, avatars(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "1"), subject("b", "user_id", "nobody")}
	found, err := b.Locate(background, connectors.Query{Batch: batch})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"a avatars delete": objects / each}, counts(found.Counts))
	j := erase(t, b, batch)
	require.Equal(t, map[string]int64{"a avatars delete": objects / each}, sums(j.Tallies()))
	require.Empty(t, verify(t, b, batch))
	require.Equal(t, objects-objects/each, len(s.places(t))) // Len would print them all
}

// An object of 2 GiB that hardly takes space. It does not run beside other tests: the memory is the process's.
func TestMemoryDoesNotGrowWithTheObject(t *testing.T) { // not parallel: see above
	if testing.Short() {
		t.Skip("2 GiB")
	}
	s := newStore(t, true)
	line := []byte(event("1", strings.Repeat("stays ", 150)))
	const size = 2 << 30
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	require.NoError(t, err)
	w := bufio.NewWriterSize(zip, 1<<20)
	lines := 0
	for n := 0; n < size; n += len(line) {
		_, err := w.Write(line)
		require.NoError(t, err)
		lines++
	}
	_, err = io.WriteString(w, event("42", "goes"))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	require.NoError(t, zip.Close())
	stored := packed.Len()
	s.put(t, "events/large.jsonl.gz", packed.Bytes())
	packed = bytes.Buffer{}
	b := s.open(t, lake(), connectors.Options{})
	b.Parts(1<<20, 5<<20)

	peak := watch(t)
	began := time.Now()
	j := erase(t, b, connectors.Batch{subject("a", "user_id", "42")})
	took := time.Since(began)
	most := peak()
	require.Equal(t, map[string]int64{"a events delete": 1}, sums(j.Tallies()))
	t.Logf("2 GiB in %d bytes: %v, %d MiB above idle", stored, took.Round(time.Second), most>>20)
	require.Less(t, most, uint64(64<<20))
	for _, p := range s.places(t) {
		out, err := s.Client.GetObject(background, &awss3.GetObjectInput{Bucket: &s.Name, Key: &p.key})
		require.NoError(t, err)
		unzip, err := gzip.NewReader(out.Body)
		require.NoError(t, err)
		got := 0
		for in := bufio.NewReaderSize(unzip, 1<<20); ; got++ {
			text, err := in.ReadSlice('\n')
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.True(t, bytes.Equal(line, text))
		}
		require.Equal(t, lines, got)
	}
}

// watch samples how much the heap holds; what it returns ends that and gives the most above the beginning.
func watch(t *testing.T) func() uint64 {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	idle, most := m.HeapAlloc, uint64(0)
	ctx, cancel := context.WithCancel(background)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				if m.HeapAlloc > idle {
					most = max(most, m.HeapAlloc-idle)
				}
			}
		}
	}()
	return func() uint64 { cancel(); <-done; return most }
}
