package cloudwatchlogs

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/lethe-gdpr/lethe/connectors"
)

// OpenImpatient opens a connector that tries as often as any and hardly waits in between.
func OpenImpatient(ctx context.Context, s *connectors.System, o connectors.Options) (*Logs, error) {
	return open(ctx, s, o, retry.NewStandard(func(so *retry.StandardOptions) {
		so.MaxAttempts, so.MaxBackoff, so.RateLimiter = attempts, time.Millisecond, unlimited{}
	}))
}

// Attempts is how often a call is tried.
const Attempts = attempts

type unlimited struct{}

func (unlimited) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (unlimited) AddTokens(uint) error { return nil }
