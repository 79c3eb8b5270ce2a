package records_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// lake is a system whose map has every kind of identifier.
func lake() *connectors.System {
	return &connectors.System{Name: "lake", Identifiers: map[string]dsr.IdentifierKind{
		"email": dsr.KindEmail, "user_id": dsr.KindOpaque, "phone": dsr.KindPhone, "device": dsr.KindUUID,
		"ip": dsr.KindIP, "account": dsr.KindInteger,
	}}
}

func events() *connectors.Entity {
	return &connectors.Entity{
		Name: "events", Settings: map[string]any{"format": "jsonl"}, Erase: dsr.Delete, Mentions: []string{"note"},
		Fields: []connectors.Field{{Name: "user.id", Identifier: "user_id"}, {Name: "email", Identifier: "email"}},
	}
}

func subject(ref string, pairs ...string) connectors.Subject {
	s := connectors.Subject{Ref: ref}
	for i := 0; i < len(pairs); i += 2 {
		s.Identifiers = append(s.Identifiers, dsr.Identifier{Name: pairs[i], Value: dsr.NewSecret(pairs[i+1])})
	}
	return s
}

func layout(t require.TestingT, e *connectors.Entity) *records.Layout {
	l, err := records.NewLayout(lake(), e, connectors.Options{})
	require.NoError(t, err)
	return l
}

func find(l *records.Layout, b ...connectors.Subject) *records.Finder {
	return l.Find(b, connectors.Holds{})
}

func compressed(t require.TestingT, kind, content string) []byte {
	var b bytes.Buffer
	switch kind {
	case "none":
		b.WriteString(content)
	case "gzip":
		w := gzip.NewWriter(&b)
		_, err := w.Write([]byte(content))
		require.NoError(t, err)
		require.NoError(t, w.Close())
	case "zstd":
		w, err := zstd.NewWriter(&b)
		require.NoError(t, err)
		_, err = w.Write([]byte(content))
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	return b.Bytes()
}

func plain(t require.TestingT, kind string, b []byte) string {
	var r io.Reader = bytes.NewReader(b)
	switch kind {
	case "gzip":
		z, err := gzip.NewReader(r)
		require.NoError(t, err)
		r = z
	case "zstd":
		z, err := zstd.NewReader(r)
		require.NoError(t, err)
		defer z.Close()
		r = z
	}
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(out)
}

func rewrite(t require.TestingT, f *records.Finder, in []byte) ([]byte, records.Totals) {
	var out bytes.Buffer
	totals, err := f.Rewrite(context.Background(), "object", bytes.NewReader(in), &out)
	require.NoError(t, err)
	return out.Bytes(), totals
}

func TestDeletesRedactsAndKeepsEveryOtherByte(t *testing.T) {
	t.Parallel()
	in := strings.Join([]string{
		"\ufeff" + `{"user": {"id": 42}, "email": "anna@example.com"}`,
		`{"user":{"id":"43"},"note":"call Anna\u0040Example.com"}` + "\r",
		"",
		`{ "user.id" : "42" }`,
		`{"user":{"id":420}, "n": 1.50}`,
		`{"em\u0061il":"ANNA@example.com"}`,
		`{"user":[{"id":1},{"id":42.0}]}`,
		`{"last":true}`,
	}, "\n")
	want := strings.Join([]string{
		"\ufeff" + `{"user":{"id":"43"},"note":"call [redacted]"}` + "\r",
		"",
		`{"user":{"id":420}, "n": 1.50}`,
		`{"last":true}`,
	}, "\n")
	for _, kind := range []string{"none", "gzip", "zstd"} {
		l := layout(t, events())
		f := find(l, subject("s", "user_id", "42", "email", "anna@example.com"))
		out, totals := rewrite(t, f, compressed(t, kind, in))
		require.Equal(t, want, plain(t, kind, out), kind)
		require.Equal(t, []connectors.Tally{
			{Subject: "s", Entity: "events", Method: dsr.Delete, Rows: 4},
			{Subject: "s", Entity: "events", Method: dsr.Redact, Rows: 1},
		}, totals.Tallies)
		require.EqualValues(t, 7, totals.Records)
		require.EqualValues(t, 3, totals.Left)
		require.True(t, totals.Changed)
		again, totals := rewrite(t, f, out)
		require.Equal(t, out, again, "what is not changed is copied")
		require.False(t, totals.Changed)
	}
}

func TestMasksAndKeeps(t *testing.T) {
	t.Parallel()
	e := events()
	e.Erase = dsr.Mask
	e.Masks = map[string]mask.Spec{
		"user.id": {Kind: mask.Null}, "email": {Kind: mask.Random}, "name": {Kind: mask.Constant, Value: "gone"},
	}
	f := find(layout(t, e), subject("s", "user_id", "42"))
	out, totals := rewrite(t, f, []byte(`{"email": "a@example.com", "user": {"id":42, "x":1}, "name": "Anna"}`+"\n"))
	require.Regexp(t, `^{"email": "[a-z2-7]{32}@x.invalid", "user": {"id":null, "x":1}, "name": "gone"}`+"\n$", string(out))
	require.EqualValues(t, 1, totals.Left)
	require.Equal(t, dsr.Mask, totals.Tallies[0].Method)

	e.Erase, e.Keep = dsr.Keep, &connectors.Keep{Article: "17(3)(b)"}
	e.Masks = map[string]mask.Spec{"email": {Kind: mask.Random}}
	f = find(layout(t, e), subject("s", "user_id", "42"))
	in := []byte(`{"email": "a@example.com", "user": {"id":42}}`)
	hits := scan(t, f, in)
	require.Equal(t, []string{"email"}, hits[0].Residue)
	out, totals = rewrite(t, f, in)
	require.True(t, totals.Changed)
	hits = scan(t, f, out)
	require.Len(t, hits, 1)
	require.Empty(t, hits[0].Residue)
	_, totals = rewrite(t, f, out)
	require.False(t, totals.Changed, "a random value is not made again")
}

func scan(t require.TestingT, f *records.Finder, in []byte) []records.Hit {
	var hits []records.Hit
	_, err := f.Scan(context.Background(), "object", bytes.NewReader(in), func(h *records.Hit) error {
		hits = append(hits, *h)
		return nil
	})
	require.NoError(t, err)
	return hits
}
