package records_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

type keyring map[string][][]byte

func (k keyring) Active(domain string) (string, []byte, error) { return "1", k[domain][0], nil }
func (k keyring) Live(domain string) ([][]byte, error)         { return k[domain], nil }

func TestPseudonymsUnderEveryLiveKeyAreFound(t *testing.T) {
	t.Parallel()
	e := events()
	e.Erase, e.Keep = dsr.Keep, &connectors.Keep{Article: "17(3)(b)"}
	e.Masks = map[string]mask.Spec{"user.id": {Kind: mask.HMAC}, "email": {Kind: mask.HMAC, Domain: "people"}}
	in := `{"user":{"id":42},"email":"ANNA@example.com"}` + "\n" + `{"user":{"id":"42"}}` + "\n" + `{"user":{"id":43}}` + "\n"
	old := keyring{"user_id": {[]byte("old")}, "people": {[]byte("old people")}}
	rotated := keyring{"user_id": {[]byte("new"), []byte("old")}, "people": {[]byte("new people"), []byte("old people")}}
	who := subject("s", "user_id", "42", "email", "anna@example.com")

	l, err := records.NewLayout(lake(), e, connectors.Options{Pseudonyms: old})
	require.NoError(t, err)
	out, _ := rewrite(t, find(l, who), []byte(in))
	require.Regexp(t, `^{"user":{"id":-\d+},"email":"[a-z2-7]{32}@x.invalid"}\n{"user":{"id":"[a-z2-7]{52}"}}\n{"user":{"id":43}}\n$`, string(out))

	l, err = records.NewLayout(lake(), e, connectors.Options{Pseudonyms: rotated})
	require.NoError(t, err)
	require.Len(t, scan(t, find(l, who), out), 2)
	again, totals := rewrite(t, find(l, who), out)
	require.Equal(t, out, again, "a pseudonym is not made of a pseudonym")
	require.False(t, totals.Changed)
	for _, h := range scan(t, find(l, who), out) {
		require.Empty(t, h.Residue)
	}

	e.Erase, e.Keep = dsr.Delete, nil
	out, _ = rewrite(t, find(l, who), out)
	require.Equal(t, `{"user":{"id":43}}`+"\n", string(out))
}

func TestTenants(t *testing.T) {
	t.Parallel()
	sys := lake()
	sys.TenantName, sys.Identifiers["tenant"] = "tenant", dsr.KindOpaque
	e := events()
	e.Tenant = "acct"
	l, err := records.NewLayout(sys, e, connectors.Options{})
	require.NoError(t, err)
	mine := subject("mine", "user_id", "42", "email", "anna@example.com")
	mine.Tenant = "7"
	yours := subject("yours", "user_id", "42")
	yours.Tenant = "8"
	in := strings.Join([]string{
		`{"acct":7,"user":{"id":42}}`, `{"acct":"8","user":{"id":42}}`, `{"acct":9,"user":{"id":42}}`, `{"user":{"id":42}}`,
		`{"acct":8,"note":"anna@example.com"}`, `{"acct":7,"acct":8,"user.id":42}`, "",
	}, "\n")
	out, totals := rewrite(t, find(l, mine), []byte(in))
	require.Equal(t, strings.SplitN(in, "\n", 2)[1], string(out))
	require.EqualValues(t, 1, totals.Tallies[0].Rows)
	_, totals = rewrite(t, find(l, yours, mine), []byte(in))
	require.Equal(t, []connectors.Tally{
		{Subject: "mine", Entity: "events", Method: dsr.Delete, Rows: 1}, {Subject: "yours", Entity: "events", Method: dsr.Delete, Rows: 1},
	}, totals.Tallies)
}

