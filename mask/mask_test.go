package mask_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

var kinds = map[string]dsr.IdentifierKind{
	"email": dsr.KindEmail, "phone": dsr.KindPhone, "user_id": dsr.KindOpaque, "device": dsr.KindUUID, "ip": dsr.KindIP,
}

func matcher(pairs ...string) *mask.Matcher {
	var ids []dsr.Identifier
	for i := 0; i < len(pairs); i += 2 {
		ids = append(ids, dsr.Identifier{Name: pairs[i], Value: dsr.NewSecret(pairs[i+1])})
	}
	return mask.NewMatcher(ids, kinds)
}

func TestRedact(t *testing.T) {
	t.Parallel()
	m := matcher("email", "anna@example.com", "phone", "+46701234567", "user_id", "cust-00042", "user_id", "42",
		"device", "0e984725-c51c-4bf4-9960-e1c80e27aba0", "ip", "2001:db8::1", "ip", "192.0.2.7")
	for in, want := range map[string]string{
		"Mail anna@example.com.":               "Mail [redacted].",
		"Mail ANNA@Example.Com, please":        "Mail [redacted], please",
		"joanna@example.com":                   "joanna@example.com",
		"x.anna@example.com":                   "x.anna@example.com",
		"anna@example.com.au":                  "anna@example.com.au",
		"<anna@example.com>":                   "<[redacted]>",
		"call 070-123 45 67 now":               "call [redacted] now",
		"call +46 (0)70 123 45 67":             "call [redacted]",
		"call 0046701234567":                   "call [redacted]",
		"order 10701234567":                    "order 10701234567",
		"cust-00042 and cust-000421":           "[redacted] and cust-000421",
		"42 is too short":                      "42 is too short",
		"0E984725-C51C-4BF4-9960-E1C80E27ABA0": "[redacted]",
		"from 2001:0db8:0:0::1":                "from [redacted]",
		"from 192.0.2.7:8080.":                 "from [redacted]:8080.",
		"from 192.0.2.70":                      "from 192.0.2.70",
		"anna@example.com anna@example.com":    "[redacted] [redacted]",

		"2026-11-25 070-123 45 67 rang":          "2026-11-25 [redacted] rang",
		"070-123 45 67 2026-11-25":               "[redacted] 2026-11-25",
		"070-123 45 67 / +46 70 123 45 68":       "[redacted] / +46 70 123 45 68",
		"0701234567 0701234567":                  "[redacted] [redacted]",
		"011 46 70 123 45 67":                    "011 [redacted]",
		"1070123 45 67":                          "1070123 45 67",
		"(+46) 70-123 45 67, (070) 1234567":      "[redacted], [redacted]",
		"0e984725c51c4bf49960e1c80e27aba0":       "[redacted]",
		"0e984725c51c4bf49960e1c80e27aba01":      "0e984725c51c4bf49960e1c80e27aba01",
		"client:192.0.2.7":                       "client:[redacted]",
		"id:192.0.2.7:443, addr:192.0.2.7":       "id:[redacted]:443, addr:[redacted]",
		"10:30:00:192.0.2.7":                     "10:30:00:[redacted]",
		"...192.0.2.7... x192.0.2.7":             "...[redacted]... x[redacted]",
		"ip:2001:db8::1 id:2001:db8:0::1":        "ip:[redacted] id:[redacted]",
		"d:2001:db8::1 is another address":       "d:2001:db8::1 is another address",
		"[2001:db8::1]:443 ::ffff:192.0.2.7":     "[[redacted]]:443 [redacted]",
		"1192.0.2.7 192.0.2.7.1 192.0.2.7:8080:": "1192.0.2.7 192.0.2.7.1 [redacted]:8080:",
	} {
		got, n := m.Redact(in)
		require.Equal(t, want, got)
		require.Equal(t, strings.Count(want, mask.Redacted), n, in)
		require.Equal(t, n > 0, m.Find(in), in)
	}
}

