package logfiles

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRotatedNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"app.log": false, "app.jsonl": false, "syslog": false, "worker-1.log": false, "web_2.log": false, "app.v2.log": false,
		"app.log.1": true, "app.log.12": true, "syslog.1": true, "app.log.old": true, "app.log.2.gz": true, "app.log.gz": true,
		"app.jsonl.zst": true, "app.log-20260131": true, "app-20260131.log": true, "app-2026-01-31.log": true,
		"app.2026-01-31.log": true, "app.log.2026-01-31": true, "app.log.2026-01-31-13": true,
		"app-2026-01-31T00-00-00.000.log": true, "app.log-1769817600": true, "app-2026-01-31.1.log": true,
		"order-1234567.log": false, "node-10.log": false,
	} {
		require.Equal(t, want, rotated(name), name)
	}
}

func TestRotationIsExpected(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 15, 0, 0, 0, time.UTC)
	e := &entity{}
	require.Nil(t, e.ends(now, now))
	e.rotates = 24 * time.Hour
	require.Equal(t, now.Add(20*time.Hour), *e.ends(now, now.Add(-4*time.Hour)), "a day after the last one")
	require.Equal(t, time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC), *e.ends(now, time.Time{}), "the next one by the clock")
	require.Equal(t, time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC), *e.ends(now, now.Add(-90*time.Hour)), "one is overdue")
	for _, bad := range []string{"", "often", "1ms", "-1h"} {
		_, err := rotation(bad)
		require.Error(t, err, bad)
	}
}
