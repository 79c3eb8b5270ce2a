package s3_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
)

// A server that is busy, cuts connections before and in the middle of an answer, and loses answers of what it did:
// nothing is lost, nothing is left, and every record is counted once.
func TestANetworkThatFails(t *testing.T) {
	t.Parallel()
	for _, versioned := range []bool{true, false} {
		t.Run(fmt.Sprint("versioned ", versioned), func(t *testing.T) {
			t.Parallel()
			s := newStore(t, versioned)
			want := map[string]string{}
			for n := range 12 {
				key, rest := fmt.Sprint("events/", n), event("1", fmt.Sprint("stays ", n))
				s.put(t, key, zipped(t, event("42", "goes")+rest))
				want[key] = rest
			}
			f := newFront(t, s)
			dice := rand.New(rand.NewPCG(7, 11))
			left := 40
			roll := func(sides int) bool { // f.mu is not held; requests come from several goroutines
				f.mu.Lock()
				defer f.mu.Unlock()
				if left == 0 || dice.IntN(sides) > 0 {
					return false
				}
				left--
				return true
			}
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case roll(8):
					w.WriteHeader(http.StatusServiceUnavailable)
					_, _ = io.WriteString(w, `<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>`)
					return true
				case roll(12):
					panic(http.ErrAbortHandler)
				}
				return false
			}
			f.after = func(r *http.Response) error {
				if roll(8) { // it was done, and nobody hears of it
					return io.ErrUnexpectedEOF
				}
				if r.Request.Method == http.MethodGet && roll(6) {
					r.Body = struct {
						io.Reader
						io.Closer
					}{io.MultiReader(io.LimitReader(r.Body, 20), broken{}), r.Body}
				}
				return nil
			}
			sys := lake()
			sys.Settings = f.settings(s)
			b := s.open(t, sys, connectors.Options{})
			b.Chunks(3)
			batch := connectors.Batch{subject("a", "user_id", "42")}
			j := connectortest.NewJournal()
			for try := 0; ; try++ {
				err := b.Erase(background, connectors.Job{Batch: batch, Journal: j})
				if err == nil {
					break
				}
				require.True(t, connectors.Transient(err), "%v", err)
				require.Less(t, try, 50)
			}
			require.Equal(t, int64(12), sums(j.Tallies())["a events delete"])
			got := s.texts(t)
			for key, rest := range want {
				require.Equal(t, []string{rest}, got[key], key)
			}
			require.Empty(t, verify(t, b, batch))
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Interrupted at every step, with whole objects, records and old versions in one bucket, an erasure ends as if it had not
// been. Of objects that are written in parts no upload is left.
func TestInterruptedAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, parts := range []bool{false, true} {
		t.Run(fmt.Sprint("in parts ", parts), func(t *testing.T) {
			t.Parallel()
			interruptedAtEveryStep(t, parts)
		})
	}
}

func interruptedAtEveryStep(t *testing.T, parts bool) {
	t.Helper()
	load := func(s *store) {
		for n := range 3 {
			s.put(t, fmt.Sprint("avatars/42/", n), []byte("x"))
			s.put(t, fmt.Sprint("events/", n), []byte(event("42", "older")+event("1", "stays")))
			s.put(t, fmt.Sprint("events/", n), []byte(event("42", "goes")+event("1", "stays")))
		}
		s.begin(t, "avatars/42/half")
	}
	batch := connectors.Batch{subject("a", "user_id", "42")}
	open := func(s *store) connectors.Eraser {
		sys := lake()
		sys.Entities = append([]connectors.Entity{avatars().Entities[0]}, sys.Entities...)
		b := s.open(t, sys, connectors.Options{})
		b.Chunks(2)
		if parts {
			b.Parts(1, 5<<20)
		}
		return b
	}
	s := newStore(t, true)
	load(s)
	whole := erase(t, open(s), batch)
	want, steps := s.texts(t), whole.Steps()
	require.Greater(t, len(steps), 10)
	for n := 1; n <= len(steps); n++ {
		s := newStore(t, true)
		load(s)
		j := connectortest.NewJournal()
		ctx := j.FailAt(background, steps[n-1], count(steps[:n], steps[n-1]))
		require.Error(t, open(s).Erase(ctx, connectors.Job{Batch: batch, Journal: j}), "step %d: %s", n, steps[n-1])
		j.Heal()
		require.NoError(t, open(s).Erase(background, connectors.Job{Batch: batch, Journal: j}))
		require.Equal(t, want, s.texts(t), "step %d: %s", n, steps[n-1])
		require.Equal(t, sums(whole.Tallies()), sums(j.Tallies()), "step %d: %s", n, steps[n-1])
		require.Empty(t, s.uploads(t))
	}
}

func count(steps []string, name string) int {
	n := 0
	for _, s := range steps {
		if s == name {
			n++
		}
	}
	return n
}
