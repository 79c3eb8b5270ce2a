package records_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// piece is a part of a record whose bytes and meaning the generator knows.
type piece struct {
	raw    string
	masked string // what the masks make of it; raw when nothing
	owned  bool   // it is an identifier of the subject
	redact string // what the redaction of mentions makes of it; empty when it mentions nobody
}

type generated struct {
	pieces []piece
	end    string
}

func (g generated) raw() string {
	var b strings.Builder
	for _, p := range g.pieces {
		b.WriteString(p.raw)
	}
	return b.String() + g.end
}

func (g generated) owned() bool {
	return slices.ContainsFunc(g.pieces, func(p piece) bool { return p.owned })
}

// after is the record once the subject is erased, by hand.
func (g generated) after(m dsr.Method) string {
	if g.owned() && m == dsr.Delete {
		return ""
	}
	var b strings.Builder
	for _, p := range g.pieces {
		switch {
		case p.redact != "":
			b.WriteString(p.redact)
		case g.owned():
			b.WriteString(p.masked)
		default:
			b.WriteString(p.raw)
		}
	}
	return b.String() + g.end
}

func fixed(raw string) piece { return piece{raw: raw, masked: raw} }

// escapeJSON writes s as the inside of a JSON string with any characters escaped.
func escapeJSON(t *rapid.T, s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x10000 && rapid.IntRange(0, 5).Draw(t, "escape") == 0:
			format := rapid.SampledFrom([]string{`\u%04x`, `\u%04X`}).Draw(t, "case")
			fmt.Fprintf(&b, format, r)
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '/' && rapid.Bool().Draw(t, "slash"):
			b.WriteString(`\/`)
		case r < 0x20:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// spellings are values of identifiers of each kind: those of the subject, and others that look like them.
var spellings = map[string]struct {
	value        string
	same, others []string // texts
	numbers      []string // JSON numbers that are the same
	otherNumbers []string
}{
	"user_id": {
		value: "42", same: []string{"42", " 42", "42\t", "\x00\x0042", "\ufeff42", "%342", `\u0034\x32`}, others: []string{"042", "420", "4 2", "42.0", "x42", "", "４２"},
		numbers: []string{"42", "42.0", "4.2e1", "420E-1", "42.000"}, otherNumbers: []string{"-42", "4.2", "420", "42e1", "42.5"},
	},
	"zero": {
		value: "0", same: []string{"0"}, others: []string{"", "00", "false", "null"},
		numbers: []string{"0", "-0", "0.0", "0e9"}, otherNumbers: []string{"10", "0.5", "-1"},
	},
	"email": {
		value: "åsa@example.com", same: []string{
			"åsa@example.com", "ÅSA@Example.COM", "A\u030Asa@example.com", " åsa@example.com ", "Åsa <åsa@example.com>", "mailto:åsa@example.com", "bo@example.com, \"Å\" ÅSA@example.com",
			"%C3%A5sa%40example.com", `\u00e5sa@example.com`, "\x1b[36måsa\x1b[0m@example.com\x1b[0m",
		},
		others: []string{"asa@example.com", "åsa@example.com.au", "xåsa@example.com", "åsa@example"},
	},
	"phone": {
		value: "+46701234567", same: []string{"+46701234567", "0046 70-123 45 67", "46 (70) 1234567", "+46 (0)70 123 45 67", "%2B46701234567", "+46701234568, +46701234567"},
		others:  []string{"+46701234568", "701234567", "+4670123456", "n/a"},
		numbers: []string{"46701234567"}, otherNumbers: []string{"46701234568"},
	},
	"device": {
		value: "0e984725-c51c-4bf4-9960-e1c80e27aba0",
		same: []string{
			"0e984725-c51c-4bf4-9960-e1c80e27aba0", "0E984725C51C4BF49960E1C80E27ABA0", "{0e984725-c51c-4bf4-9960-e1c80e27aba0}",
			"urn:uuid:0e984725-c51c-4bf4-9960-e1c80e27aba0",
		},
		others: []string{"0e984725-c51c-4bf4-9960-e1c80e27aba1", "0e984725"},
	},
	"ip": {
		value: "2001:db8::1", same: []string{"2001:db8::1", "2001:0DB8:0:0::1", "2001:db8::1%eth0", "[2001:db8::1]", "2001:db8::1/128", "[2001:db8::1]:443", "192.0.2.1, 2001:db8::1"},
		others: []string{"2001:db8::2", "192.0.2.1", "192.0.2.1:443", "2001:db8::2, 2001:db8::3"},
	},
	"account": {
		value: "7", same: []string{"7", "007", "7.0", "7.00"}, others: []string{"77", "-7", "7.01", "7."},
		numbers: []string{"7", "7.0", "70e-1"}, otherNumbers: []string{"-7", "0.7"},
	},
}

func identifierNames() []string {
	names := make([]string, 0, len(spellings))
	for name := range spellings {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// entity is an Entity with every kind of identifier as a field of its own, free text, and masks.
func entity(format string, m dsr.Method) *connectors.Entity {
	e := &connectors.Entity{
		Name: "events", Erase: m, Mentions: []string{"note"},
		Settings: map[string]any{"format": format}, Fields: []connectors.Field{{Name: "name"}},
	}
	for _, name := range identifierNames() {
		e.Fields = append(e.Fields, connectors.Field{Name: path(format, name), Identifier: name})
	}
	if m == dsr.Mask {
		e.Masks = map[string]mask.Spec{"name": {Kind: mask.Constant, Value: "gone"}}
		for _, f := range e.Fields[1:] {
			e.Masks[f.Name] = mask.Spec{Kind: mask.Null}
		}
	}
	if format == "text" {
		groups := []string{`(?P<name>[^|]*)`, `(?P<note>[^|]*)`}
		for _, name := range identifierNames() {
			groups = append(groups, `(?P<`+name+`>[^|]*)`)
		}
		e.Settings["pattern"] = strings.Join(groups, `\|`)
	}
	return e
}

// path is the field that holds an identifier: nested ones in JSON.
func path(format, name string) string {
	if format == "jsonl" {
		switch name {
		case "user_id":
			return "user.id"
		case "zero":
			return "items[].zero"
		case "email":
			return "user.contact.email"
		}
	}
	return name
}

func everyone() connectors.Subject {
	var pairs []string
	for _, name := range identifierNames() {
		pairs = append(pairs, name, spellings[name].value)
	}
	return subject("s", pairs...)
}

var notes = []struct{ text, redacted string }{
	{"nobody", ""},
	{"", ""},
	{"to åsa@example.com.", "to [redacted]."},
	{"0E984725-C51C-4BF4-9960-E1C80E27ABA0 rang", "[redacted] rang"},
	{"call 070-123 45 67 now", "call [redacted] now"},
	{"42 is short, xåsa@example.com is longer", ""},
	{"2026-11-25 070-123 45 67 from:2001:DB8::1", "2026-11-25 [redacted] from:[redacted]"},
	{"till ÅSA@EXAMPLE.COM, 0e984725c51c4bf49960e1c80e27aba0", "till [redacted], [redacted]"},
}

// textOf draws a text for an identifier, and whether it is the subject's.
func textOf(t *rapid.T, name string) (string, bool) {
	s := spellings[name]
	if rapid.IntRange(0, 7).Draw(t, "same") == 0 {
		return rapid.SampledFrom(s.same).Draw(t, "spelling"), true
	}
	return rapid.SampledFrom(append([]string{"other"}, s.others...)).Draw(t, "other"), false
}

func jsonRecord(t *rapid.T) generated {
	space := func() piece { return fixed(rapid.SampledFrom([]string{"", "", "", " ", "\t", "  "}).Draw(t, "space")) }
	str := func(s string) string { return `"` + escapeJSON(t, s) + `"` }
	var members [][]piece
	member := func(name string, v ...piece) []piece {
		return append([]piece{space(), fixed(str(name)), space(), fixed(":"), space()}, append(v, space())...)
	}
	join := func(list [][]piece, open, end string) []piece {
		out := []piece{fixed(open)}
		for i, m := range list {
			if i > 0 {
				out = append(out, fixed(","))
			}
			out = append(out, m...)
		}
		return append(out, fixed(end))
	}
	id := func(name string) piece {
		s := spellings[name]
		p := piece{masked: "null"}
		switch k := rapid.IntRange(0, 9).Draw(t, "kind"); {
		case k == 0 && s.numbers != nil:
			p.raw, p.owned = rapid.SampledFrom(s.numbers).Draw(t, "number"), true
		case k <= 2 && s.otherNumbers != nil:
			p.raw = rapid.SampledFrom(s.otherNumbers).Draw(t, "number")
		case k == 3:
			p.raw = rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word")
		default:
			v, same := textOf(t, name)
			p.raw, p.owned = str(v), same
		}
		return p
	}
	for range rapid.IntRange(0, 5).Draw(t, "members") {
		switch rapid.IntRange(0, 9).Draw(t, "member") {
		case 0:
			members = append(members, member("name", piece{raw: str("Åsa"), masked: `"gone"`}))
		case 1:
			n := rapid.SampledFrom(notes).Draw(t, "note")
			p := fixed(str(n.text))
			if n.redacted != "" {
				p.redact = `"` + n.redacted + `"`
			}
			members = append(members, member("note", p))
		case 2:
			members = append(members, member("user", join([][]piece{member("x", fixed("1e5")), member("id", id("user_id"))}, "{", "}")...))
		case 3:
			members = append(members, member("user.id", id("user_id")))
		case 4:
			contact := member("contact", join([][]piece{member("email", id("email")), member("email", id("email"))}, "{", "}")...)
			members = append(members, member("user", join([][]piece{contact}, "{", "}")...))
		case 5:
			list := [][]piece{
				join([][]piece{member("zero", id("zero"))}, "{", "}"),
				{fixed("7")},
				join([][]piece{member("n", fixed("0")), member("zero", id("zero"))}, "{", "}"),
			}
			members = append(members, member("items", join(list, "[", "]")...))
		case 6:
			members = append(members, member(rapid.SampledFrom([]string{"id", "usr", "contact", ""}).Draw(t, "stranger"), fixed(`{"id":42,"a":[[],{}]}`)))
		default:
			name := rapid.SampledFrom([]string{"phone", "device", "ip", "account"}).Draw(t, "id")
			members = append(members, member(name, id(name)))
		}
	}
	return generated{pieces: append([]piece{space()}, append(join(members, "{", "}"), space())...)}
}

func csvRecord(t *rapid.T) generated {
	field := func(s string) string {
		if strings.ContainsAny(s, "\",\r\n") || rapid.Bool().Draw(t, "quoted") {
			return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
		}
		return s
	}
	keep := func(old, s string) string { // what was quoted stays so
		if strings.HasPrefix(old, `"`) || strings.ContainsAny(s, "\",\r\n") {
			return `"` + s + `"`
		}
		return s
	}
	raw := field(rapid.SampledFrom([]string{"Åsa", "a,b", "two\nlines", "\"\"\n\"", "x\r\ny"}).Draw(t, "name"))
	g := generated{pieces: []piece{{raw: raw, masked: keep(raw, "gone")}, fixed(",")}}
	n := rapid.SampledFrom(notes).Draw(t, "note")
	p := fixed(field(n.text))
	if n.redacted != "" {
		p.redact = keep(p.raw, n.redacted)
	}
	g.pieces = append(g.pieces, p)
	for _, name := range identifierNames() {
		v, same := textOf(t, name)
		p := piece{raw: field(v), owned: same}
		if v == "" {
			p.masked = p.raw
		}
		g.pieces = append(g.pieces, fixed(","), p)
	}
	return g
}

func textRecord(t *rapid.T) generated {
	n := rapid.SampledFrom(notes).Draw(t, "note")
	p := fixed(n.text)
	p.redact = n.redacted
	g := generated{pieces: []piece{{raw: "Åsa", masked: "gone"}, fixed("|"), p}}
	for _, name := range identifierNames() {
		v, same := textOf(t, name)
		p := piece{raw: v, owned: same, masked: "-"}
		if v == "" {
			p.masked = ""
		}
		g.pieces = append(g.pieces, fixed("|"), p)
	}
	return g
}

// TestAgainstNaive erases a person from random objects and compares every byte with what was worked out by hand, for
// every format and compression and blocks of every size, once and again.
func TestAgainstNaive(t *testing.T) {
	t.Parallel()
	makers := map[string]func(*rapid.T) generated{"jsonl": jsonRecord, "csv": csvRecord, "text": textRecord}
	for format, record := range makers {
		for _, kind := range []string{"none", "gzip", "zstd"} {
			for _, method := range []dsr.Method{dsr.Delete, dsr.Mask} {
				t.Run(format+"/"+kind+"/"+string(method), func(t *testing.T) {
					t.Parallel()
					sys := lake()
					sys.Identifiers["zero"] = dsr.KindOpaque
					l, err := records.NewLayout(sys, entity(format, method), connectors.Options{})
					require.NoError(t, err)
					rapid.Check(t, func(t *rapid.T) { againstNaive(t, l, format, kind, method, record) })
				})
			}
		}
	}
}

func againstNaive(t *rapid.T, l *records.Layout, format, kind string, method dsr.Method, record func(*rapid.T) generated) {
	head := rapid.SampledFrom([]string{"", "\ufeff"}).Draw(t, "bom")
	if format == "csv" {
		head += "name,note," + strings.Join(identifierNames(), ",") + rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "end")
	}
	in, want := head, head
	var owned, total int64
	var offsets []int64
	list := rapid.SliceOfN(rapid.Custom(record), 0, 12).Draw(t, "records")
	for i, r := range list {
		r.end = rapid.SampledFrom([]string{"\n", "\r\n", "\n\n"}).Draw(t, "end")
		if i == len(list)-1 && rapid.Bool().Draw(t, "no end") {
			r.end = ""
		}
		if r.end == "\n\n" && r.owned() && method == dsr.Delete {
			want += "\n" // the empty line is not the record's
		}
		if r.owned() || r.after(method) != r.raw() {
			offsets = append(offsets, int64(len(in)))
		}
		in += r.raw()
		want += r.after(method)
		if r.owned() {
			owned++
		}
		total++
	}
	l = l.Block(rapid.SampledFrom([]int{1, 2, 7, 64, 300, 1 << 20}).Draw(t, "block"))
	f := l.Find(connectors.Batch{everyone()}, connectors.Holds{})
	out, totals := rewrite(t, f, compressed(t, kind, in))
	require.Equal(t, want, plain(t, kind, out))
	require.Equal(t, total, totals.Records)
	require.Equal(t, int64(len(in)), totals.Bytes)
	require.Equal(t, want != in, totals.Changed)
	if method == dsr.Delete {
		require.Equal(t, total-owned, totals.Left)
	}
	for _, y := range totals.Tallies {
		if y.Method == method {
			owned -= y.Rows
		}
	}
	require.Zero(t, owned, "every record is counted once")

	var seen []int64
	_, err := f.Scan(context.Background(), "object", bytes.NewReader(compressed(t, kind, in)), func(h *records.Hit) error {
		seen = append(seen, h.Offset)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, offsets, seen)

	again, totals := rewrite(t, f, out)
	require.False(t, totals.Changed)
	require.Empty(t, totals.Tallies)
	require.Equal(t, want, plain(t, kind, again))
}
