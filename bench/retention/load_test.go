package retention

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuantilesAreOfTheSpansAskedFor(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var f felt
	for i := range 100 { // one every 10 ms, which take 100 ms down to 1 ms
		f.Answers = append(f.Answers, answer{start.Add(time.Duration(i) * 10 * time.Millisecond), time.Duration(100-i) * time.Millisecond})
	}
	all := []span{{start, start.Add(time.Second)}}
	require.InDelta(t, 50, f.quantile(0.5, all), 0.001)
	require.InDelta(t, 99, f.quantile(0.99, all), 0.001)
	require.InDelta(t, 100, f.quantile(1, all), 0.001)
	late := []span{{start.Add(900 * time.Millisecond), start.Add(950 * time.Millisecond)}, {start.Add(990 * time.Millisecond), start.Add(time.Second)}}
	require.InDelta(t, 10, f.quantile(1, late), 0.001, "the end of a span is not in it")
	require.InDelta(t, 1, f.quantile(0, late), 0.001)
	require.Zero(t, f.quantile(0.99, []span{{start.Add(time.Hour), start.Add(2 * time.Hour)}}))
}

func TestHalfOfTheOrdersAreDue(t *testing.T) {
	t.Parallel()
	due := 0
	for i := 1; i <= 1000; i++ { // as the databases are filled, without the part of an hour
		if epoch.Add(time.Duration(i) * time.Minute).Before(cutoff(1000)) {
			due++
		}
	}
	require.InDelta(t, 500, due, 1)
}
