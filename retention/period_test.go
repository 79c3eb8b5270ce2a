package retention_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

func date(t *testing.T, s string) time.Time {
	t.Helper()
	d, err := time.Parse(time.DateOnly, s)
	require.NoError(t, err)
	return d
}

func TestParsePeriod(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]retention.Period{
		"P7Y": {Years: 7}, "P1Y6M": {Years: 1, Months: 6}, "P35D": {Days: 35}, "P2W": {Days: 14}, "P1W1D": {Days: 8},
	} {
		got, err := retention.ParsePeriod(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "P", "7Y", "PT1H", "P1D1Y", "P-1D", "P1.5Y", "P99999999Y", "P1001Y", "P900Y12000M", "P400000D", "P1Y1Y", "p1y"} {
		_, err := retention.ParsePeriod(in)
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid}, in)
	}
}

func TestPeriodRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 400)
		p := retention.Period{Years: n.Draw(t, "y"), Months: n.Draw(t, "m"), Days: n.Draw(t, "d")}
		back, err := retention.ParsePeriod(p.String())
		require.NoError(t, err)
		require.Equal(t, p, back)
	})
}
