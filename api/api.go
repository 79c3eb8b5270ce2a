package api

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// Config is what the API is made of. Engine, Guard and Idempotency are required.
type Config struct {
	Engine      UseCases
	Guard       *auth.Guard
	Idempotency IdempotencyStore
	Logger      *slog.Logger     // nil is slog.Default()
	Now         func() time.Time // nil is time.Now
	// TrustedProxies are addresses or networks whose X-Forwarded-For is believed when a caller's address is counted
	// for the lockout; none by default.
	TrustedProxies []string
	// MaxBody is the largest request body in bytes; 0 is 256 KiB.
	MaxBody int64
}

// UseCases is what the API asks of the engine.
type UseCases interface {
	engine.UseCases
	engine.Retention
}

// New returns the handler of everything under /v1. Health, readiness and metrics are the application's own.
func New(c Config) (http.Handler, error) {
	if c.Engine == nil || c.Guard == nil || c.Idempotency == nil {
		return nil, fmt.Errorf("api: Engine, Guard and Idempotency are required")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxBody == 0 {
		c.MaxBody = 256 << 10
	}
	spec, err := readContract()
	if err != nil {
		return nil, err
	}
	gin.SetMode(gin.ReleaseMode) // debug mode prints to standard output
	router := gin.New()
	router.ContextWithFallback = true
	router.HandleMethodNotAllowed = true
	router.RedirectTrailingSlash = false // a redirect would repeat the path
	router.UseRawPath, router.UnescapePathValues = true, true
	if err := router.SetTrustedProxies(c.TrustedProxies); err != nil {
		return nil, fmt.Errorf("api: trusted proxies: %w", err)
	}
	s := &server{Config: c, contract: spec}
	router.Use(s.trace, s.logAccess, s.recoverPanic, securityHeaders)
	router.NoRoute(func(g *gin.Context) { s.fail(g, notFound("there is no such resource")) })
	router.NoMethod(func(g *gin.Context) { s.fail(g, errMethod) })
	work := router.Group("", s.authenticate, s.validate, s.replay)
	strict := gen.NewStrictHandlerWithOptions(s, nil, gen.StrictGinServerOptions{
		RequestErrorHandlerFunc: func(g *gin.Context, _ error) { s.fail(g, errUnreadable) },
		HandlerErrorFunc:        s.fail,
		ResponseErrorHandlerFunc: func(g *gin.Context, err error) {
			if g.Writer.Written() {
				// The client must not take half an answer for a whole one.
				s.Logger.WarnContext(g.Request.Context(), "answer cut short", "operation", operationOf(g), "error", err)
				panic(http.ErrAbortHandler)
			}
			s.fail(g, err)
		},
	})
	gen.RegisterHandlersWithOptions(work, strict, gen.GinServerOptions{
		ErrorHandler: func(g *gin.Context, _ error, _ int) { s.fail(g, errUnreadable) },
	})
	return router, nil
}

// server implements the generated strict interface.
type server struct {
	Config
	contract *contract
}

var _ gen.StrictServerInterface = (*server)(nil)

// TLS returns the server's TLS settings for a certificate: TLS 1.2 and later, with the cipher suites and curves that
// Go holds safe.
func TLS(certFile, keyFile string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}, nil
}
