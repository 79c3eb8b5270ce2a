package holidays_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/holidays"
)

func berlin(t *testing.T) (*time.Location, dsr.Calendar) {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	cal, err := holidays.For("DE")
	require.NoError(t, err)
	return zone, cal
}

// The worked dates of one month under Regulation 1182/71 with Germany's nationwide holidays.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	zone, cal := berlin(t)
	for _, c := range [][3]string{
		{"2024-03-05", "2024-04-05", "2024-06-05"},
		{"2024-08-31", "2024-09-30", "2024-12-02"},
		{"2024-01-31", "2024-02-29", "2024-04-29"},
		{"2023-01-31", "2023-02-28", "2023-04-28"},
		{"2025-01-30", "2025-02-28", "2025-04-28"},
		{"2024-02-29", "2024-04-02", "2024-05-29"},
		{"2025-02-28", "2025-03-28", "2025-05-28"},
		{"2024-03-31", "2024-04-30", "2024-07-01"},
		{"2024-05-17", "2024-06-17", "2024-08-19"},
		{"2025-03-21", "2025-04-22", "2025-06-23"},
		{"2026-03-05", "2026-04-07", "2026-06-05"},
		{"2024-11-25", "2024-12-27", "2025-02-25"},
		{"2024-12-01", "2025-01-02", "2025-03-03"},
		{"2025-12-31", "2026-02-02", "2026-03-31"},
		{"2025-11-30", "2025-12-30", "2026-03-02"},
		{"2025-04-01", "2025-05-02", "2025-07-01"},
	} {
		received, err := time.ParseInLocation(time.DateOnly, c[0], zone)
		require.NoError(t, err)
		clock := dsr.StartClock(received, zone, cal)
		require.Equal(t, c[1], clock.Due.Format(time.DateOnly), c[0])
		require.Equal(t, clock.Due, clock.DueUnpaused)
		clock.Extend(cal)
		require.Equal(t, c[2], clock.Due.Format(time.DateOnly), c[0]+" extended")
		require.Equal(t, c[1], clock.FirstDue(cal).Format(time.DateOnly), "a refusal cannot use the extension")
	}
}

func TestReceiptIsALocalDate(t *testing.T) {
	t.Parallel()
	zone, cal := berlin(t)
	clock := dsr.StartClock(time.Date(2025, 1, 31, 23, 30, 0, 0, time.UTC), zone, cal)
	require.Equal(t, "2025-02-01", clock.Received.Format(time.DateOnly))
	require.Equal(t, "2025-03-03", clock.Due.Format(time.DateOnly))
}

func TestPause(t *testing.T) {
	t.Parallel()
	zone, cal := berlin(t)
	day := func(d int) time.Time { return time.Date(2026, 3, d, 12, 0, 0, 0, zone) }
	clock := dsr.StartClock(day(2), zone, cal)
	clock.Pause(day(4), "identity", cal)
	clock.Pause(day(5), "identity", cal)
	require.True(t, clock.Paused())
	clock.Resume(day(18), cal)
	clock.Resume(day(19), cal)
	require.False(t, clock.Paused())
	require.Equal(t, "2026-04-16", clock.Due.Format(time.DateOnly))
	require.Equal(t, "2026-04-02", clock.DueUnpaused.Format(time.DateOnly))
}

func TestDueIsAWorkdayAfterReceipt(t *testing.T) {
	t.Parallel()
	var calendars []dsr.Calendar
	for _, c := range holidays.Countries() {
		cal, err := holidays.For(c)
		require.NoError(t, err)
		calendars = append(calendars, cal)
	}
	zone, _ := berlin(t)
	rapid.Check(t, func(t *rapid.T) {
		cal := rapid.SampledFrom(calendars).Draw(t, "country")
		at := time.Unix(rapid.Int64Range(946684800, 4102444800).Draw(t, "received"), 0)
		clock := dsr.StartClock(at, zone, cal)
		require.True(t, cal.Workday(clock.Due))
		days := clock.Due.Sub(clock.Received).Hours() / 24
		require.GreaterOrEqual(t, days, 27.9)
		require.Less(t, days, 45.0)
		first := clock.Due
		clock.Extend(cal)
		require.True(t, clock.Due.After(first))
	})
}

func TestUnknownCountry(t *testing.T) {
	t.Parallel()
	_, err := holidays.For("XX")
	require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid})
}
