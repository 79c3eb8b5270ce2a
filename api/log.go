package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
)

// trace takes the caller's trace (W3C Trace Context) or starts one, and hands it on and back.
func (s *server) trace(g *gin.Context) {
	m := traceparent.FindStringSubmatch(g.GetHeader("traceparent"))
	if m == nil {
		var id [24]byte
		_, _ = rand.Read(id[:])
		m = []string{"", hex.EncodeToString(id[:16]), hex.EncodeToString(id[16:])}
		g.Request.Header.Set("traceparent", fmt.Sprintf("00-%s-%s-00", m[1], m[2]))
	}
	g.Set(traceAttr, m[1])
	g.Header("traceparent", g.GetHeader("traceparent"))
	g.Next()
}

const traceAttr = "lethe.trace"

var traceparent = regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$`)

// logAccess writes one line a call: the route, never the path, the query or the body, because a path may be a
// one-time link and a query anything. The address is written where somebody is turned away.
func (s *server) logAccess(g *gin.Context) {
	start := time.Now() // a duration, not the time of day
	defer func() {
		code := g.Writer.Status()
		attrs := []slog.Attr{
			slog.String("method", safeMethod(g.Request.Method)), slog.String("route", g.FullPath()), slog.Int("status", code),
			slog.Duration("took", time.Since(start)), slog.Int("bytes", max(g.Writer.Size(), 0)),
			slog.String("trace", g.GetString(traceAttr)),
		}
		if key := g.GetString(keyAttr); key != "" {
			attrs = append(attrs, slog.String("key", key))
		}
		level := slog.LevelInfo
		switch {
		case code >= http.StatusInternalServerError:
			level = slog.LevelError
		case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusTooManyRequests:
			level = slog.LevelWarn
			attrs = append(attrs, slog.String("remote", remote(g).String()))
		}
		s.Logger.LogAttrs(g.Request.Context(), level, "http", attrs...)
	}()
	g.Next()
}

func safeMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions:
		return m
	}
	return "other"
}

// recoverPanic makes a panic a 500. Its value is not logged, since it may hold what was sent; its type and the stack
// are.
func (s *server) recoverPanic(g *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it the same way
			panic(v)
		}
		s.Logger.ErrorContext(g.Request.Context(), "panic", "type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
		s.fail(g, fmt.Errorf("panic in a handler"))
	}()
	g.Next()
}

// operationOf names the route for the log.
func operationOf(g *gin.Context) string { return safeMethod(g.Request.Method) + " " + g.FullPath() }

func securityHeaders(g *gin.Context) {
	h := g.Writer.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if g.Request.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	g.Next()
}
