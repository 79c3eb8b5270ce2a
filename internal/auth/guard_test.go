package auth_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/auth/authtest"
)

type bundle struct {
	*auth.Guard
	now   time.Time
	store *authtest.Memory
}

func setup(t *testing.T, c auth.Config) *bundle {
	t.Helper()
	b := &bundle{now: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC), store: authtest.NewMemory()}
	c.Store, c.Now = b.store, func() time.Time { return b.now }
	b.Guard = auth.New(c)
	return b
}

func admin() dsr.Actor {
	return dsr.Actor{ID: "admin", Roles: []string{dsr.RoleOperator, dsr.RoleDPO}}
}

func (b *bundle) key(t *testing.T, n auth.NewKey) (*auth.Key, dsr.Secret) {
	t.Helper()
	k, token, err := b.CreateKey(t.Context(), admin(), n)
	require.NoError(t, err)
	return k, token
}

var home = netip.MustParseAddr("192.0.2.1")

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	authtest.Run(t, func(*testing.T) auth.Store { return authtest.NewMemory() })
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{})
	k, token := b.key(t, auth.NewKey{Principal: "ada", Roles: []string{dsr.RoleDPO}, Tenants: []string{"north"}})
	_, second := b.key(t, auth.NewKey{Principal: "ada", Roles: []string{dsr.RolePortal}})

	c, err := b.Authenticate(t.Context(), token, home)
	require.NoError(t, err)
	require.Equal(t, k.ID, c.Key)
	require.Equal(t, dsr.Actor{ID: "ada", Roles: []string{dsr.RoleDPO}, Tenants: []string{"north"}}, c.Actor)

	c2, err := b.Authenticate(t.Context(), second, home)
	require.NoError(t, err)
	require.Equal(t, c.Actor.ID, c2.Actor.ID, "two keys of one person are one person")
	require.NotContains(t, fmt.Sprintf("%+v %#v", token, token), token.Reveal())

	stored, err := b.store.Key(t.Context(), k.ID)
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%+v", *stored), token.Reveal()[len("lethe_")+17:])
	require.NotNil(t, stored.LastUsed)
}

func TestAuthenticateRefusesAlike(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{AddressFailures: 1000, KeyFailures: 1000})
	soon := b.now.Add(time.Minute)
	k, token := b.key(t, auth.NewKey{Principal: "ada", Roles: []string{dsr.RoleDPO}})
	_, expired := b.key(t, auth.NewKey{Principal: "bob", Roles: []string{dsr.RoleDPO}, ExpiresAt: &soon})
	gone, revoked := b.key(t, auth.NewKey{Principal: "eve", Roles: []string{dsr.RoleDPO}})
	_, err := b.Authenticate(t.Context(), revoked, home)
	require.NoError(t, err)
	_, err = b.RevokeKey(t.Context(), admin(), gone.ID)
	require.NoError(t, err)
	b.now = soon

	good := token.Reveal()
	last := "a"
	if strings.HasSuffix(good, "a") {
		last = "b"
	}
	var texts []string
	for name, bad := range map[string]string{
		"empty": "", "no token": "hello", "unknown id": strings.Replace(good, k.ID, "aaaaaaaaaaaaaaaa", 1),
		"wrong secret": good[:len(good)-1] + last, "cut": good[:len(good)-1], "upper case": strings.ToUpper(good),
		"expired": expired.Reveal(), "revoked": revoked.Reveal(),
	} {
		_, err := b.Authenticate(t.Context(), dsr.NewSecret(bad), home)
		require.Equal(t, auth.CodeUnauthenticated, dsr.CodeOf(err), name)
		texts = append(texts, err.Error())
	}
	for _, text := range texts {
		require.Equal(t, texts[0], text, "why a key is refused is not told")
	}
}

func TestAddressIsLockedAndUnlocked(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{AddressFailures: 3, Lock: 10 * time.Minute})
	_, token := b.key(t, auth.NewKey{Principal: "ada", Roles: []string{dsr.RoleDPO}})
	for range 3 {
		_, err := b.Authenticate(t.Context(), dsr.NewSecret("lethe_wrong"), home)
		require.Equal(t, auth.CodeUnauthenticated, dsr.CodeOf(err))
	}
	_, err := b.Authenticate(t.Context(), token, home)
	var throttled *auth.Throttled
	require.ErrorAs(t, err, &throttled)
	require.Equal(t, 10*time.Minute, throttled.After)

	_, err = b.Authenticate(t.Context(), token, netip.MustParseAddr("192.0.2.2"))
	require.NoError(t, err, "another address is not concerned")
	other := auth.New(auth.Config{Store: b.store, Now: func() time.Time { return b.now }})
	_, err = other.Authenticate(t.Context(), token, home)
	require.ErrorAs(t, err, &throttled, "the lock survives a restart")

	b.now = b.now.Add(10 * time.Minute)
	_, err = b.Authenticate(t.Context(), token, home)
	require.NoError(t, err, "the lock expires")
}

func TestKeyIsLockedFromEveryAddress(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{KeyFailures: 3})
	_, token := b.key(t, auth.NewKey{Principal: "ada", Roles: []string{dsr.RoleDPO}})
	wrong := dsr.NewSecret(token.Reveal()[:len("lethe_")+17] + strings.Repeat("a", 52))
	for i := range 3 {
		_, err := b.Authenticate(t.Context(), wrong, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		require.Equal(t, auth.CodeUnauthenticated, dsr.CodeOf(err))
	}
	var throttled *auth.Throttled
	_, err := b.Authenticate(t.Context(), token, netip.MustParseAddr("198.51.100.1"))
	require.ErrorAs(t, err, &throttled)
}