func TestHoldsAndScope(t *testing.T) {
	t.Parallel()
	l := layout(t, events())
	who := subject("s", "user_id", "42", "email", "anna@example.com")
	in := strings.Join([]string{
		`{"user":{"id":42}}`, `{"user":{"id":42},"email":"bo@example.com"}`, `{"user":{"id":42},"case":"A-1"}`,
		`{"note":"anna@example.com","case":"A-1"}`, `{"note":"anna@example.com"}`, `{"case":"A-1"}`, "",
	}, "\n")
	held := connectors.Holds{
		Subjects: connectors.Batch{subject("held", "email", "bo@example.com")},
		Entities: []connectors.Frozen{
			{Entity: "events", When: []dsr.Condition{{Field: "case", Values: []string{"A-1"}}, {Field: "closed", Null: true}}},
			{Entity: "others"},
		},
	}
	var out bytes.Buffer
	totals, err := l.Find(connectors.Batch{who}, held).Rewrite(context.Background(), "o", strings.NewReader(in), &out)
	require.NoError(t, err)
	require.Equal(t, strings.Replace(strings.SplitN(in, "\n", 2)[1], `{"note":"anna@example.com"}`, `{"note":"[redacted]"}`, 1), out.String())
	require.Equal(t, []connectors.Tally{
		{Subject: "s", Entity: "events", Method: dsr.Delete, Rows: 1},
		{Subject: "s", Entity: "events", Method: dsr.Held, Rows: 3},
		{Subject: "s", Entity: "events", Method: dsr.Redact, Rows: 1},
	}, totals.Tallies)

	who.Entities = map[string]bool{"others": true}
	_, totals = rewrite(t, find(l, who), []byte(in))
	require.False(t, totals.Changed)
	require.Empty(t, totals.Tallies)
}

func TestHitsOfEachSubjectAlone(t *testing.T) {
	t.Parallel()
	f := find(layout(t, events()), subject("a", "user_id", "42"), subject("b", "email", "bo@example.com"))
	in := `{"user":{"id":42},"note":"from bo@example.com"}` + "\n" + `{"user":{"id":42},"email":"bo@example.com"}` + "\n"
	hits := scan(t, f, []byte(in))
	require.Len(t, hits, 3)
	require.Equal(t, []string{"a"}, hits[0].Subjects)
	require.Equal(t, dsr.Delete, hits[0].Method)
	require.Equal(t, []string{"user.id"}, hits[0].Residue)
	require.Equal(t, []string{"b"}, hits[1].Subjects)
	require.Equal(t, dsr.Redact, hits[1].Method)
	require.Equal(t, []string{"note"}, hits[1].Residue)
	require.Equal(t, []string{"a", "b"}, hits[2].Subjects)
	require.EqualValues(t, strings.Index(in, "\n")+1, hits[2].Offset)
	out, totals := rewrite(t, f, []byte(in))
	require.Empty(t, out)
	require.Equal(t, []connectors.Tally{{Subject: "a", Entity: "events", Method: dsr.Delete, Rows: 2}}, totals.Tallies)
}

func TestLearned(t *testing.T) {
	t.Parallel()
	e := events()
	e.Teaches = true
	e.Fields = append(e.Fields, connectors.Field{Name: "to", Identifier: "email"}, connectors.Field{Name: "ip", Identifier: "ip"})
	f := find(layout(t, e), subject("s", "user_id", "42"))
	for in, want := range map[string][]string{
		`{"user":{"id":42},"email":" Anna@Example.com"}`:                                 {"email=anna@example.com"},
		`{"user":{"id":42},"email":"a@example.com","to":"A@example.com"}`:                {"email=a@example.com"},
		`{"user":{"id":42},"email":"a@example.com","to":"b@example.com"}`:                nil,
		`{"user":[{"id":42},{"id":43}],"email":"a@example.com"}`:                         nil,
		`{"user":{"id":42},"email":"Anna <a@example.com>","ip":"192.0.2.1:443"}`:         {"email=a@example.com", "ip=192.0.2.1"},
		`{"user":{"id":42},"email":"a@example.com, b@example.com"}`:                      nil,
		`{"user":{"id":42},"email":null,"ip":"192.0.2.1"}`:                               {"ip=192.0.2.1"},
		`{"user":{"id":42},"email":"abcdefghijklmnopqrstuvwxyz234567@x.invalid"}`:        nil,
		`{"user":{"id":42},"email":"\u0061@example.com","to":null,"ip":"2001:DB8:0::1"}`: {"email=a@example.com", "ip=2001:db8::1"},
	} {
		_, err := f.Scan(context.Background(), "o", strings.NewReader(in), func(h *records.Hit) error {
			var got []string
			for _, id := range h.Learned() {
				require.Equal(t, "lake.events", id.Source)
				got = append(got, id.Name+"="+id.Value.Reveal())
			}
			require.ElementsMatch(t, want, got, in)
			return nil
		})
		require.NoError(t, err)
	}
}

