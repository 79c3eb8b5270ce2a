package logfiles_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/logfiles"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, backend)
}

// backend is a folder and the way to open the connector on it.
func backend(t *testing.T) connectortest.Backend {
	root := t.TempDir()
	b := connectortest.Blobs(connectortest.Contents{
		Write: func(t *testing.T, name string, content []byte) {
			at := filepath.Join(root, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
			require.NoError(t, os.WriteFile(at, content, 0o640))
		},
		Remove: func(t *testing.T, name string) { require.NoError(t, os.Remove(filepath.Join(root, name))) },
		Read: func(t *testing.T) map[string][][]byte {
			out := map[string][][]byte{}
			for name, content := range contents(t, root) {
				out[name] = [][]byte{content}
			}
			return out
		},
		Stands: func(_ *testing.T, name string, line int) map[string]string {
			return map[string]string{"from_file": name, "from_line": fmt.Sprint(line)}
		},
	})
	b.Open = func(t *testing.T, sys *connectors.System, o connectors.Options, _ int) connectors.Connector {
		for i := range sys.Entities {
			e := &sys.Entities[i]
			e.Settings = map[string]any{"files": e.Name + "/**", "format": "jsonl", "live": "live.jsonl"}
		}
		return open(t, root, sys, o)
	}
	return b
}

// open opens the connector as the registry does.
func open(t testing.TB, root string, sys *connectors.System, o connectors.Options) connectors.Connector {
	t.Helper()
	if sys.Settings == nil {
		sys.Settings = map[string]any{}
	}
	sys.Connector, sys.Settings["root"] = "logfiles", root
	c, err := logfiles.Kinds()[0].Open(context.Background(), sys, o)
	require.NoError(t, err)
	return c
}

// contents are all files below a folder, temporary ones too.
func contents(t testing.TB, root string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	require.NoError(t, filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, at)
		require.NoError(t, err)
		out[filepath.ToSlash(name)], err = os.ReadFile(at)
		return err
	}))
	return out
}
