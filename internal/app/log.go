package app

import (
	"context"
	"log/slog"
)

// stopping leaves out what the job queue logs as an error when it is told to stop: that its context was cancelled.
type stopping struct{ slog.Handler }

func (s stopping) Handle(ctx context.Context, r slog.Record) error {
	cancelled := false
	r.Attrs(func(a slog.Attr) bool {
		cancelled = (a.Key == "error" || a.Key == "err") && a.Value.String() == context.Canceled.Error()
		return !cancelled
	})
	if cancelled {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

func (s stopping) WithAttrs(as []slog.Attr) slog.Handler { return stopping{s.Handler.WithAttrs(as)} }

func (s stopping) WithGroup(name string) slog.Handler { return stopping{s.Handler.WithGroup(name)} }