func TestRecordsForACopy(t *testing.T) {
	t.Parallel()
	e := events()
	e.Fields = append(e.Fields, connectors.Field{Name: "to", Identifier: "email"}, connectors.Field{Name: "name"})
	e.ExportMask = map[string]mask.Spec{"name": {Kind: mask.Redact}}
	f := find(layout(t, e), subject("s", "user_id", "42", "email", "anna@example.com"))
	for in, want := range map[string]string{
		`{"user":{"id":42}, "name":"Anna", "n":12345678901234567890}`:    `{"user":{"id":42},"name":"Anna","n":12345678901234567890}`,
		`{"email":"anna@example.com","to":"bo@example.com","name":"Bo"}`: `{"email":"anna@example.com","to":"bo@example.com","name":"[redacted]"}`,
		`{"user":{"id":7},"name":"Bo","note":"met anna@example.com"}`:    `{"user":{"id":7},"name":"[redacted]","note":"met anna@example.com"}`,
	} {
		_, err := f.Scan(context.Background(), "o", strings.NewReader(in), func(h *records.Hit) error {
			names, values, err := h.Record("s")
			require.NoError(t, err)
			require.Equal(t, []string{"record"}, names)
			b, err := json.Marshal(values[0])
			require.NoError(t, err)
			require.Equal(t, want, string(b))
			return nil
		})
		require.NoError(t, err)
	}
}

func TestUnsearched(t *testing.T) {
	t.Parallel()
	e := events()
	e.NotPersonal = []string{"ok"}
	in := `{"user":{"id":1,"about":"x"},"free":"text","n":1,"ok":"x","a@example.com":"v","deep":{"x":[]},"none":null}` + "\n" + `{"late":"x"}`
	totals, err := find(layout(t, e)).Scan(context.Background(), "o", strings.NewReader(in), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"*", "deep", "free", "late", "user.about"}, totals.Unsearched)
}

func day(s string) time.Time {
	at, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return at
}

