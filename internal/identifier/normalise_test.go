package identifier_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

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
		dsr.KindPhone:   {"canary", "12", "+", "0800 canary", "+46 canary 70 123 45 67"},
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
	f.Add("phone", "+46 (0)70 123 45 67")
	f.Add("phone", "+46 00 22200")
	f.Add("opaque", "ﬁ")
	f.Add("ip", "fe80::1%eth0")
	f.Fuzz(func(t *testing.T, kind, raw string) {
		once, err := identifier.Normalise(dsr.IdentifierKind(kind), raw, "SE")
		if err != nil {
			if !errors.Is(err, &dsr.Error{Code: dsr.CodeInvalid}) || len(raw) > 8 && strings.Contains(err.Error(), raw) {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		twice, err := identifier.Normalise(dsr.IdentifierKind(kind), once.Reveal(), "SE")
		if err != nil || twice != once {
			t.Fatalf("kind %s: %q normalises to %q, then to %q (%v)", kind, raw, once.Reveal(), twice.Reveal(), err)
		}
	})
}

// TestSpellingsOfOneValueAreEqual writes a value as different people would.
func TestSpellingsOfOneValueAreEqual(t *testing.T) {
	t.Parallel()
	same := func(t *rapid.T, kind dsr.IdentifierKind, spellings ...string) {
		var first dsr.Secret
		for i, s := range spellings {
			got, err := identifier.Normalise(kind, s, "SE")
			if err != nil {
				t.Fatalf("%s %q: %v", kind, s, err)
			}
			if i == 0 {
				first = got
			} else if got != first {
				t.Fatalf("%q is %q, %q is %q", spellings[0], first.Reveal(), s, got.Reveal())
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringMatching(`[a-zåäöéñ0-9][a-zåäö0-9_+-]{0,20}`).Draw(t, "local")
		domain := rapid.StringMatching(`[a-zåäö][a-z0-9]{0,10}\.(com|se|example)`).Draw(t, "domain")
		mail := local + "@" + domain
		same(t, dsr.KindEmail, mail, strings.ToUpper(mail), norm.NFD.String(mail), "\t"+mail+" ", local+"@"+strings.ToUpper(domain))
	})
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.StringMatching(`7[02369][0-9]{7}`).Draw(t, "number")
		same(
			t, dsr.KindPhone, "+46"+n, "0"+n, "0046"+n, "+46 (0)"+n, "+46 "+n[:2]+"-"+n[2:5]+" "+n[5:],
			"0"+n[:2]+"/"+n[2:], "+46."+n[:2]+"."+n[2:],
		)
	})
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "uuid")
		dashed := u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:]
		same(t, dsr.KindUUID, dashed, u, strings.ToUpper(dashed), "{"+dashed+"}", "urn:uuid:"+dashed)
	})
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
		a := netip.AddrFrom16([16]byte(b))
		same(t, dsr.KindIP, a.String(), a.StringExpanded(), strings.ToUpper(a.StringExpanded()), a.WithZone("eth0").String())
		v4 := netip.AddrFrom4([4]byte(b[:4]))
		same(t, dsr.KindIP, v4.String(), "::ffff:"+v4.String())
	})
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.Int64().Draw(t, "integer")
		zeros := fmt.Sprintf("%d", i)
		if i >= 0 {
			zeros = "00" + zeros
		}
		same(t, dsr.KindInteger, fmt.Sprint(i), zeros, " "+zeros)
	})
}
