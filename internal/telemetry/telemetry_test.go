package telemetry_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/internal/telemetry"
)

func TestScrape(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	due := now.Add(-time.Minute)
	m := telemetry.New(func() time.Time { return now }, func() (*telemetry.Snapshot, error) {
		return &telemetry.Snapshot{
			Open:       map[[2]string]int64{{"erasure", "running"}: 2},
			NearestDue: &due,
			Pending:    map[string]int64{"shop": 3},
			Failed:     map[string]int64{"shop": 1},
		}, nil
	})
	m.Transition("erasure", "running", "verifying")
	m.Finished("erasure", "completed", time.Minute)
	m.RunDone("shop", "erase", 4, time.Second)
	m.TaskFailed("shop", "erase", "missing-privilege")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code)
	for _, line := range []string{
		`lethe_requests_open{kind="erasure",state="running"} 2`,
		`lethe_deadline_seconds_min -60`,
		`lethe_queue_depth{system="shop"} 3`,
		`lethe_tasks_failed{system="shop"} 1`,
		`lethe_task_failures_total{phase="erase",reason="missing-privilege",system="shop"} 1`,
		`lethe_request_transitions_total{from="running",kind="erasure",to="verifying"} 1`,
		`lethe_run_members_sum{phase="erase",system="shop"} 4`,
		`lethe_request_duration_seconds_count{kind="erasure",state="completed"} 1`,
	} {
		require.Contains(t, w.Body.String(), line)
	}
}

func TestADatabaseThatIsDownIsSeen(t *testing.T) {
	t.Parallel()
	m := telemetry.New(time.Now, func() (*telemetry.Snapshot, error) { return nil, errors.New("the control database failed") })
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusInternalServerError, w.Code)
}