func TestDue(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	cut := connectors.Cut{Before: time.Date(2026, 3, 1, 0, 0, 0, 0, berlin), Zone: berlin}
	field := retention.StartingPoint{Kind: retention.StartField, Field: "at", Null: retention.NullKeep}
	rule := func(change func(*connectors.Rule)) connectors.Rule {
		r := connectors.Rule{Rule: retention.Rule{Name: "r", Start: field, Action: retention.Delete}}
		if change != nil {
			change(&r)
		}
		return r
	}
	due := func(r connectors.Rule, c connectors.Cut, held connectors.Holds, in ...string) (string, records.Totals) {
		e := events()
		e.Rules = []connectors.Rule{r}
		f, err := layout(t, e).Due(r, c, held)
		require.NoError(t, err)
		out, totals := rewrite(t, f.Stored(day("2026-02-20")), []byte(strings.Join(in, "\n")))
		return string(out), totals
	}
	for in, want := range map[string]bool{
		`{"at":"2026-02-28T22:59:59Z"}`: true, `{"at":"2026-02-28T23:00:00Z"}`: false, `{"at":"2026-02-28T23:59:59"}`: true,
		`{"at":"2026-03-01"}`: false, `{"at":"2026-02-28"}`: true, `{"at":1772319599}`: true, `{"at":1772319600}`: false,
		`{"at":1772319599999}`: true, `{"at":"1772319600000"}`: false, `{"at":null}`: false, `{}`: false,
		`{"at":"2026-02-01","at":"2026-04-01"}`: false, `{"at":"2026-02-28 23:59:59.5"}`: true,
	} {
		out, totals := due(rule(nil), cut, connectors.Holds{}, in)
		require.Equal(t, want, out == "", in)
		require.Equal(t, want, totals.Left == 0, in)
	}

	out, totals := due(rule(func(r *connectors.Rule) { r.Start.Null = retention.NullDue }), cut, connectors.Holds{}, `{}`, `{"at":"2027-01-01"}`)
	require.Equal(t, `{"at":"2027-01-01"}`, out)
	require.Equal(t, day("2027-01-01").Add(0).Format(time.DateOnly), totals.Latest.In(berlin).Format(time.DateOnly))
	out, _ = due(rule(func(r *connectors.Rule) { r.Start.Null, r.Start.NullField = retention.NullOther, "made" }), cut, connectors.Holds{},
		`{"made":"2026-01-01"}`, `{"made":"2026-05-01"}`, `{}`)
	require.Equal(t, `{"made":"2026-05-01"}`+"\n{}", out)
	out, _ = due(rule(func(r *connectors.Rule) {
		r.When = []dsr.Condition{{Field: "kind", Values: []string{"log", "7"}}, {Field: "x", NotNull: true}}
	}), cut, connectors.Holds{}, `{"at":0,"kind":"log","x":1}`, `{"at":0,"kind":7.0,"x":1}`, `{"at":0,"kind":"log"}`, `{"at":0,"x":1}`)
	require.Equal(t, `{"at":0,"kind":"log"}`+"\n"+`{"at":0,"x":1}`, out)
	out, _ = due(rule(func(r *connectors.Rule) { r.Start = retention.StartingPoint{Kind: retention.StartObject} }), cut, connectors.Holds{}, `{}`)
	require.Empty(t, out)

	later := cut
	later.After = []connectors.Bound{{
		Rule: rule(func(r *connectors.Rule) { r.When = []dsr.Condition{{Field: "kind", Values: []string{"log"}}} }), Before: day("2026-01-01"),
	}}
	out, _ = due(rule(nil), later, connectors.Holds{}, `{"at":"2026-02-01","kind":"log"}`, `{"at":"2025-12-31","kind":"log"}`, `{"at":"2026-02-01"}`)
	require.Equal(t, `{"at":"2026-02-01","kind":"log"}`+"\n", out)

	held := connectors.Holds{Subjects: connectors.Batch{subject("h", "user_id", "42")}}
	out, totals = due(rule(nil), cut, held, `{"at":0,"user":{"id":42}}`, `{"at":0,"user":{"id":43}}`)
	require.Equal(t, `{"at":0,"user":{"id":42}}`+"\n", out)
	require.Equal(t, []connectors.Tally{{Entity: "events", Method: dsr.Held, Rows: 1}, {Entity: "events", Method: dsr.Delete, Rows: 1}}, totals.Tallies)

	// what cannot be read stays and is counted, unless the rule is not about it
	out, totals = due(rule(nil), cut, connectors.Holds{}, `{"at":0}`, `{"at":"canary"}`, `{"at":"2020-13-45"}`, `{"at":0}`)
	require.Equal(t, `{"at":"canary"}`+"\n"+`{"at":"2020-13-45"}`+"\n", out)
	require.EqualValues(t, 2, totals.Unread)
	require.EqualValues(t, len(`{"at":0}`)+1, totals.UnreadAt)
	_, totals = due(rule(func(r *connectors.Rule) { r.When = []dsr.Condition{{Field: "kind", NotNull: true}} }), cut, connectors.Holds{}, `{"at":"canary"}`)
	require.Zero(t, totals.Unread)
}

