package connectors

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Backoff bounds how a transient fault is tried again: at most Attempts calls, with pauses that double from First up
// to Most and are jittered by half, so that workers that failed together do not return together.
type Backoff struct {
	Attempts    int
	First, Most time.Duration
}

// DefaultBackoff rides out a failover's first seconds; what lasts longer is the engine's to reschedule.
var DefaultBackoff = Backoff{Attempts: 3, First: 100 * time.Millisecond, Most: 2 * time.Second}

// Retry tries reading verbs again after a transient fault. Erase, Export and Sweep are left to the engine: they must
// resume at their Journal's checkpoint, Export with rewound sinks and Sweep within its caps, which a bare second call
// would not do.
func Retry(c Connector, b Backoff) Connector {
	return Wrap(c, func(ctx context.Context, verb string, call func(context.Context) error) error {
		if verb == "erase" || verb == "export" || verb == "sweep" {
			return call(ctx)
		}
		pause := b.First
		for attempt := 1; ; attempt++ {
			err := call(ctx)
			if err == nil || attempt >= b.Attempts || !Transient(err) {
				return err
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // jitter needs no secrecy
			}
			pause = min(2*pause, b.Most)
		}
	})
}

// Transient reports whether trying again may mend an error: it is not permanent, not one subject's, not a yield or a
// lost lease, and nobody cancelled.
func Transient(err error) bool {
	var one *SubjectError
	return err != nil && !IsPermanent(err) && !errors.As(err, &one) &&
		!errors.Is(err, ErrYield) && !errors.Is(err, ErrFenced) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
