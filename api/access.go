package api

import (
	"context"
	"net/netip"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/auth"
)

type callerKey struct{}

// authenticate finds out who calls and whether they may, before anything else of the call is looked at.
func (s *server) authenticate(g *gin.Context) {
	r := s.contract.of(g)
	ctx := g.Request.Context()
	from := remote(g)
	if r.permission.Open {
		if err := s.Guard.Admit(ctx, from); err != nil {
			s.fail(g, err)
			return
		}
		g.Next()
		return
	}
	caller, err := s.Guard.Authenticate(ctx, bearer(g), from)
	if err != nil {
		s.fail(g, err)
		return
	}
	g.Request = g.Request.WithContext(context.WithValue(ctx, callerKey{}, caller))
	g.Set(keyAttr, caller.Key)
	if err := r.permission.Allow(caller.Actor); err != nil {
		s.fail(g, err)
		return
	}
	g.Next()
}

const keyAttr = "lethe.key"

// bearer takes the token out of the request, so that nothing later can log it.
func bearer(g *gin.Context) dsr.Secret {
	h := g.Request.Header.Get("Authorization")
	g.Request.Header.Del("Authorization")
	scheme, token, _ := strings.Cut(h, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return dsr.Secret{}
	}
	return dsr.NewSecret(strings.TrimSpace(token))
}

func remote(g *gin.Context) netip.Addr {
	a, err := netip.ParseAddr(g.ClientIP())
	if err != nil {
		return netip.IPv4Unspecified() // callers without an address are one
	}
	return a
}

func callerOf(ctx context.Context) *auth.Caller {
	c, _ := ctx.Value(callerKey{}).(*auth.Caller)
	return c
}

// caller returns the request's own context, which outlives gin's recycled one, and who calls.
func caller(ctx context.Context) (context.Context, dsr.Actor) {
	if g, ok := ctx.(*gin.Context); ok {
		ctx = g.Request.Context()
	}
	if c := callerOf(ctx); c != nil {
		return ctx, c.Actor
	}
	return ctx, dsr.Actor{}
}