func TestPseudonymisingIsDoneOnce(t *testing.T) {
	t.Parallel()
	e := events()
	r := connectors.Rule{
		Rule: retention.Rule{Start: retention.StartingPoint{Kind: retention.StartField, Field: "at"}, Action: retention.Pseudonymise},
		Masks: map[string]mask.Spec{
			"user.id": {Kind: mask.HMAC}, "email": {Kind: mask.Null}, "note": {Kind: mask.Redact}, "at": {Kind: mask.Year}, "n": {Kind: mask.Generalise, Step: 10},
			"ip": {Kind: mask.TruncateIP},
		},
	}
	e.Rules = []connectors.Rule{r}
	l, err := records.NewLayout(lake(), e, connectors.Options{Pseudonyms: keyring{"user_id": {[]byte("key")}}})
	require.NoError(t, err)
	f, err := l.Due(r, connectors.Cut{Before: day("2026-03-01"), Zone: time.UTC}, connectors.Holds{})
	require.NoError(t, err)
	in := `{"at":"2025-05-06","user":{"id":42},"email":"a@example.com","note":"free","n":47,"ip":"192.0.2.77"}` + "\n" + `{"at":"2026-05-06"}` + "\n"
	out, totals := rewrite(t, f, []byte(in))
	require.Regexp(t, `^{"at":"2025-01-01","user":{"id":-\d+},"email":null,"note":"\[redacted\]","n":40,"ip":"192.0.2.0"}\n{"at":"2026-05-06"}\n$`, string(out))
	require.Equal(t, []connectors.Tally{{Entity: "events", Method: dsr.Mask, Rows: 1}}, totals.Tallies)
	_, totals = rewrite(t, f, out)
	require.False(t, totals.Changed)
	require.Empty(t, totals.Tallies)
	require.Len(t, scan(t, find(l, subject("s", "user_id", "42")), out), 1, "the subject is found by the rule's pseudonym")
}

func TestNestedMasks(t *testing.T) {
	t.Parallel()
	e := events()
	e.Erase = dsr.Mask
	e.Mentions = []string{"user"}
	e.Masks = map[string]mask.Spec{"user.id": {Kind: mask.Null}, "email": {Kind: mask.Null}}
	out, _ := rewrite(t, find(layout(t, e), subject("s", "user_id", "42", "email", "anna@example.com")),
		[]byte(`{"user":{"id":42,"mail":"anna@example.com"},"email":"x"}`))
	require.Equal(t, `{"user":{"id":null,"mail":"[redacted]"},"email":null}`, string(out))
}

func TestTextPatterns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pattern, id, value string
		in, want           []string
		mentions           string
	}{
		"combined": {
			pattern: "combined", id: "host", value: "192.0.2.7", mentions: "request",
			in: []string{
				`192.0.2.7 - - [25/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8"`,
				`192.0.2.8 - anna b [25/Nov/2026:10:00:00 +0000] "GET /?ip=192.0.2.7 HTTP/1.1" 200 - "-" "say \"hi\""`,
				`192.0.2.8 - - [25/Nov/2026:10:00:00 +0000] "-" 400 0`,
				`192.0.2.8 - - [25/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8" "192.0.2.7"`,
			},
			want: []string{
				`192.0.2.8 - anna b [25/Nov/2026:10:00:00 +0000] "GET /?ip=[redacted] HTTP/1.1" 200 - "-" "say \"hi\""`,
				`192.0.2.8 - - [25/Nov/2026:10:00:00 +0000] "-" 400 0`,
				`192.0.2.8 - - [25/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8" "192.0.2.7"`,
			},
		},
		"syslog": {
			pattern: "syslog", id: "host", value: "192.0.2.7", mentions: "message",
			in: []string{
				`Nov  5 10:00:00 192.0.2.7 sshd[12]: closed`, `Nov 25 10:00:00 gate sshd[12]: Accepted for anna from 192.0.2.7 port 22`,
				`2026-11-25T10:00:00.123456+01:00 gate app: 192.0.2.7`, `<34>1 2026-11-25T10:00:00Z gate su - ID47 [x@1 a="\]"] from 192.0.2.7`,
				`<34>1 2026-11-25T10:00:00Z gate su - - -`, `<13>Nov 25 10:00:00 gate kernel panic`,
			},
			want: []string{
				`Nov 25 10:00:00 gate sshd[12]: Accepted for anna from [redacted] port 22`,
				`2026-11-25T10:00:00.123456+01:00 gate app: [redacted]`, `<34>1 2026-11-25T10:00:00Z gate su - ID47 [x@1 a="\]"] from [redacted]`,
				`<34>1 2026-11-25T10:00:00Z gate su - - -`, `<13>Nov 25 10:00:00 gate kernel panic`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &connectors.Entity{
				Name: "log", Settings: map[string]any{"format": "text", "pattern": c.pattern, "time": "time"}, Erase: dsr.Delete,
				Fields: []connectors.Field{{Name: c.id, Identifier: "ip"}}, Mentions: []string{c.mentions},
			}
			now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
			l, err := records.NewLayout(lake(), e, connectors.Options{Now: func() time.Time { return now }})
			require.NoError(t, err)
			out, totals := rewrite(t, find(l, subject("s", "ip", c.value)), []byte(strings.Join(c.in, "\n")))
			require.Equal(t, strings.Join(c.want, "\n"), string(out))
			require.Equal(t, 25, totals.Latest.Day())
			require.Equal(t, 2026, totals.Latest.Year())
		})
	}
}

