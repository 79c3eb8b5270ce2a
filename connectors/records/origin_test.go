package records_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Whoever gets a copy sees their own name in a path, and nobody else's.
func TestAPathIsShownWithoutOthers(t *testing.T) {
	t.Parallel()
	sys := &connectors.System{
		Identifiers: map[string]dsr.IdentifierKind{"email": dsr.KindEmail, "user_id": dsr.KindOpaque, "account": dsr.KindOpaque}, TenantName: "account",
	}
	s := connectors.Subject{Ref: "a", Tenant: "t1", Identifiers: []dsr.Identifier{
		{Name: "email", Value: dsr.NewSecret("anna@example.com")}, {Name: "user_id", Value: dsr.NewSecret("4670174060599")},
	}}
	for _, c := range []struct{ glob, path, want string }{
		{"events/**", "events/2024-05-01/part-20240501.json.gz", "events/2024-05-01/part-20240501.json.gz"},
		{"avatars/{user_id}/**", "avatars/4670174060599/face.png", "avatars/4670174060599/face.png"},
		{"shared/{user_id}/{email}/*", "shared/77/anna%40Example.com/x", "shared/{user_id}/anna%40Example.com/x"},
		{"shared/{user_id}/{email}/*", "shared/4670174060599/bert@example.com/x", "shared/4670174060599/{email}/x"},
		{"{account}/{user_id}.json", "t1/7.json", "t1/{user_id}.json"},
		{"{account}/{user_id}.json", "t2/7.json", "{account}/{user_id}.json"},
		{"mails/**", "mails/bert@example.com/1.eml", "mails/*/1.eml"},
		{"mails/**", "mails/ANNA@example.com/1.eml", "mails/ANNA@example.com/1.eml"},
		{"mails/**", "mails/joanna@example.com/1.eml", "mails/*/1.eml"},
		{"calls/**", "calls/46701740605.wav", "calls/*.wav"},
		{"calls/**", "calls/of-bert%40example.com", "calls/*.com"},
		{"calls/{user_id}-of/**", "calls/4670174060599-of/46701740605/46701740605.wav", "calls/4670174060599-of/*/*.wav"},
		{"x/**", "elsewhere/46701740605", "elsewhere/*"},
	} {
		g, err := records.ParseGlob(c.glob)
		require.NoError(t, err)
		require.Equal(t, c.want, g.Shown(c.path, s, sys), "%s on %s", c.glob, c.path)
	}
}

func TestOriginsStandBeforeTheFields(t *testing.T) {
	t.Parallel()
	own := []string{"from_line", "x"}
	names, values := records.From(own, []any{"own", 1}, records.Origin{Name: "from_file", Value: "f"}, records.Origin{Name: "from_line", Value: 7})
	require.Equal(t, []string{"from_file", "from_line_", "from_line", "x"}, names)
	require.Equal(t, []any{"f", 7, "own", 1}, values)
	require.Equal(t, []string{"from_line", "x"}, own)
}

// A hit knows its line in an object of many blocks, where records have several lines, and behind a header.
func TestHitsKnowTheirLine(t *testing.T) {
	t.Parallel()
	sys := &connectors.System{Name: "lake", Identifiers: map[string]dsr.IdentifierKind{"user_id": dsr.KindOpaque}}
	for format, c := range map[string]struct{ head, mine, other string }{
		"jsonl": {"", `{"id":"42"}` + "\n", `{"id":"7","x":"` + strings.Repeat("-", 900) + `"}` + "\n"},
		"csv":   {"id,x\n", "42,\"two\nlines\"\n", `7,"` + strings.Repeat("-\n", 400) + `"` + "\n"},
	} {
		e := &connectors.Entity{
			Name: "events", Erase: dsr.Delete, Settings: map[string]any{"format": format}, Fields: []connectors.Field{{Name: "id", Identifier: "user_id"}},
		}
		l, err := records.NewLayout(sys, e, connectors.Options{})
		require.NoError(t, err, format)
		var text bytes.Buffer
		text.WriteString(c.head)
		var want []int64
		for n := range 9000 {
			if n%1000 == 999 {
				want = append(want, int64(bytes.Count(text.Bytes(), []byte("\n")))+1)
				text.WriteString(c.mine)
			}
			text.WriteString(c.other)
		}
		var got []int64
		f := l.Find(connectors.Batch{{Ref: "a", Identifiers: []dsr.Identifier{{Name: "user_id", Value: dsr.NewSecret("42")}}}}, connectors.Holds{})
		_, err = f.Scan(t.Context(), "events", &text, func(h *records.Hit) error { got = append(got, h.Line); return nil })
		require.NoError(t, err, format)
		require.Equal(t, want, got, format)
	}
}
