package connectors

import (
	"context"
	"time"
)

// Heeder is a Sweeper whose System may delete by settings of its own, which know of no Holds: the lifecycle rules of a
// bucket, the retention of a log group.
type Heeder interface {
	// Heed lifts the setting that a rule of one Entity set, while a Hold may cover something that it deletes. It makes
	// nothing be deleted: a Sweep of the rule sets it again once no Hold reaches it. It is idempotent, and safe beside a Sweep.
	Heed(ctx context.Context, j HeedJob) (Heeded, error)
}

// HeedJob is one Entity and what is held.
type HeedJob struct {
	Entity string
	// Rule is the Entity's whose action is expire. Without it nothing is changed: no rule sets anything there, or none may.
	Rule *Rule
	Held Holds
	// Search is how long may be searched for what is held. What could not be searched in that time, or not be read, may be
	// held.
	Search time.Duration
}

// Heeded is what came of it.
type Heeded struct {
	Lifted bool // the rule's setting was in force, and is no more
	// Stay are settings, in words, that go on deleting what a Hold may cover: they are others', or nothing was to be changed.
	Stay []string
}

// MayHold reports whether something may be held: what a search finds, and anything when it cannot be ended in time or
// fails. The error is that of a context that has ended.
func (j HeedJob) MayHold(ctx context.Context, search func(ctx context.Context) (found bool, err error)) (bool, error) {
	switch {
	case j.Held.Empty():
		return false, nil
	case j.Search <= 0:
		return true, nil
	}
	within, cancel := context.WithTimeout(ctx, j.Search)
	defer cancel()
	found, err := search(within)
	return found || err != nil, ctx.Err()
}