func TestRedactJSONKeepsEveryOtherByte(t *testing.T) {
	t.Parallel()
	m := matcher("email", "anna@example.com")
	in := `{ "b": 1.50, "a":["to \u0061nna@example.com", {"anna@example.com": null}], "é":"\"" }`
	number, n := matcher("user_id", "1234567", "phone", "+46701234567").RedactJSON(`{"a":1234567,"b":[46701234567,12345678,-1.5e+3]}`)
	require.Equal(t, 2, n)
	require.Equal(t, `{"a":"[redacted]","b":["[redacted]",12345678,-1.5e+3]}`, number)
	got, n := m.RedactJSON(in)
	require.Equal(t, 2, n)
	require.Equal(t, `{ "b": 1.50, "a":["to [redacted]", {"[redacted]": null}], "é":"\"" }`, got)
	require.True(t, json.Valid([]byte(got)))
}

func TestLettersOutsideOfASCII(t *testing.T) {
	t.Parallel()
	m := matcher("email", "åsa@exämple.com", "email", "юля@example.com", "user_id", "kund-åäö")
	for in, want := range map[string]string{
		"till ÅSA@EXÄMPLE.COM.":                      "till [redacted].",
		"e\u0301 A\u030Asa@exa\u0308mple.com \u0301": "e\u0301 [redacted] \u0301",
		"ЮЛЯ@example.com":                            "[redacted]",
		"хюля@example.com, xåsa@exämple.com":         "хюля@example.com, xåsa@exämple.com",
		"kund-a\u030Aa\u0308ö, KUND-ÅÄÖ":             "[redacted], KUND-ÅÄÖ",
		"\xff\xfeåsa@exämple.com\xff":                "\xff\xfe[redacted]\xff",
	} {
		got, n := m.Redact(in)
		require.Equal(t, want, got)
		require.Equal(t, n > 0, m.Find(in))
	}
	_, ok := m.Words()
	require.False(t, ok)
}

func TestRedactLeavesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		email := rapid.StringMatching(`[a-z]{1,6}(\.[a-z]{1,4})?@[a-z]{2,6}\.(com|org)`).Draw(t, "email")
		m := matcher("email", email)
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{
			email, strings.ToUpper(email), "a", " ", ".", ",", "<", "x", "\n", "é", mask.Redacted,
		})).Draw(t, "parts"), "")
		out, _ := m.Redact(text)
		require.False(t, m.Find(out), "%q", out)
		again, n := m.Redact(out)
		require.Zero(t, n)
		require.Equal(t, out, again)
	})
}

type oneKey struct{}

func (oneKey) Active(domain string) (string, []byte, error) {
	return "k1", []byte("key of " + domain), nil
}

func (oneKey) Live(domain string) ([][]byte, error) { return [][]byte{[]byte("key of " + domain)}, nil }

func TestPseudonymIsStableAndKeepsTheFormat(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.String().Draw(t, "value")
		for _, target := range []mask.Target{
			{Class: "text"},
			{Class: "text", Format: mask.Email, MaxLen: 24},
			{Class: "text", Format: mask.Phone},
			{Class: "integer", Bits: 32},
			{Class: "uuid"},
		} {
			spec := mask.Spec{Kind: mask.HMAC, Domain: "user"}
			require.NoError(t, spec.Holds(target))
			in := mask.Input{Value: value, Target: target, Keys: oneKey{}}
			a, err := spec.Apply(in)
			require.NoError(t, err)
			b, err := spec.Apply(in)
			require.NoError(t, err)
			require.Equal(t, a, b)
			live, err := oneKey{}.Live("user")
			require.NoError(t, err)
			searched, err := mask.Pseudonym(live[0], value, target)
			require.NoError(t, err)
			require.Equal(t, a, searched, "a search finds what the mask wrote")
			if text, ok := a.(string); ok && target.Format != mask.Free {
				require.True(t, mask.Made(text, target.Format))
				require.False(t, mask.Made("anna@example.com", target.Format))
				require.False(t, mask.Made("+46701234567", target.Format))
			}
			if n, ok := a.(int64); ok {
				require.GreaterOrEqual(t, n, int64(0))
				require.Less(t, n, int64(1)<<31)
			}
			if s, ok := a.(string); ok && target.MaxLen > 0 {
				require.LessOrEqual(t, len(s), target.MaxLen)
			}
		}
	})
}

