package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	require.NoError(t, err)
	return z
}

// What a night with 23 or 25 hours, a leap day and the end of a month do to a schedule.
func TestScheduleByTheWallClock(t *testing.T) {
	t.Parallel()
	const layout = "2006-01-02 15:04 MST"
	for name, c := range map[string]struct {
		cron, zone, after string
		want              []string
	}{
		"plain": {
			"30 2 * * *", "Europe/Stockholm", "2026-03-02T10:00:00Z",
			[]string{"2026-03-03 02:30 CET", "2026-03-04 02:30 CET"},
		},
		"skipped in spring": {
			"30 2 * * *", "Europe/Stockholm", "2026-03-28T10:00:00Z",
			[]string{"2026-03-29 03:00 CEST", "2026-03-30 02:30 CEST"},
		},
		"twice in autumn, met once": {
			"30 2 * * *", "Europe/Stockholm", "2026-10-24T10:00:00Z",
			[]string{"2026-10-25 02:30 CEST", "2026-10-26 02:30 CET"},
		},
		"between the two of autumn": {
			"30 2 * * *", "Europe/Stockholm", "2026-10-25T01:10:00Z", // 02:10 for the second time
			[]string{"2026-10-26 02:30 CET"},
		},
		"midnight is skipped": {
			"0 0 * * *", "America/Asuncion", "2024-10-05T12:00:00Z",
			[]string{"2024-10-06 01:00 -03", "2024-10-07 00:00 -03"},
		},
		"half an hour": {
			"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z",
			[]string{"2026-10-04 02:30 +11", "2026-10-05 02:15 +11"},
		},
		"a day that is not": {
			"0 3 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", // 30 December 2011 was skipped
			[]string{"2011-12-29 03:00 -10", "2011-12-31 00:00 +14"},
		},
		"leap day": {
			"0 3 29 2 *", "Europe/Berlin", "2026-03-02T10:00:00Z",
			[]string{"2028-02-29 03:00 CET"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := parseSchedule(c.cron, zone(t, c.zone))
			require.NoError(t, err)
			at, err := time.Parse(time.RFC3339, c.after)
			require.NoError(t, err)
			for _, want := range c.want {
				at = s.next(at)
				require.Equal(t, want, at.Format(layout))
			}
		})
	}
}

func TestWhatIsNoSchedule(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "30 2 * *", "@every 1h", "CRON_TZ=UTC 30 2 * * *", "TZ=Asia/Tokyo 30 2 * * *", "61 2 * * *"} {
		_, err := parseSchedule(text, time.UTC)
		require.ErrorContains(t, err, "cron expression", text)
	}
	for _, text := range []string{"0 3 30 2 *", "0 3 31 4,6,9,11 *"} {
		_, err := parseSchedule(text, time.UTC)
		require.ErrorContains(t, err, "never comes", text)
	}
	_, err := parseSchedule("0 3 29 2 *", time.UTC)
	require.NoError(t, err, "leap days do come")
}

// In every zone a nightly schedule is met once a night, on every day, in order.
func TestOnceANight(t *testing.T) {
	t.Parallel()
	zones := []string{
		"Europe/Stockholm", "America/New_York", "America/Santiago", "Asia/Kathmandu", "Africa/Casablanca", "Asia/Tehran",
		"Australia/Lord_Howe", "America/Asuncion", "UTC",
	}
	rapid.Check(t, func(r *rapid.T) {
		z := zone(t, rapid.SampledFrom(zones).Draw(r, "zone"))
		hour, minute := rapid.IntRange(0, 23).Draw(r, "hour"), rapid.IntRange(0, 59).Draw(r, "minute")
		s, err := parseSchedule(time.Date(2000, 1, 1, hour, minute, 0, 0, time.UTC).Format("4 15")+" * * *", z)
		require.NoError(r, err)
		at := time.Unix(rapid.Int64Range(1_577_836_800, 1_893_456_000).Draw(r, "at"), 0)
		for range 5 {
			next := s.next(at)
			require.True(r, next.After(at))
			day := func(t time.Time) int {
				y, m, d := t.In(z).Date()
				return int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
			}
			require.LessOrEqual(r, day(next)-day(at), 1, "no day without it")
			again := s.next(next)
			require.Equal(r, 1, day(again)-day(next), "once a day")
			at = next.Add(time.Duration(rapid.Int64Range(0, 20*3600).Draw(r, "late")) * time.Second)
		}
	})
}

func TestWindow(t *testing.T) {
	t.Parallel()
	z := zone(t, "Europe/Stockholm")
	for _, c := range []struct {
		window, at string
		open       bool
		until      string
	}{
		{"22:00-06:00", "2026-03-02T23:00:00+01:00", true, "2026-03-03T06:00:00+01:00"},
		{"22:00-06:00", "2026-03-03T05:59:59+01:00", true, "2026-03-03T06:00:00+01:00"},
		{"22:00-06:00", "2026-03-03T06:00:00+01:00", false, "2026-03-03T22:00:00+01:00"},
		{"01:00-05:00", "2026-03-02T23:00:00+01:00", false, "2026-03-03T01:00:00+01:00"},
		{"01:00-05:00", "2026-03-03T01:00:00+01:00", true, "2026-03-03T05:00:00+01:00"},
		{"02:15-02:45", "2026-03-29T00:30:00+01:00", false, "2026-03-30T02:15:00+02:00"}, // skipped that night
		{"02:00-05:00", "2026-10-25T02:30:00+01:00", true, "2026-10-25T05:00:00+01:00"},
	} {
		w, err := ParseWindow(c.window)
		require.NoError(t, err)
		require.Equal(t, c.window, w.String())
		at, err := time.Parse(time.RFC3339, c.at)
		require.NoError(t, err)
		open, until := w.open(at, z)
		require.Equal(t, c.open, open, c)
		require.Equal(t, c.until, until.Format(time.RFC3339), c)
	}
	open, until := Window{}.open(time.Now(), z)
	require.True(t, open)
	require.True(t, until.IsZero())
	for _, bad := range []string{"22:00", "22-06", "25:00-06:00", "06:00-06:00"} {
		_, err := ParseWindow(bad)
		require.ErrorContains(t, err, "window", bad)
	}
}
