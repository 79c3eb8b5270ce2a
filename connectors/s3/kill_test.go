package s3_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/s3"
	"github.com/lethe-gdpr/lethe/dsr"
)

// fileJournal is a journal that outlives its process. It prints every step and waits for a line before it goes on.
type fileJournal struct {
	path string
	in   *bufio.Reader
}

type journalled struct {
	Checkpoint []byte
	Tallies    []connectors.Tally
}

func (f *fileJournal) read() (journalled, error) {
	var s journalled
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

func (f *fileJournal) Load(context.Context) ([]byte, error) {
	s, err := f.read()
	return s.Checkpoint, err
}

func (f *fileJournal) Save(_ context.Context, checkpoint []byte, done []connectors.Tally) error {
	s, err := f.read()
	if err != nil {
		return err
	}
	b, err := json.Marshal(journalled{checkpoint, append(s.Tallies, done...)})
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(f.path+".new", f.path)
}

func (f *fileJournal) Step(name string) {
	fmt.Println(name)
	_, _ = f.in.ReadString('\n')
}

func (*fileJournal) Spool(context.Context, string, string, []connectors.Key) error { return nil }

func (*fileJournal) Each(context.Context, string, func(string, []connectors.Key) error) error {
	return nil
}

// child erases in a process of its own, which is killed.
const child = "LETHE_TEST_S3_CHILD"

func erasing(settings map[string]any) (*s3.Bucket, error) {
	sys := lake()
	sys.Connector, sys.Settings = "s3", settings
	sys.Entities = append([]connectors.Entity{avatars().Entities[0]}, sys.Entities...)
	b, err := s3.Open(context.Background(), sys, connectors.Options{})
	if err == nil {
		b.Chunks(2)
	}
	return b, err
}

func runChild(journal string) error {
	var settings map[string]any
	if err := json.Unmarshal([]byte(os.Getenv("LETHE_TEST_S3_SETTINGS")), &settings); err != nil {
		return err
	}
	b, err := erasing(settings)
	if err != nil {
		return err
	}
	j := &fileJournal{path: journal, in: bufio.NewReader(os.Stdin)}
	return b.Erase(context.Background(), connectors.Job{Batch: connectors.Batch{subject("a", "user_id", "42")}, Journal: j})
}

// kill -9 at every step, and a little after it, while rewriting and deleting: nothing is lost, every record is counted,
// and whoever reads meanwhile sees whole objects only.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	rest := strings.Repeat(event("1", "stays"), 2000)
	objects := 6
	for n := range objects {
		s.put(t, fmt.Sprint("events/", n), zipped(t, event("42", "older")+rest))
		s.put(t, fmt.Sprint("events/", n), zipped(t, event("42", "goes")+rest))
		s.put(t, fmt.Sprint("avatars/42/", n), []byte("x"))
	}
	settings, err := json.Marshal(s.settings())
	require.NoError(t, err)
	journal := filepath.Join(t.TempDir(), "journal")
	look := func() { // as an application does
		for n := range objects {
			key := fmt.Sprint("events/", n)
			out, err := s.Client.GetObject(background, &awss3.GetObjectInput{Bucket: &s.Name, Key: &key})
			require.NoError(t, err)
			b, err := io.ReadAll(out.Body)
			require.NoError(t, err)
			require.True(t, strings.HasSuffix(unzipped(t, b), rest), "half an object is to be seen")
		}
	}
	kills := 0
	for run := 0; ; run++ {
		require.Less(t, run, 200, "it never ends")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), child+"="+journal, "LETHE_TEST_S3_SETTINGS="+string(settings))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		steps := bufio.NewScanner(out)
		for n := 0; steps.Scan(); n++ {
			if n == run%3 {
				if run%2 == 0 { // at the step; otherwise in what comes after it
					require.NoError(t, cmd.Process.Kill())
					kills++
					break
				}
				_, _ = io.WriteString(in, "\n")
				look()
				_ = cmd.Process.Kill()
				kills++
				break
			}
			_, err = io.WriteString(in, "\n")
			require.NoError(t, err)
		}
		if err := cmd.Wait(); err == nil {
			break
		}
		look()
	}
	require.Greater(t, kills, 5)
	for n := range objects {
		texts := s.texts(t)[fmt.Sprint("events/", n)]
		require.Len(t, texts, 1)
		require.True(t, texts[0] == rest)
	}
	require.Len(t, s.places(t), objects)
	require.Empty(t, s.uploads(t))
	state, err := (&fileJournal{path: journal}).read()
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"a avatars " + string(dsr.Delete): int64(objects), "a events " + string(dsr.Delete): int64(2 * objects)}, sums(state.Tallies))
}
