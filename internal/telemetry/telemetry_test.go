package telemetry_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

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
			Sweeps:     map[string]int64{"stopped": 1}, SweepsHalted: true,
			Rules: []telemetry.Rule{
				{Name: "a", Active: true, Counted: true, Due: 5, Held: 2, Blocked: 1, Backlog: 4, LastSuccess: &now},
				{Name: "b"},
			},
			Holds: map[string]int64{"legal": 3}, OverdueHolds: 1,
		}, nil
	})
	m.Transition("erasure", "running", "verifying")
	m.Finished("erasure", "completed", time.Minute)
	m.RunDone("shop", "erase", 4, time.Second)
	m.TaskFailed("shop", "erase", "missing-privilege")
	m.SweepEnded("a", "done", map[string]int64{"delete": 7}, time.Second, map[string]time.Duration{"lag": time.Minute})
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
		`lethe_sweeps_open{state="stopped"} 1`,
		`lethe_sweeps_halted 1`,
		`lethe_sweeps_ended_total{rule="a",state="done"} 1`,
		`lethe_sweep_rows_total{method="delete",rule="a"} 7`,
		`lethe_sweep_longest_transaction_seconds_sum{rule="a"} 1`,
		`lethe_sweep_paused_seconds_total{rule="a",why="lag"} 60`,
		`lethe_retention_rows_due{rule="a"} 5`,
		`lethe_retention_rows_held{rule="a"} 2`,
		`lethe_retention_rows_blocked{rule="a"} 1`,
		`lethe_retention_backlog_rows{rule="a"} 4`,
		`lethe_retention_rule_active{rule="a"} 1`,
		`lethe_retention_rule_active{rule="b"} 0`,
		`lethe_sweep_last_success_timestamp_seconds{rule="a"} 1.7723664e+09`,
		`lethe_sweep_last_success_timestamp_seconds{rule="b"} 0`,
		`lethe_holds{kind="legal"} 3`,
		`lethe_holds_review_overdue 1`,
	} {
		require.Contains(t, w.Body.String(), line)
	}
	require.NotContains(t, w.Body.String(), `lethe_retention_rows_due{rule="b"}`, "what was not counted is not nothing")
	alerts(t, w.Body.String())
}

// Every metric that the shipped alerts ask for is one that there is.
func alerts(t *testing.T, scraped string) {
	text, err := os.ReadFile("../../docs/alerts.yaml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	n := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			names := regexp.MustCompile(`lethe_[a-z_]+`).FindAllString(r.Expr, -1)
			require.NotEmpty(t, names, r.Alert)
			for _, name := range names {
				n++
				require.Regexp(t, `(?m)^`+name+`(\{| )`, scraped, r.Alert)
			}
		}
	}
	require.Greater(t, n, 10)
}

func TestADatabaseThatIsDownIsSeen(t *testing.T) {
	t.Parallel()
	m := telemetry.New(time.Now, func() (*telemetry.Snapshot, error) { return nil, errors.New("the control database failed") })
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusInternalServerError, w.Code)
}