func TestEscapedMentions(t *testing.T) {
	t.Parallel()
	who := subject("s", "email", "anna@example.com", "phone", "+46701234567")
	for in, want := range map[string]string{
		`GET /?m=Anna%40Example.com&x=%C3%A5%2F HTTP/1.1`: `GET /?m=[redacted]&x=%C3%A5%2F HTTP/1.1`,
		`GET /?tel=%2B46%2070-1234567 HTTP/1.1`:           `GET /?tel=[redacted] HTTP/1.1`,
		`%61nna\\x40example.com, anna@example.com`:        `[redacted], [redacted]`,
		`GET /?q=hi+anna%40example.com&x=a+b HTTP/1.1`:    `GET /?q=hi+[redacted]&x=a+b HTTP/1.1`,
		`GET /?to=%2Flogin%3Fm%3Danna%2540example.com`:    `GET /?to=%2Flogin%3Fm%3D[redacted]`,
		`{\\\"m\\\":\\\"\\u0061nna@example.com\\\"}`:      `{\\\"m\\\":\\\"[redacted]\\\"}`,
		`hello\\nanna@example.com\\nbye`:                  `hello\\n[redacted]\\nbye`,
		`\u001b[36manna@example.com\u001b[0m in`:          `\u001b[36m[redacted]\u001b[0m in`,
		`\u001b[36manna\u001b[1m@example.com`:             `\u001b[36m[redacted]`,
		`call 2026-11-25 070-123 45 67 12`:                `call 2026-11-25 [redacted] 12`,
		`+anna%40example.com`:                             `+[redacted]`,
		`xanna%40example.com %4 %zz %`:                    `xanna%40example.com %4 %zz %`,
		`%78anna%40example.com`:                           `%78anna%40example.com`,
	} {
		f := find(layout(t, events()), who)
		out, totals := rewrite(t, f, []byte(`{"note":"`+in+`"}`))
		require.Equal(t, `{"note":"`+want+`"}`, string(out))
		require.Equal(t, in != want, totals.Changed)
		require.Empty(t, scan(t, f, out))
	}
}

// TestDocumentsAsMentions redacts wherever an identifier may be in a document.
func TestDocumentsAsMentions(t *testing.T) {
	t.Parallel()
	e := events()
	e.Mentions = []string{"payload"}
	f := find(layout(t, e), subject("s", "email", "anna@example.com", "phone", "+46701234567", "account", "1234567"))
	for in, want := range map[string]string{
		`{"url":"/?m=anna%40example.com", "n": 1.0}`:   `{"url":"/?m=[redacted]", "n": 1.0}`,
		`{"tel":46701234567,"a":[1.234567e6,1234568]}`: `{"tel":"[redacted]","a":["[redacted]",1234568]}`,
		`{"anna\u0040example.com":{"k":true}}`:         `{"[redacted]":{"k":true}}`,
		`[1.50,"anna@example.com",{"x":"y"}]`:          `[1.50,"[redacted]",{"x":"y"}]`,
		`1234567`:                                      `"[redacted]"`,
	} {
		in, want = `{"payload":`+in+`}`, `{"payload":`+want+`}`
		require.NotEmpty(t, scan(t, f, []byte(in)), in)
		out, _ := rewrite(t, f, []byte(in))
		require.Equal(t, want, string(out))
		require.Empty(t, scan(t, f, out), "nothing is left of %s", in)
	}
}

