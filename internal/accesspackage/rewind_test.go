package accesspackage_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// TestAPartIsWhatWasWrittenUpToItsMark writes, marks, rewinds, reopens and dies at random, and compares what is
// assembled with a list in memory.
func TestAPartIsWhatWasWrittenUpToItsMark(t *testing.T) {
	t.Parallel()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		b := setup(t)
		runs++
		path := filepath.Join(b.dir, "staging", "req_1", "shop.part")
		type state struct{ a, b, files int }
		var now state
		mark, marked := "", state{}
		p := b.part(t, "shop")
		record := func(p engine.Part, entity string, i int) {
			require.NoError(t, p.Record(entity, []string{"i", "pad"}, []any{i, strings.Repeat("p", i%3*30_000)}))
		}
		rt.Repeat(map[string]func(*rapid.T){
			"a": func(*rapid.T) { record(p, "a", now.a); now.a++ },
			"b": func(*rapid.T) { record(p, "b", now.b); now.b++ },
			"file": func(*rapid.T) {
				require.NoError(t, p.File("f", "x", strings.NewReader(fmt.Sprint(now.files))))
				now.files++
			},
			"mark": func(*rapid.T) {
				var err error
				mark, err = p.Mark()
				require.NoError(t, err)
				marked = now
			},
			"rewind": func(*rapid.T) { require.NoError(t, p.Rewind(mark)); now = marked },
			"reopen": func(*rapid.T) { require.NoError(t, p.Close()); p = b.part(t, "shop") },
			"die": func(rt *rapid.T) { // some of what was not marked is on disk, cut anywhere
				require.NoError(t, p.Close())
				info, err := os.Stat(path)
				require.NoError(t, err)
				var floor int64
				if mark != "" {
					_, err := fmt.Sscan(mark, &floor)
					require.NoError(t, err)
				}
				require.NoError(t, os.Truncate(path, rapid.Int64Range(floor, info.Size()).Draw(rt, "size")))
				p = b.part(t, "shop")
				require.NoError(t, p.Rewind(mark))
				now = marked
			},
			"": func(*rapid.T) { require.EqualValues(t, now.a+now.b+now.files, p.Records()) },
		})
		require.NoError(t, p.Close())
		_, files := b.assemble(t)
		for entity, want := range map[string]int{"a": now.a, "b": now.b} {
			var got []struct{ I int }
			if want > 0 {
				require.NoError(t, json.Unmarshal([]byte(files["data/shop/"+entity+".json"]), &got))
			}
			require.Len(t, got, want)
			for i := range got {
				require.Equal(t, i, got[i].I)
			}
		}
		n := 0
		for f := range files {
			if strings.HasPrefix(f, "files/") {
				n++
			}
		}
		require.Equal(t, now.files, n)
	})
	require.Positive(t, runs)
}
