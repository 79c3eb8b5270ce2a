// Package telemetry holds Lethe's metrics. Labels are names of kinds, states, systems, phases and rules, never a value of a
// request, so that no scrape holds personal data.
package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Snapshot is what is counted in the control database at each scrape.
type Snapshot struct {
	Open       map[[2]string]int64 // open Requests by kind and state
	NearestDue *time.Time          // of an open Request
	Pending    map[string]int64    // Tasks that are not done, by System
	Failed     map[string]int64    // Tasks that failed, by System

	Sweeps       map[string]int64 // Sweeps that have not come to their end, by state
	SweepsHalted bool             // every Sweep is stopped
	Rules        []Rule           // of the current data map
	Holds        map[string]int64 // that last, by kind
	OverdueHolds int64            // whose review date has passed
}

// Rule is what there is to measure of one deletion rule.
type Rule struct {
	Name               string
	Active             bool // not paused, and approved where it must be
	Counted            bool // Due, Held, Blocked and Backlog were counted
	Due, Held, Blocked int64
	Backlog            int64
	LastSuccess        *time.Time // nil when never
}

// Metrics are Lethe's metrics and the registry that they are in.
type Metrics struct {
	registry    *prometheus.Registry
	transitions *prometheus.CounterVec
	finished    *prometheus.HistogramVec
	runs        *prometheus.HistogramVec
	members     *prometheus.HistogramVec
	failures    *prometheus.CounterVec
	sweeps      *prometheus.CounterVec
	swept       *prometheus.CounterVec
	longest     *prometheus.HistogramVec
	paused      *prometheus.CounterVec
}

