package connectortest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
)

// Contents are a store of named contents: a bucket, a folder.
type Contents struct {
	Write  func(t *testing.T, name string, content []byte)
	Remove func(t *testing.T, name string) // for good, with every version
	// Read returns everything that anybody could still read, by name: each version of a content, the newest first.
	Read func(t *testing.T) map[string][][]byte
	// Stands are the from_ columns of what is exported from a line of a content as it is now; the first line is 1.
	Stands func(t *testing.T, name string, line int) map[string]string
}

// Blobs returns the Load, Dump, Put, Exported, Sabotage and Damage of a flat store of contents, so that a connector's
// test only adds Open, and places of its own to Sabotage. A table's rows are JSON Lines in several contents named
// "TABLE/0001.jsonl", "TABLE/0002.jsonl.gz", "TABLE/0003.jsonl.zst" and so on in turn.
func Blobs(c Contents) Backend {
	s := &blobs{Contents: c, damaged: map[string]bool{}}
	b := Backend{
		Load: s.load, Dump: s.dump, Put: s.put, Damage: s.damage, Flat: true, Interruptions: 30, Graphs: 25,
		Exported: func(r Record) Row { return s.row(s.data.Table(r.Entity), r.Values) },
		Sabotage: map[string]func(*testing.T, string, Row){},
	}
	if c.Stands != nil {
		b.Stands = s.stands
	}
	for _, ending := range []string{".jsonl", ".jsonl.gz", ".jsonl.zst"} {
		b.Sabotage["another "+ending] = func(t *testing.T, table string, r Row) {
			t.Helper()
			c.Write(t, table+"/deeper/late"+ending, s.encode(t, ending, s.data.Table(table), []Row{r}))
		}
	}
	return b
}

type blobs struct {
	Contents
	data    Dataset
	damaged map[string]bool
}

func (s *blobs) load(t *testing.T, d Dataset) {
	t.Helper()
	for name := range s.Read(t) {
		s.Remove(t, name)
	}
	s.data, s.damaged = d, map[string]bool{}
	for i := range d.Tables {
		table := &d.Tables[i]
		each := max(3, (len(table.Rows)+5)/6)
		for n := 0; n*each < len(table.Rows); n++ {
			ending := []string{".jsonl", ".jsonl.gz", ".jsonl.zst"}[n%3]
			s.Write(t, fmt.Sprintf("%s/%04d%s", table.Name, n+1, ending),
				s.encode(t, ending, table, table.Rows[n*each:min(len(table.Rows), (n+1)*each)]))
		}
	}
}

// compression is the ending by which a name tells its format and compression.
func compression(name string) string {
	for _, ending := range []string{".jsonl.gz", ".jsonl.zst"} {
		if strings.HasSuffix(name, ending) {
			return ending
		}
	}
	return ".jsonl"
}