func TestIPv6NetworkIsOneAddress(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{AddressFailures: 2})
	for _, a := range []string{"2001:db8::1", "2001:db8::2"} {
		_, err := b.Authenticate(t.Context(), dsr.NewSecret("x"), netip.MustParseAddr(a))
		require.Equal(t, auth.CodeUnauthenticated, dsr.CodeOf(err))
	}
	var throttled *auth.Throttled
	_, err := b.Authenticate(t.Context(), dsr.NewSecret("x"), netip.MustParseAddr("2001:db8::3"))
	require.ErrorAs(t, err, &throttled)
}

func TestRateIsPerKey(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{Rate: 1, Burst: 2})
	_, token := b.key(t, auth.NewKey{Principal: "ada", Roles: []string{dsr.RoleDPO}})
	_, second := b.key(t, auth.NewKey{Principal: "bob", Roles: []string{dsr.RoleDPO}})
	for range 2 {
		_, err := b.Authenticate(t.Context(), token, home)
		require.NoError(t, err)
	}
	var throttled *auth.Throttled
	_, err := b.Authenticate(t.Context(), token, home)
	require.ErrorAs(t, err, &throttled)
	require.Equal(t, time.Second, throttled.After)
	_, err = b.Authenticate(t.Context(), second, home)
	require.NoError(t, err)
	b.now = b.now.Add(time.Second)
	_, err = b.Authenticate(t.Context(), token, home)
	require.NoError(t, err)
}

func TestRevocationTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{})
	k, token := b.key(t, auth.NewKey{Principal: "ada", Roles: []string{dsr.RoleDPO}})
	for range 2 { // the second time from memory
		_, err := b.Authenticate(t.Context(), token, home)
		require.NoError(t, err)
	}
	_, err := b.RevokeKey(t.Context(), admin(), k.ID)
	require.NoError(t, err)
	_, err = b.Authenticate(t.Context(), token, home)
	require.Equal(t, auth.CodeUnauthenticated, dsr.CodeOf(err))
}

func TestBootstrapOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{})
	token, ok, err := b.Bootstrap(t.Context(), "admin")
	require.NoError(t, err)
	require.True(t, ok)
	c, err := b.Authenticate(t.Context(), token, home)
	require.NoError(t, err)
	require.Equal(t, admin(), c.Actor)
	_, ok, err = b.Bootstrap(t.Context(), "admin")
	require.NoError(t, err)
	require.False(t, ok)
}

func TestCreateKeyRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{})
	b.key(t, auth.NewKey{Principal: "robot", System: true, Roles: []string{dsr.RolePortal}})
	past := b.now
	operator := dsr.Actor{ID: "olga", Roles: []string{dsr.RoleOperator}}
	bound := dsr.Actor{ID: "tim", Roles: []string{dsr.RoleOperator}, Tenants: []string{"north"}}
	portal := []string{dsr.RolePortal}
	for name, c := range map[string]struct {
		by    dsr.Actor
		n     auth.NewKey
		code  dsr.Code
		field string
	}{
		"an e-mail address":    {admin(), auth.NewKey{Principal: "ada@example.com", Roles: portal}, dsr.CodeInvalid, "principal"},
		"Lethe itself":         {admin(), auth.NewKey{Principal: "lethe", Roles: portal}, dsr.CodeInvalid, "principal"},
		"no role":              {admin(), auth.NewKey{Principal: "ada"}, dsr.CodeInvalid, "roles"},
		"an unknown role":      {admin(), auth.NewKey{Principal: "ada", Roles: []string{"root"}}, dsr.CodeInvalid, "roles"},
		"expired":              {admin(), auth.NewKey{Principal: "ada", Roles: portal, ExpiresAt: &past}, dsr.CodeInvalid, "expires_at"},
		"a system as a person": {admin(), auth.NewKey{Principal: "robot", Roles: portal}, auth.CodePrincipalKind, "type"},
		"dpo by an operator": {
			operator, auth.NewKey{Principal: "ada", Roles: []string{dsr.RoleDPO}}, dsr.CodeForbidden, "roles",
		},
		"every tenant by a bound key":  {bound, auth.NewKey{Principal: "ada", Roles: portal}, dsr.CodeInvalid, "tenants"},
		"another tenant by that key":   {bound, auth.NewKey{Principal: "ada", Roles: portal, Tenants: []string{"south"}}, dsr.CodeForbidden, "tenants"},
		"one tenant too many of a key": {bound, auth.NewKey{Principal: "ada", Roles: portal, Tenants: []string{"north", "south"}}, dsr.CodeForbidden, "tenants"},
	} {
		_, _, err := b.CreateKey(t.Context(), c.by, c.n)
		var e *dsr.Error
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, c.code, e.Code, name)
		require.Equal(t, c.field, e.Field, name)
	}
}

func TestBoundOperatorSeesItsTenantsKeys(t *testing.T) {
	t.Parallel()
	b := setup(t, auth.Config{})
	mine, _ := b.key(t, auth.NewKey{Principal: "ada", Roles: []string{dsr.RolePortal}, Tenants: []string{"north"}})
	wide, _ := b.key(t, auth.NewKey{Principal: "bob", Roles: []string{dsr.RolePortal}})
	bound := dsr.Actor{ID: "tim", Roles: []string{dsr.RoleOperator}, Tenants: []string{"north"}}
	page, _, err := b.Keys(t.Context(), bound, "", 10)
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, mine.ID, page[0].ID)
	_, err = b.RevokeKey(t.Context(), bound, wide.ID)
	require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err))
	_, err = b.RevokeKey(t.Context(), bound, mine.ID)
	require.NoError(t, err)
}
