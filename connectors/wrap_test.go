package connectors_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// reader fails its first calls and counts them.
type reader struct {
	calls *int
	fail  int
	err   error
}

func (r reader) Describe(context.Context) (connectors.Schema, error) {
	*r.calls++
	if *r.calls <= r.fail {
		return connectors.Schema{}, r.err
	}
	return connectors.Schema{Entities: []connectors.EntitySchema{{Name: "t"}}}, nil
}
func (r reader) Check(context.Context) ([]connectors.Finding, error) { return nil, nil }
func (r reader) Locate(context.Context, connectors.Query) (connectors.Located, error) {
	return connectors.Located{}, nil
}

func (r reader) Verify(context.Context, connectors.Search) ([]dsr.Residue, error) {
	return nil, nil
}
func (r reader) Close() error { return nil }

type (
	exporter struct{}
	eraser   struct{}
	granter  struct{}
)

func (exporter) Export(context.Context, connectors.Job, connectors.SinkFor) error { return errFlaky }

func (eraser) Erase(context.Context, connectors.Job) error     { return errFlaky }
func (granter) Grants(context.Context, string) (string, error) { return "", nil }

var errFlaky = errors.New("connection lost")

func TestDecoratorsPreserveCapabilities(t *testing.T) {
	t.Parallel()
	r := reader{calls: new(int)}
	for _, c := range []connectors.Connector{
		r,
		struct {
			reader
			exporter
		}{reader: r},
		struct {
			reader
			eraser
		}{reader: r},
		struct {
			reader
			granter
		}{reader: r},
		struct {
			reader
			exporter
			eraser
		}{reader: r},
		struct {
			reader
			exporter
			granter
		}{reader: r},
		struct {
			reader
			eraser
			granter
		}{reader: r},
		struct {
			reader
			exporter
			eraser
			granter
		}{reader: r},
	} {
		decorated := connectors.Limit(connectors.Retry(c, connectors.DefaultBackoff), 2)
		require.Equal(t, connectors.CapabilitiesOf(c), connectors.CapabilitiesOf(decorated))
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	quick := connectors.Backoff{Attempts: 3, First: time.Microsecond, Most: time.Microsecond}
	for name, c := range map[string]struct {
		fail  int
		err   error
		calls int
		ok    bool
	}{
		"mends":           {2, errFlaky, 3, true},
		"gives up":        {5, errFlaky, 3, false},
		"permanent":       {1, connectors.Permanent("forbidden", "no", "", nil), 1, false},
		"one subject":     {1, &connectors.SubjectError{Subject: "a", Entity: "t", Err: errFlaky}, 1, false},
		"cancelled":       {1, context.Canceled, 1, false},
		"nothing to mend": {0, nil, 1, true},
	} {
		calls := 0
		s, err := connectors.Retry(reader{&calls, c.fail, c.err}, quick).Describe(context.Background())
		require.Equal(t, c.calls, calls, name)
		require.Equal(t, c.ok, err == nil, name)
		require.Equal(t, c.ok, len(s.Entities) == 1, name)
	}
	er := connectors.Retry(struct {
		reader
		eraser
	}{}, quick).(connectors.Eraser)
	require.ErrorIs(t, er.Erase(context.Background(), connectors.Job{}), errFlaky)
}

func TestLimitWaitsItsTurn(t *testing.T) {
	t.Parallel()
	release, entered := make(chan struct{}), make(chan struct{})
	c := connectors.Limit(connectors.Wrap(reader{calls: new(int)}, func(ctx context.Context, _ string, call func(context.Context) error) error {
		entered <- struct{}{}
		<-release
		return call(ctx)
	}), 1)
	done := make(chan error)
	go func() { _, err := c.Check(context.Background()); done <- err }()
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.Check(ctx)
	require.ErrorIs(t, err, context.Canceled)
	close(release)
	require.NoError(t, <-done)
}
