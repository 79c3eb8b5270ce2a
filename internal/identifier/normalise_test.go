package identifier_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/identifier"
)

func TestNormalise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind     dsr.IdentifierKind
		in, want string
	}{
		{dsr.KindEmail, " Anna@Example.COM ", "anna@example.com"},
		{dsr.KindEmail, "a+b@sub.example.com", "a+b@sub.example.com"},
		{dsr.KindEmail, "A\u030Asa@exa\u0308mple.com", "åsa@exämple.com"},
		{dsr.KindPhone, "070-123 45 67", "+46701234567"},
		{dsr.KindPhone, "0046 70 1234567", "+46701234567"},
		{dsr.KindPhone, "+49 30 901820", "+4930901820"},
		{dsr.KindUUID, "{0E984725-C51C-4BF4-9960-E1C80E27ABA0}", "0e984725-c51c-4bf4-9960-e1c80e27aba0"},
		{dsr.KindUUID, "0e984725c51c4bf49960e1c80e27aba0", "0e984725-c51c-4bf4-9960-e1c80e27aba0"},
		{dsr.KindIP, "2001:0DB8::0001", "2001:db8::1"},
		{dsr.KindIP, "::ffff:192.0.2.1", "192.0.2.1"},
		{dsr.KindInteger, "0042", "42"},
		{dsr.KindInteger, "-0", "0"},
		{dsr.KindOpaque, " Ab 1 ", "Ab 1"},
	} {
		got, err := identifier.Normalise(c.kind, c.in, "SE")
		require.NoError(t, err, c.in)
		require.Equal(t, c.want, got.Reveal())
	}
}

func TestNormaliseRefuses(t *testing.T) {
	t.Parallel()
	for kind, values := range map[dsr.IdentifierKind][]string{
		dsr.KindEmail: {
			"", "canary", "canary@", "@example.com", "canary@example", "can ary@example.com", "canary@@example.com",
			"canary@-example.com", "canary@exa_mple.com", ".canary@example.com", "can..ary@example.com", "<canary@example.com>",
			"canary@example.com\x00", "canary@example..com", "canary@\xff.com",
		},
		dsr.KindPhone:   {"canary", "12", "+"},
		dsr.KindUUID:    {"canary", "0e984725"},
		dsr.KindIP:      {"canary", "192.0.2.256"},
		dsr.KindInteger: {"canary", "1.5", "-", "1e3"},
		dsr.KindOpaque:  {"", "  ", "can\nary"},
		"unknown":       {"canary"},
	} {
		for _, v := range values {
			_, err := identifier.Normalise(kind, v, "SE")
			require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid}, "%s %q", kind, v)
			require.NotContains(t, err.Error(), "canary")
		}
	}
}

func FuzzNormaliseIsIdempotent(f *testing.F) {
	f.Add("email", "Anna@Example.com")
	f.Add("email", "İ@İ.example")
	f.Add("phone", "070-123 45 67")
	f.Add("opaque", "ﬁ")
	f.Add("ip", "fe80::1%eth0")
	f.Fuzz(func(t *testing.T, kind, raw string) {
		once, err := identifier.Normalise(dsr.IdentifierKind(kind), raw, "SE")
		if err != nil {
			return
		}
		twice, err := identifier.Normalise(dsr.IdentifierKind(kind), once.Reveal(), "SE")
		if err != nil || twice != once {
			t.Fatalf("kind %s: %q normalises to %q, then to %q (%v)", kind, raw, once.Reveal(), twice.Reveal(), err)
		}
	})
}