func (s *blobs) encode(t *testing.T, ending string, table *Table, rows []Row) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = nopCloser{&out}
	switch ending {
	case ".jsonl.gz":
		w = gzip.NewWriter(&out)
	case ".jsonl.zst":
		z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		require.NoError(t, err)
		w = z
	}
	for _, r := range rows {
		_, err := w.Write(append(Line(table, r), '\n'))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Line is a row as one JSON object: columns with dots are nested, NULL is left out.
func Line(table *Table, r Row) []byte {
	doc := map[string]any{}
	for _, c := range table.Columns {
		v := r[c.Name]
		if v == nil {
			continue
		}
		if c.Class == connectors.ClassJSON {
			v = json.RawMessage(v.(string))
		}
		at := doc
		path := strings.Split(c.Name, ".")
		for _, name := range path[:len(path)-1] {
			if at[name] == nil {
				at[name] = map[string]any{}
			}
			at = at[name].(map[string]any)
		}
		at[path[len(path)-1]] = v
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic("a row of the suite's own does not marshal: " + err.Error())
	}
	return b
}

// ParseLine is the row of a record: whatever of the table's columns is in it.
func ParseLine(table *Table, line []byte) (Row, error) {
	var doc map[string]any
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	r := Row{}
	for _, c := range table.Columns {
		var v any = doc
		for name := range strings.SplitSeq(c.Name, ".") {
			in, _ := v.(map[string]any)
			v = in[name]
		}
		r[c.Name] = plain(c, v)
	}
	return r, nil
}

// plain is a decoded value as rows have it.
func plain(c connectors.Column, v any) any {
	switch n := v.(type) {
	case nil:
		return nil
	case json.Number:
		if i, err := n.Int64(); err == nil && c.Class != connectors.ClassJSON {
			return i
		}
	case string:
		if c.Class != connectors.ClassJSON {
			return n
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic("what was decoded does not marshal: " + err.Error())
	}
	return string(b)
}

// row is an exported record as the row that it was: the whole record under the name "record", or its fields by path.
func (s *blobs) row(table *Table, values map[string]any) Row {
	var line []byte
	switch v := values["record"].(type) {
	case string:
		line = []byte(v)
	case []byte:
		line = v
	case json.RawMessage:
		line = v
	}
	if r, err := ParseLine(table, line); err == nil {
		return r
	}
	return maps.Clone(values)
}

func (s *blobs) dump(t *testing.T) map[string][]Row {
	t.Helper()
	contents := s.Read(t)
	out := map[string][]Row{}
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		table := s.data.Table(name[:max(0, strings.Index(name, "/"))])
		if table == nil || s.damaged[name] {
			continue
		}
		for _, version := range contents[name] {
			out[table.Name] = append(out[table.Name], s.decode(t, name, table, version)...)
		}
	}
	return out
}

func (s *blobs) decode(t *testing.T, name string, table *Table, content []byte) []Row {
	t.Helper()
	var r io.Reader = bytes.NewReader(content)
	switch compression(name) {
	case ".jsonl.gz":
		z, err := gzip.NewReader(r)
		require.NoError(t, err, name)
		r = z
	case ".jsonl.zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		require.NoError(t, err, name)
		defer z.Close()
		r = z
	}
	all, err := io.ReadAll(r)
	require.NoError(t, err, name)
	var out []Row
	for line := range bytes.Lines(all) {
		row, err := ParseLine(table, line)
		require.NoError(t, err, name)
		out = append(out, row)
	}
	return out
}

// stands finds the row with the same key in the newest versions.
func (s *blobs) stands(t *testing.T, table string, r Row) map[string]string {
	t.Helper()
	at := s.data.Table(table)
	for name, versions := range s.Read(t) {
		if !strings.HasPrefix(name, table+"/") {
			continue
		}
		for i, have := range s.decode(t, name, at, versions[0]) {
			if joined(s.canonicalRow(at, have), at.PrimaryKey) == joined(s.canonicalRow(at, r), at.PrimaryKey) {
				return s.Stands(t, name, i+1)
			}
		}
	}
	require.Fail(t, "a row that is not there was exported", table)
	return nil
}

// put replaces by writing without the row whatever holds one with the same key, and adds the row in a content of its own.
func (s *blobs) put(t *testing.T, table string, r Row) {
	t.Helper()
	at := s.data.Table(table)
	key := func(r Row) string { return joined(s.canonicalRow(at, r), at.PrimaryKey) }
	for name, versions := range s.Read(t) {
		if !strings.HasPrefix(name, table+"/") || s.damaged[name] {
			continue
		}
		rows := s.decode(t, name, at, versions[0])
		kept := slices.DeleteFunc(slices.Clone(rows), func(old Row) bool { return key(old) == key(r) })
		if len(kept) < len(rows) {
			s.Remove(t, name)
			if len(kept) > 0 {
				s.Write(t, name, s.encode(t, compression(name), at, kept))
			}
		}
	}
	s.Write(t, fmt.Sprintf("%s/put-%s.jsonl", table, strings.ReplaceAll(key(r), "\x00", "-")), s.encode(t, ".jsonl", at, []Row{r}))
}

func (s *blobs) canonicalRow(table *Table, r Row) map[string]string {
	out := map[string]string{}
	for _, c := range table.Columns {
		out[c.Name] = canonical(c.Class, r[c.Name])
	}
	return out
}

// damage writes a gzip that ends in the middle of the row.
func (s *blobs) damage(t *testing.T, table string, r Row) func(*testing.T) bool {
	t.Helper()
	name := table + "/damaged.jsonl.gz"
	whole := s.encode(t, ".jsonl.gz", s.data.Table(table), []Row{r})
	content := whole[:len(whole)-6]
	s.damaged[name] = true
	s.Write(t, name, content)
	return func(t *testing.T) bool {
		t.Helper()
		versions := s.Read(t)[name]
		return len(versions) == 1 && bytes.Equal(versions[0], content)
	}
}
