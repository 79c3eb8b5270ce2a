package records_test

import (
	"bytes"
	"context"
	stdcsv "encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// erase rewrites content and sees that Scan agrees with Rewrite.
func erase(t *testing.T, f *records.Finder, content []byte) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	totals, err := f.Rewrite(context.Background(), "object", bytes.NewReader(content), &out)
	scanned, scanErr := f.Scan(context.Background(), "object", bytes.NewReader(content), nil)
	if (err == nil) != (scanErr == nil) {
		t.Fatalf("Rewrite says %v, Scan %v", err, scanErr)
	}
	if err != nil {
		require.True(t, connectors.IsPermanent(err), "%v", err)
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeUnreadable})
		return nil, err
	}
	require.Equal(t, totals, scanned)
	return out.Bytes(), nil
}

// same reports whether a text is 42 by what surrounds it alone; sure is false where it may have escapes.
func same(s string) (is, sure bool) {
	is = strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf) }) == "42"
	return is, !strings.ContainsAny(s, "%\\\x1b")
}

// holes takes the zeros from the beginning of a line.
func holes(line []byte) (zeros, rest []byte) {
	rest = bytes.TrimLeft(line, "\x00")
	return line[:len(line)-len(rest)], rest
}

// naiveJSON decides by decoding everything whether a line is the subject's, who has the user_id 42.
func naiveJSON(line []byte) (owned, ok, sure bool) {
	if !json.Valid(line) || len(bytes.TrimSpace(line)) == 0 || bytes.TrimSpace(line)[0] != '{' {
		return false, false, true
	}
	sure = true
	look := func(s string) bool {
		is, certain := same(s)
		sure = sure && certain
		return is
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	var value func(path string) bool
	value = func(path string) bool {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		found := false
		switch v := tok.(type) {
		case json.Delim:
			for dec.More() {
				inner := path
				if v == '{' {
					name, err := dec.Token()
					if err != nil {
						return found
					}
					if path == "id" && look(name.(string)) {
						found = true // in an object that is the identifier, names count
					}
					if inner = strings.TrimPrefix(path+"."+name.(string), "."); path == "id" {
						inner = "id"
					}
				}
				if value(inner) {
					found = true
				}
			}
			_, _ = dec.Token()
		case string:
			found = path == "id" && look(v)
		case json.Number:
			n, ok := new(big.Rat).SetString(v.String())
			found = path == "id" && ok && n.Cmp(big.NewRat(42, 1)) == 0
		}
		return found
	}
	owned = value("")
	return owned, true, sure
}

// exponent matches numbers that big.Rat takes long for.
var exponent = regexp.MustCompile(`[eE][+-]?0*[1-9]\d+`)

func FuzzJSONL(f *testing.F) {
	for _, s := range []string{
		"", "{}", `{"id":42}`, "{\"id\":\"42\"}\n{\"id\":43}\n", `{"id":[1,{"x":["42"]}]}`, `{"i\u0064":4.2e1}`, `{"id":{"42":null}}`,
		`{"a":{"id":42}}`, "\ufeff{\"id\":42}", `{"id":42,}`, `{"id":"\ud800"}`, `{"id":"\x"}`, "{\"id\":\"\t42\"}", `[{"id":42}]`, `{"id":042}`,
		"{\"id\":41}\r\n\r\n{\"id\":-42}", `{"id":42e0,"id":1}`, `{"":{"":42}}`, `{"id":420000000e-7}`, "{\"id\"\n:42}",
		`{"i":"x","id" : 42 }`, `{"id":42.00000000000000000001}`,
	} {
		f.Add([]byte(s), 3)
	}
	e := &connectors.Entity{
		Name: "events", Erase: dsr.Delete, Settings: map[string]any{"format": "jsonl", "compression": "none"},
		Fields: []connectors.Field{{Name: "id", Identifier: "user_id"}},
	}
	l := layout(f, e)
	f.Fuzz(func(t *testing.T, content []byte, block int) {
		if exponent.Match(content) {
			return // more than Lethe writes out, and no identifier
		}
		if bytes.Count(content, []byte{'{'})+bytes.Count(content, []byte{'['}) > 900 || len(content) > 1<<16 {
			return // deeper than Lethe reads
		}
		var want []byte
		valid := true
		rest := content
		if bytes.HasPrefix(rest, []byte("\ufeff")) {
			want, rest = append(want, rest[:3]...), rest[3:]
		}
		for line := range bytes.Lines(rest) {
			zeros, line := holes(line)
			want = append(want, zeros...)
			if len(bytes.Trim(line, " \t\r\n")) == 0 {
				want = append(want, line...)
				continue
			}
			owned, ok, sure := naiveJSON(line)
			if !sure {
				return
			}
			if valid = valid && ok; !owned {
				want = append(want, line...)
			}
		}
		got, err := erase(t, find(l.Block(1+int(uint16(block))%5000), subject("s", "user_id", "42")), content)
		require.Equal(t, valid, err == nil, "%v", err)
		if err == nil && string(got) != string(want) {
			t.Fatalf("%q became %q, not %q", content, got, want)
		}
	})
}

func FuzzCSV(f *testing.F) {
	for _, s := range []string{
		"id,x\n42,1\n43,2\n", "x,id\r\n\"a\nb\",\"42\"\r\n", "id\n\n42\n", "\ufeffid\n42", "id,x\n42\n", "id\n\"4\"\"2\"\n", "id\na\"b\n", "id\n\"42\"x\n",
		"id,id\n1,42\n", "x\n1\n", "id\n\"\n42\"\n42\n", "", "\n\nid\n42\n", "\"id\"\n\"\"\n",
	} {
		f.Add([]byte(s), 3)
	}
	e := &connectors.Entity{
		Name: "people", Erase: dsr.Delete, Settings: map[string]any{"format": "csv", "compression": "none"},
		Fields: []connectors.Field{{Name: "id", Identifier: "user_id"}},
	}
	l := layout(f, e)
	f.Fuzz(func(t *testing.T, content []byte, block int) {
		if len(content) > 1<<16 {
			return
		}
		got, err := erase(t, find(l.Block(1+int(uint16(block))%5000), subject("s", "user_id", "42")), content)
		if first := bytes.TrimPrefix(content, []byte("\ufeff")); bytes.ContainsRune(content, '\r') || bytes.HasPrefix(first, []byte{'\n'}) {
			return // encoding/csv changes what is before a line feed in quotes, and looks for the header further down
		}
		r := stdcsv.NewReader(bytes.NewReader(bytes.TrimPrefix(content, []byte("\ufeff"))))
		all, want := r.ReadAll()
		if err != nil {
			if want == nil && len(all) > 0 && strings.Contains(strings.Join(all[0], ","), "id") {
				for _, name := range all[0] {
					if strings.TrimSpace(name) == "id" {
						t.Fatalf("%q is CSV: %v", content, err)
					}
				}
			}
			return
		}
		require.NoError(t, want, "%q", content)
		left, err := stdcsv.NewReader(bytes.NewReader(bytes.TrimPrefix(got, []byte("\ufeff")))).ReadAll()
		require.NoError(t, err)
		var kept [][]string
		for i, row := range all {
			owned := false
			for n, v := range row {
				is, sure := same(v)
				if !sure {
					return
				}
				owned = owned || i > 0 && strings.TrimSpace(all[0][n]) == "id" && is
			}
			if !owned {
				kept = append(kept, row)
			}
		}
		require.Equal(t, kept, left)
	})
}

func FuzzText(f *testing.F) {
	for _, s := range []string{
		`192.0.2.1 - 42 [25/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl"`, `192.0.2.1 - - [x] "\"" 200 -`,
		"\n\r\n", `192.0.2.1 - 42 [t] "GET / HTTP/1.1" 200 5 "r" "a" "192.0.2.9"`, "no such line",
	} {
		f.Add([]byte(s), 3)
	}
	e := &connectors.Entity{
		Name: "access", Erase: dsr.Delete, Settings: map[string]any{"format": "text", "pattern": "combined", "compression": "none"},
		Fields: []connectors.Field{{Name: "user", Identifier: "user_id"}}, Mentions: []string{"request"},
	}
	l := layout(f, e)
	f.Fuzz(func(t *testing.T, content []byte, block int) {
		if len(content) > 1<<16 {
			return
		}
		got, err := erase(t, find(l.Block(1+int(uint16(block))%5000), subject("s", "user_id", "42")), content)
		if err != nil {
			return
		}
		var want []byte
		for line := range bytes.Lines(content) {
			zeros, line := holes(line)
			want = append(want, zeros...)
			user, _, _ := strings.Cut(strings.Join(strings.SplitN(string(line), " ", 3)[min(2, strings.Count(string(line), " ")):], ""), " [")
			is, sure := same(user)
			if !sure {
				return
			}
			if !is {
				want = append(want, line...)
			}
		}
		require.Equal(t, string(want), string(got))
	})
}

// FuzzCompressed feeds damaged files of every compression.
func FuzzCompressed(f *testing.F) {
	content := strings.Repeat(`{"id":"42"}`+"\n"+`{"id":"43"}`+"\n", 5)
	for _, kind := range []string{"gzip", "zstd"} {
		whole := compressed(f, kind, content)
		f.Add(whole)
		f.Add(whole[:len(whole)-3])
		f.Add(append(whole, whole...))
		f.Add(append(whole, 0))
	}
	e := &connectors.Entity{
		Name: "events", Erase: dsr.Delete, Settings: map[string]any{"format": "jsonl"},
		Fields: []connectors.Field{{Name: "id", Identifier: "user_id"}},
	}
	var out bytes.Buffer
	_, err := find(layout(f, e).Block(40)).Rewrite(context.Background(), "o", bytes.NewReader(compressed(f, "gzip", content)), &out)
	require.NoError(f, err)
	f.Add(out.Bytes())
	l := layout(f, e)
	f.Fuzz(func(t *testing.T, object []byte) {
		_, _ = erase(t, find(l, subject("s", "user_id", "42")), object)
	})
}

// failing is a source that breaks after some bytes.
type failing struct {
	r   io.Reader
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = f.err
	}
	return n, err
}
