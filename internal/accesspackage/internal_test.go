package accesspackage

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/retention"
)

func TestEveryLanguageHasEveryText(t *testing.T) {
	t.Parallel()
	english, err := loadWords("en")
	require.NoError(t, err)
	for _, l := range Languages() {
		w, err := loadWords(l)
		require.NoError(t, err)
		require.Equal(t, l, w.Lang)
		v, e := reflect.ValueOf(*w), reflect.ValueOf(*english)
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			switch f := v.Field(i); f.Kind() {
			case reflect.String:
				require.NotEmpty(t, f.String(), "%s %s", l, name)
				require.Equal(t, strings.Count(e.Field(i).String(), "%"), strings.Count(f.String(), "%"), "%s %s", l, name)
			case reflect.Map:
				require.ElementsMatch(t, keysOf(e.Field(i)), keysOf(f), "%s %s", l, name)
			default:
				require.Equal(t, e.Field(i).Len(), f.Len(), "%s %s", l, name)
			}
		}
		for _, c := range (&datamap.Art15{}).Clauses() {
			require.Contains(t, w.Clauses, c.Name)
		}
		for _, s := range retention.Starts() {
			require.Contains(t, w.Starts, string(s))
		}
	}
	require.Equal(t, "de", wordsFor("de-AT").Lang)
	require.Equal(t, "en", wordsFor("").Lang)
	require.Equal(t, "en", wordsFor("not a language").Lang)
	require.Equal(t, "en", wordsFor("fi").Lang)
}

func keysOf(v reflect.Value) []string {
	var out []string
	for _, k := range v.MapKeys() {
		out = append(out, k.String())
	}
	return out
}

func FuzzSafePath(f *testing.F) {
	for _, s := range []string{"../../etc/passwd", "/abs", `C:\x`, "a//b", "con.txt", "\x00", strings.Repeat("ö", 500), ".", "a/ ..  /b", "x\u202ey"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := safePath(s)
		if !filepath.IsLocal(p) || !utf8.ValidString(p) || strings.ContainsAny(p, "\\:\x00\n") {
			t.Errorf("%q", p)
		}
		for _, e := range strings.Split(p, "/") {
			if e == "" || e == ".." || len(e) > maxName+1 || strings.HasSuffix(e, ".") {
				t.Errorf("%q", p)
			}
		}
	})
}

func FuzzValue(f *testing.F) {
	f.Add("x\"\\\n\r\t\x01\u2028é")
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, s string) {
		want := strings.ToValidUTF8(s, "\uFFFD")
		cell := appendValue(nil, s)
		var got string
		if err := json.Unmarshal(cell, &got); err != nil || got != want {
			t.Errorf("%q became %q", want, got)
		}
		if text, quoted := plain(cell); text != want || !quoted {
			t.Errorf("%q is read as %q", want, text)
		}
	})
}
