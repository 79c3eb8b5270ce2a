package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/lethe-gdpr/lethe/api"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/config"
)

// readyWithin bounds the question whether the control database answers.
const readyWithin = 3 * time.Second

// operations answers what needs no API key: is the process alive, can it work, what does it measure.
func (a *App) operations(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
		defer cancel()
		notReady := func(reason string) {
			answer(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": reason})
		}
		if err := a.store.Ping(ctx); err != nil {
			notReady("the control database does not answer")
			return
		}
		if _, err := a.engine.CurrentMap(ctx); err != nil {
			var own *dsr.Error
			if !errors.As(err, &own) {
				own = &dsr.Error{Msg: "the data map cannot be read"}
			}
			notReady(own.Msg)
			return
		}
		answer(w, http.StatusOK, map[string]string{"status": "ready", "role": a.o.Config.Role})
	})
	mux.Handle("GET /metrics", a.metrics.Handler())
}

func answer(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller has gone when it fails
}

// handler is the process's HTTP surface: operations everywhere, the API where it is served.
func (a *App) handler() (http.Handler, error) {
	mux := http.NewServeMux()
	a.operations(mux)
	if a.o.Config.Role == config.RoleWorker {
		return mux, nil
	}
	h, err := api.New(api.Config{
		Engine: a.engine, Guard: a.guard, Idempotency: a.store, Logger: a.log, Now: a.o.Time.Now,
		TrustedProxies: a.o.Config.TrustedProxies,
	})
	if err != nil {
		return nil, err
	}
	mux.Handle("/", h)
	return mux, nil
}