// TestMentionsAgainstEveryPerson compares the search for many people at once with one for each of them.
func TestMentionsAgainstEveryPerson(t *testing.T) {
	t.Parallel()
	kinds := lake().Identifiers
	var b connectors.Batch
	var alone []*mask.Matcher
	for i, pairs := range [][]string{
		{"email", "anna@example.com"},
		{"email", "юля@example.com", "phone", "+46701234567"},
		{"phone", "+441234567890", "user_id", "ÅÄÖ-123"},
		{"ip", "192.0.2.7", "user_id", "cust-00042"},
		{"ip", "2001:db8::1"},
		{"device", "0e984725-c51c-4bf4-9960-e1c80e27aba0", "account", "1234567"},
	} {
		b = append(b, subject(string(rune('a'+i)), pairs...))
		alone = append(alone, mask.NewMatcher(b[i].Identifiers, kinds))
	}
	f := find(layout(t, events()), b...)
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
			"anna@example.com", "ANNA@", "Example.COM", "ЮЛЯ@example.com", "юля", "@example.com", "0701234567", "+46 70", "123 45 67", "070-1234567",
			"2026-11-25", "01234567890", "A\u030AÄÖ-123", "192.0.2.7", "client:", "2001:DB8:0::1", "::1", "cust-00042", "1234567", "0E984725C51C4BF49960",
			"E1C80E27ABA0", "0e984725-c51c-4bf4-9960-e1c80e27aba0", " ", "  ", ",", ".", ":", "x", "+", "(", "/", "é", "\xff",
		}), 0, 8).Draw(t, "parts"), "")
		text = strings.ToValidUTF8(text, "\ufffd")
		doc, err := json.Marshal(map[string]string{"note": text})
		require.NoError(t, err)
		var got, want []string
		for _, h := range scan(t, f, doc) {
			got = append(got, h.Subjects...)
		}
		for i, m := range alone {
			if m.Find(text) {
				want = append(want, b[i].Ref)
			}
		}
		require.ElementsMatch(t, want, got, "%q", text)
	})
}

func TestSurrogatePairs(t *testing.T) {
	t.Parallel()
	f := find(layout(t, events()), subject("s", "user_id", "a\U0001F600"))
	out, _ := rewrite(t, f, []byte(`{"user":{"id":"\u0061\ud83d\uDE00"}}`+"\n"+`{"user":{"id":"a\ud83d"}}`+"\n"))
	require.Equal(t, `{"user":{"id":"a\ud83d"}}`+"\n", string(out))
}

func TestUnmatchedLines(t *testing.T) {
	t.Parallel()
	e := &connectors.Entity{
		Name: "log", Settings: map[string]any{"format": "text", "pattern": `(?P<user>\d+): (?P<msg>.*)`, "unmatched": "text"},
		Fields: []connectors.Field{{Name: "user", Identifier: "user_id"}, {Name: "msg"}}, Erase: dsr.Mask,
		Masks: map[string]mask.Spec{"user": {Kind: mask.Constant, Value: "0"}},
	}
	f := find(layout(t, e), subject("s", "user_id", "42", "email", "anna@example.com"))
	out, _ := rewrite(t, f, []byte("42: failed\n  at anna@example.com\n  at main\n43: ok"))
	require.Equal(t, "0: failed\n  at [redacted]\n  at main\n43: ok", string(out))

	e.Masks["user"] = mask.Spec{Kind: mask.Constant, Value: "gone"}
	delete(e.Settings, "unmatched")
	var b bytes.Buffer
	_, err := find(layout(t, e), subject("s", "user_id", "42")).Rewrite(context.Background(), "o", strings.NewReader("42: canary\n"), &b)
	require.True(t, connectors.IsPermanent(err), "a mask after which the line would not be read again")
	require.NotContains(t, err.Error(), "canary")
}

func TestLayoutRefuses(t *testing.T) {
	t.Parallel()
	for key, settings := range map[string]map[string]any{
		"format":      {"format": "parquet"},
		"compression": {"format": "jsonl", "compression": "xz"},
		"time_format": {"format": "jsonl", "time_format": "%Q"},
		"email":       {"format": "csv", "columns": "a,b"},
		"note":        {"format": "text", "pattern": `(?P<email>\S+)`},
	} {
		e := events()
		e.Settings, e.Fields = settings, []connectors.Field{{Name: "email", Identifier: "email"}}
		_, err := records.NewLayout(lake(), e, connectors.Options{})
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid})
		require.Contains(t, err.Error(), "entities.events."+key)
	}
}
