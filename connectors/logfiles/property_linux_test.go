package logfiles_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// writings are the formats, each as the line that a user's request is written as. note is what a mask replaces.
var writings = map[string]struct {
	settings map[string]any
	head     string
	line     func(user, note string, n int) string
}{
	"jsonl": {
		map[string]any{"format": "jsonl"},
		"",
		func(user, note string, n int) string {
			return fmt.Sprintf(`{"n": %d,"who":{"user" :%q}, "note":%q}`, n, user, note)
		},
	},
	"csv": {
		map[string]any{"format": "csv"},
		"n,who.user,note,rest\n",
		func(user, note string, n int) string { return fmt.Sprintf(`%d,"%s",%s,"a, ""b"""`, n, user, note) },
	},
	"text": {
		map[string]any{"format": "text", "pattern": `^(?P<n>\d+) <(?P<user>[^>]*)> \[(?P<note>[^\]]*)\]$`},
		"",
		func(user, note string, n int) string { return fmt.Sprintf("%d <%s> [%s]", n, user, note) },
	},
}

// For any folder of rotated logs, in every format and compression, the files are byte for byte what a naive rewriting of
// their lines makes of them; a file without a line of the subjects is the same file.
func TestRandomFolders(t *testing.T) {
	t.Parallel()
	for format, w := range writings {
		for _, method := range []dsr.Method{dsr.Delete, dsr.Mask} {
			t.Run(format+" "+string(method), func(t *testing.T) {
				t.Parallel()
				field := "who.user"
				if format == "text" {
					field = "user"
				}
				e := connectors.Entity{
					Name: "requests", Erase: method, Fields: []connectors.Field{{Name: field, Identifier: "user"}, {Name: "note"}},
					Settings: map[string]any{"files": "**/app.log*"},
				}
				if method == dsr.Mask {
					e.Masks = map[string]mask.Spec{field: {Kind: mask.Constant, Value: "nobody"}, "note": {Kind: mask.Constant, Value: "-"}}
				}
				for k, v := range w.settings {
					e.Settings[k] = v
				}
				rapid.Check(t, func(rt *rapid.T) {
					root, err := os.MkdirTemp(t.TempDir(), "logs")
					require.NoError(rt, err)
					gone := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"u1", "u2", "u3", "0"}), rapid.ID).Draw(rt, "subjects")
					want, inodes := map[string]string{}, map[string]uint64{}
					rows := int64(0)
					for f := range rapid.IntRange(0, 5).Draw(rt, "files") {
						ending := rapid.SampledFrom([]string{"", ".gz", ".zst"}).Draw(rt, fmt.Sprint("ending", f))
						name := fmt.Sprint(strings.Repeat("d/", f%3), "app.log.", f, ending)
						content, expected := w.head, w.head
						for n := range rapid.IntRange(0, 12).Draw(rt, fmt.Sprint("lines", f)) {
							who := rapid.SampledFrom([]string{"u1", "u2", "u3", "u10", "0", "00", ""}).Draw(rt, fmt.Sprint("who", f, ".", n))
							l := w.line(who, "x", n) + rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(rt, fmt.Sprint("end", f, ".", n))
							content += l
							switch {
							case !slices.Contains(gone, who):
								expected += l
							case method == dsr.Mask:
								rows++
								expected += strings.Replace(l, w.line(who, "x", n), w.line("nobody", "-", n), 1)
							default:
								rows++
							}
						}
						write(t, root, name, pack(t, ending, content))
						want[name] = expected
						if expected == content {
							inodes[name] = number(rt, root, name)
						}
					}
					var batch connectors.Batch
					for _, id := range gone {
						batch = append(batch, user(id, id))
					}
					c := open(t, root, system(e), connectors.Options{})
					j, err := erase(t, c, batch)
					require.NoError(rt, err)
					total := int64(0)
					for _, n := range counts(j.Tallies()) {
						total += n
					}
					require.Equal(rt, rows, total)
					got := map[string]string{}
					for name, content := range contents(t, root) {
						got[name] = unpack(t, name, string(content))
					}
					require.Equal(rt, normal(want), normal(got))
					for name, was := range inodes {
						require.Equal(rt, was, number(rt, root, name), "%s was rewritten", name)
					}
					require.Empty(rt, verify(t, c, batch))
				})
			})
		}
	}
}

// normal writes CSV's optional quotes in one way: a masked field has none.
func normal(files map[string]string) map[string]string {
	out := map[string]string{}
	for name, content := range files {
		out[name] = strings.ReplaceAll(content, `"nobody"`, "nobody")
	}
	return out
}

func number(t require.TestingT, root, name string) uint64 {
	var s unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(root, name), &s))
	return s.Ino
}

// What somebody puts back is found, wherever it is put and however it is spelled.
func TestSaboteur(t *testing.T) {
	t.Parallel()
	e := connectors.Entity{
		Name: "requests", Erase: dsr.Delete, Fields: []connectors.Field{{Name: "email", Identifier: "email"}},
		Settings: map[string]any{"files": "**/app.log*", "format": "jsonl"},
	}
	batch := connectors.Batch{{Ref: "a", Identifiers: []dsr.Identifier{{Name: "email", Value: dsr.NewSecret("ann@example.com")}}}}
	for _, spelled := range []string{`{"email":"ann@example.com"}`, `{"email":"ANN@Example.com"}`, `{"email":"\u0061nn@example.com"}`} {
		for _, name := range []string{"app.log.1", "app.log.2.gz", "deep/er/app.log.3.zst", "app.log-20260101.gz"} {
			root := t.TempDir()
			write(t, root, "app.log.1", `{"email":"ann@example.com"}`+"\n")
			c := open(t, root, system(e), connectors.Options{})
			_, err := erase(t, c, batch)
			require.NoError(t, err)
			require.Empty(t, verify(t, c, batch))
			write(t, root, name, pack(t, filepath.Ext(name), spelled+"\n"))
			left := verify(t, c, batch)
			require.Equal(t, []dsr.Residue{{Subject: "a", System: "web", Entity: "requests", Field: "email", Count: 1}}, left, "%s in %s", spelled, name)
			_, err = erase(t, c, batch)
			require.NoError(t, err)
			require.Empty(t, verify(t, c, batch))
		}
	}
}
