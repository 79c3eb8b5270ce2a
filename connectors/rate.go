package connectors

import "context"

// Limit lets at most n verbs of a connector run at once; others wait their turn or their context's end.
func Limit(c Connector, n int) Connector {
	slots := make(chan struct{}, max(n, 1))
	return Wrap(c, func(ctx context.Context, _ string, call func(context.Context) error) error {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			return call(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}
