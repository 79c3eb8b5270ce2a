// Package telemetry holds Lethe's metrics. Labels are names of kinds, states, systems and phases, never a value of a
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
}

// Metrics are Lethe's metrics and the registry that they are in.
type Metrics struct {
	registry    *prometheus.Registry
	transitions *prometheus.CounterVec
	finished    *prometheus.HistogramVec
	runs        *prometheus.HistogramVec
	members     *prometheus.HistogramVec
	failures    *prometheus.CounterVec
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
	}
	m.registry.MustRegister(
		m.transitions, m.finished, m.runs, m.members, m.failures, &gauges{now: now, snapshot: snapshot},
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
)

func (g *gauges) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openRequests, deadline, queueDepth, failedTasks} {
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
}