func TestHolds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec   mask.Spec
		target mask.Target
		ok     bool
	}{
		"null on nullable":       {mask.Spec{Kind: mask.Null}, mask.Target{Class: "text", Nullable: true}, true},
		"null on NOT NULL":       {mask.Spec{Kind: mask.Null}, mask.Target{Class: "text"}, false},
		"text on integer":        {mask.Spec{Kind: mask.Constant, Value: "gone"}, mask.Target{Class: "integer"}, false},
		"digits on integer":      {mask.Spec{Kind: mask.Constant, Value: "-7"}, mask.Target{Class: "integer"}, true},
		"redact on integer":      {mask.Spec{Kind: mask.Redact}, mask.Target{Class: "integer"}, false},
		"constant on unique":     {mask.Spec{Kind: mask.Constant, Value: "x"}, mask.Target{Class: "text", Unique: true}, false},
		"random on unique":       {mask.Spec{Kind: mask.Random}, mask.Target{Class: "text", Unique: true}, true},
		"random too short":       {mask.Spec{Kind: mask.Random}, mask.Target{Class: "text", MaxLen: 5}, false},
		"constant not in enum":   {mask.Spec{Kind: mask.Constant, Value: "x"}, mask.Target{Class: "enum", Enum: []string{"a"}}, false},
		"constant in enum":       {mask.Spec{Kind: mask.Constant, Value: "a"}, mask.Target{Class: "enum", Enum: []string{"a"}}, true},
		"constant too long":      {mask.Spec{Kind: mask.Constant, Value: "four"}, mask.Target{Class: "text", MaxLen: 3}, false},
		"generated":              {mask.Spec{Kind: mask.Null}, mask.Target{Class: "text", Nullable: true, Generated: true}, false},
		"year on a date":         {mask.Spec{Kind: mask.Year}, mask.Target{Class: "date"}, true},
		"year on a number":       {mask.Spec{Kind: mask.Year}, mask.Target{Class: "number"}, false},
		"address on IP column":   {mask.Spec{Kind: mask.TruncateIP}, mask.Target{Class: "ip"}, true},
		"constant on bad date":   {mask.Spec{Kind: mask.Constant, Value: "soon"}, mask.Target{Class: "date"}, false},
		"random on JSON":         {mask.Spec{Kind: mask.Random}, mask.Target{Class: "json"}, false},
		"redact in short column": {mask.Spec{Kind: mask.Redact}, mask.Target{Class: "text", MaxLen: 9}, false},
	} {
		err := c.spec.Holds(c.target)
		if c.ok {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid}, name)
		}
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	day := time.Date(1990, 5, 17, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		spec  mask.Spec
		value any
		want  any
	}{
		"year of a time":      {mask.Spec{Kind: mask.Year}, day, time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)},
		"year of a text":      {mask.Spec{Kind: mask.Year}, "1990-05-17", "1990-01-01"},
		"generalise":          {mask.Spec{Kind: mask.Generalise, Step: 10}, int64(47), int64(40)},
		"generalise negative": {mask.Spec{Kind: mask.Generalise, Step: 10}, int64(-1), int64(-10)},
		"generalise text":     {mask.Spec{Kind: mask.Generalise, Step: 3}, "11452", "114"},
		"IPv4":                {mask.Spec{Kind: mask.TruncateIP}, "192.0.2.77", "192.0.2.0"},
		"IPv6":                {mask.Spec{Kind: mask.TruncateIP}, "2001:db8:1:2::3", "2001:db8:1::"},
		"NULL stays NULL":     {mask.Spec{Kind: mask.Redact}, nil, nil},
		"constant":            {mask.Spec{Kind: mask.Constant, Value: "gone"}, "x", "gone"},
	} {
		got, err := c.spec.Apply(mask.Input{Value: c.value})
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
	_, err := mask.Spec{Kind: mask.TruncateIP}.Apply(mask.Input{Value: "canary@example.com"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "canary")
}