// New returns metrics. snapshot is called at each scrape; its error makes the scrape answer 500, so that a control
// database that is down is seen.
func New(now func() time.Time, snapshot func() (*Snapshot, error)) *Metrics {
	day := 24 * time.Hour.Seconds()
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lethe_request_transitions_total", Help: "Changes of state of requests.",
		}, []string{"kind", "from", "to"}),
		finished: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lethe_request_duration_seconds", Help: "Time from the filing of a request to its end.",
			Buckets: []float64{1, 10, 60, 600, 3600, 6 * 3600, day, 3 * day, 7 * day, 14 * day, 30 * day, 90 * day},
		}, []string{"kind", "state"}),
		runs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lethe_run_duration_seconds", Help: "Working time of runs.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 10),
		}, []string{"system", "phase"}),
		members: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lethe_run_members", Help: "Requests carried out together by one run.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}, []string{"system", "phase"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lethe_task_failures_total", Help: "Tasks that failed for good.",
		}, []string{"system", "phase", "reason"}),
		sweeps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lethe_sweeps_ended_total", Help: "Sweeps that came to their end.",
		}, []string{"rule", "state"}),
		swept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lethe_sweep_rows_total", Help: "Rows that sweeps deleted, pseudonymised or left.",
		}, []string{"rule", "method"}),
		longest: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lethe_sweep_longest_transaction_seconds", Help: "Longest transaction of each sweep.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30},
		}, []string{"rule"}),
		paused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lethe_sweep_paused_seconds_total", Help: "Time that sweeps waited for the system's sake.",
		}, []string{"rule", "why"}),
	}
	m.registry.MustRegister(
		m.transitions, m.finished, m.runs, m.members, m.failures, m.sweeps, m.swept, m.longest, m.paused, &gauges{now: now, snapshot: snapshot},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Transition counts a change of state.
func (m *Metrics) Transition(kind, from, to string) {
	m.transitions.WithLabelValues(kind, from, to).Inc()
}

// Finished measures a request that ended.
func (m *Metrics) Finished(kind, state string, took time.Duration) {
	m.finished.WithLabelValues(kind, state).Observe(took.Seconds())
}

// RunDone measures a run.
func (m *Metrics) RunDone(system, phase string, members int, took time.Duration) {
	m.runs.WithLabelValues(system, phase).Observe(took.Seconds())
	m.members.WithLabelValues(system, phase).Observe(float64(members))
}

// TaskFailed counts a task that failed for good; reason is a stable code.
func (m *Metrics) TaskFailed(system, phase, reason string) {
	m.failures.WithLabelValues(system, phase, reason).Inc()
}

// SweepEnded measures a sweep that came to its end; rows are by method, pauses by stable code of why.
func (m *Metrics) SweepEnded(rule, state string, rows map[string]int64, longest time.Duration, pauses map[string]time.Duration) {
	m.sweeps.WithLabelValues(rule, state).Inc()
	for method, n := range rows {
		m.swept.WithLabelValues(rule, method).Add(float64(n))
	}
	if longest > 0 {
		m.longest.WithLabelValues(rule).Observe(longest.Seconds())
	}
	for why, took := range pauses {
		m.paused.WithLabelValues(rule, why).Add(took.Seconds())
	}
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// gauges reads the control database when it is asked.
type gauges struct {
	now      func() time.Time
	snapshot func() (*Snapshot, error)
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	openRequests = describe("lethe_requests_open", "Requests that have not ended.", "kind", "state")
	deadline     = describe("lethe_deadline_seconds_min",
		"Seconds until the nearest deadline of an open request; negative when it has passed, absent when none is open.")
	queueDepth  = describe("lethe_queue_depth", "Tasks that wait or are worked.", "system")
	failedTasks = describe("lethe_tasks_failed", "Failed tasks of open requests.", "system")

	openSweeps  = describe("lethe_sweeps_open", "Sweeps that run, are paused, or are stopped over a cap.", "state")
	halted      = describe("lethe_sweeps_halted", "1 while every sweep is stopped.")
	rowsDue     = describe("lethe_retention_rows_due", "Rows that may go, when they were last counted.", "rule")
	rowsHeld    = describe("lethe_retention_rows_held", "Rows that are due and held, when they were last counted.", "rule")
	rowsBlocked = describe("lethe_retention_rows_blocked",
		"Rows that are due and kept by what refers to them, when they were last counted.", "rule")
	backlog     = describe("lethe_retention_backlog_rows", "Rows that were still due after the last night.", "rule")
	active      = describe("lethe_retention_rule_active", "0 while a rule is paused or waits for its approval.", "rule")
	lastSuccess = describe("lethe_sweep_last_success_timestamp_seconds", "End of the last sweep that was done; 0 when never.", "rule")
	openHolds   = describe("lethe_holds", "Holds that last.", "kind")
	overdue     = describe("lethe_holds_review_overdue", "Holds that last and whose review date has passed.")
)

func (g *gauges) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		openRequests, deadline, queueDepth, failedTasks, openSweeps, halted, rowsDue, rowsHeld, rowsBlocked, backlog, active,
		lastSuccess, openHolds, overdue,
	} {
		c <- d
	}
}

func (g *gauges) Collect(c chan<- prometheus.Metric) {
	s, err := g.snapshot()
	if err != nil {
		c <- prometheus.NewInvalidMetric(openRequests, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for by, n := range s.Open {
		gauge(openRequests, float64(n), by[0], by[1])
	}
	if s.NearestDue != nil {
		gauge(deadline, s.NearestDue.Sub(g.now()).Seconds())
	}
	for system, n := range s.Pending {
		gauge(queueDepth, float64(n), system)
	}
	for system, n := range s.Failed {
		gauge(failedTasks, float64(n), system)
	}
	for state, n := range s.Sweeps {
		gauge(openSweeps, float64(n), state)
	}
	gauge(halted, yes(s.SweepsHalted))
	for _, r := range s.Rules {
		gauge(active, yes(r.Active), r.Name)
		last := 0.0
		if r.LastSuccess != nil {
			last = float64(r.LastSuccess.Unix())
		}
		gauge(lastSuccess, last, r.Name)
		if !r.Counted {
			continue
		}
		gauge(rowsDue, float64(r.Due), r.Name)
		gauge(rowsHeld, float64(r.Held), r.Name)
		gauge(rowsBlocked, float64(r.Blocked), r.Name)
		gauge(backlog, float64(r.Backlog), r.Name)
	}
	for kind, n := range s.Holds {
		gauge(openHolds, float64(n), kind)
	}
	gauge(overdue, float64(s.OverdueHolds))
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
