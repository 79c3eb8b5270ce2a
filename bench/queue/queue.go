// Package queue measures the whole house over HTTP: how fast requests are accepted, how long a lone one takes to its
// verified end, and how many a second are sustained. The load generator runs in the same process and shares its cores.
package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lethe-gdpr/lethe/bench/database"
	"github.com/lethe-gdpr/lethe/bench/helpdesk"
	"github.com/lethe-gdpr/lethe/bench/report"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/config"
	"github.com/lethe-gdpr/lethe/internal/store"
)

const (
	connections = 8    // of the load generator
	accepted    = 5000 // requests of the intake area
	alone       = 100  // lone requests
	crowd       = 2000 // requests of the sustained row
)

// house is a running Lethe on PostgreSQL with a helpdesk to erase from.
type house struct {
	app     *app.App
	control *pgxpool.Pool
	key     string
	http    *http.Client
	stop    []func()
}

func (h *house) close() {
	for _, f := range slices.Backward(h.stop) {
		f()
	}
}

func open(ctx context.Context, r *report.Report, role string, subjects int) (h *house, err error) {
	h = &house{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	control, drop, err := database.New(ctx, r)
	if err != nil {
		return nil, err
	}
	h.stop = append(h.stop, drop)
	target, drop, err := database.New(ctx, r)
	if err != nil {
		return nil, err
	}
	h.stop = append(h.stop, drop)
	db, err := pgxpool.New(ctx, target)
	if err != nil {
		return nil, err
	}
	h.stop = append(h.stop, db.Close)
	if err := helpdesk.Create(ctx, db, subjects, r.Seed); err != nil {
		return nil, err
	}
	if h.control, err = pgxpool.New(ctx, control); err != nil {
		return nil, err
	}
	h.stop = append(h.stop, h.control.Close)
	dir, err := os.MkdirTemp("", "lethe-bench-")
	if err != nil {
		return nil, err
	}
	h.stop = append(h.stop, func() { _ = os.RemoveAll(dir) })
	c := config.Default()
	c.Database, c.Data, c.Map, c.Listen, c.Role = control, dir, filepath.Join(dir, "lethe.yaml"), "127.0.0.1:0", role
	c.Policy.AutoApprove = []config.AutoApproval{{Name: "bench", Kinds: []string{"access", "erasure"}}}
	if err := os.WriteFile(c.Map, helpdesk.Map(), 0o600); err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, control, store.Options{})
	if err != nil {
		return nil, err
	}
	err = s.Migrate(ctx)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	h.app, err = app.New(ctx, app.Options{
		Config: c, Limits: auth.Config{Rate: -1},
		Env: func(name string) (string, bool) { return target, name == "HELPDESK" },
	})
	if err != nil {
		return nil, err
	}
	h.stop = append(h.stop, func() { _ = h.app.Stop(context.WithoutCancel(ctx)) })
	if err := h.app.Start(ctx); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, app.BootstrapFile))
	h.key = strings.TrimSpace(string(key))
	return h, err
}

// file posts one erasure request and returns its id.
func (h *house) file(ctx context.Context, subject int) (string, error) {
	body := fmt.Sprintf(`{"kind":"erasure","identity_verified":true,"identity_method":"session",
		"identifiers":[{"name":"email","value":%q}]}`, helpdesk.Email(subject))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.app.URL()+"/v1/requests", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+h.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := h.http.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusAccepted {
		return "", fmt.Errorf("status %d: %s", res.StatusCode, bytes.TrimSpace(answer))
	}
	var made struct{ ID string }
	return made.ID, json.Unmarshal(answer, &made)
}

// finished counts completed requests in the control database: polling the API would be part of the load.
func (h *house) finished(ctx context.Context) (n int, err error) {
	err = h.control.QueryRow(ctx, "SELECT count(*) FROM requests WHERE state = 'completed'").Scan(&n)
	return n, err
}

func (h *house) await(ctx context.Context, n int, every time.Duration) error {
	deadline := time.Now().Add(10 * time.Minute)
	for {
		done, err := h.finished(ctx)
		if err != nil || done >= n {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d requests completed in ten minutes", done, n)
		}
		time.Sleep(every)
	}
}

// flood files n requests over all connections and returns each one's latency in milliseconds.
func (h *house) flood(ctx context.Context, first, n int) ([]float64, error) {
	var next atomic.Int64
	latencies := make([]float64, n)
	errs := make(chan error, connections)
	var all sync.WaitGroup
	for range connections {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				seconds, err := report.Seconds(func() error { _, err := h.file(ctx, first+i); return err })
				if err != nil {
					errs <- err
					return
				}
				latencies[i] = seconds * 1000
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
		return latencies, nil
	}
}

func percentile(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(float64(len(sorted))*p), len(sorted)-1)]
}

// RunIntake measures how fast the API accepts requests, with no worker beside it.
func RunIntake(ctx context.Context, r *report.Report, scale float64) error {
	n := max(int(accepted*scale), 500)
	h, err := open(ctx, r, config.RoleAPI, 1)
	if err != nil {
		return err
	}
	defer h.close()
	if _, err := h.flood(ctx, 0, n/5); err != nil {
		return err
	}
	var rates, tails []float64
	for i := range 5 {
		var latencies []float64
		seconds, err := report.Seconds(func() (err error) { latencies, err = h.flood(ctx, (i+1)*n, n); return err })
		if err != nil {
			return err
		}
		rates, tails = append(rates, float64(n)/seconds), append(tails, percentile(latencies, 0.99))
	}
	floor, err := h.inserts(ctx, n)
	if err != nil {
		return err
	}
	r.AddBound("requests accepted", report.FigureOf("1/s", rates...), 1000, true,
		fmt.Sprintf("%d connections; %.0f/s for one INSERT of a requests row by pgx over as many", connections, floor))
	r.AddBound("their p99", report.FigureOf("ms", tails...), 50, false, "")
	return nil
}

// inserts copies rows of the requests table by hand, one statement each, over as many connections.
func (h *house) inserts(ctx context.Context, n int) (float64, error) {
	if _, err := h.control.Exec(ctx, "CREATE TABLE bench_requests (LIKE requests INCLUDING ALL)"); err != nil {
		return 0, err
	}
	var ids []string
	rows, err := h.control.Query(ctx, "SELECT id FROM requests LIMIT $1", n)
	if err != nil {
		return 0, err
	}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return 0, err
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make(chan error, connections)
	seconds, _ := report.Seconds(func() error {
		for range connections {
			all.Go(func() {
				for i := int(next.Add(1)) - 1; i < len(ids); i = int(next.Add(1)) - 1 {
					if _, err := h.control.Exec(ctx, "INSERT INTO bench_requests SELECT * FROM requests WHERE id = $1", ids[i]); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		all.Wait()
		return nil
	})
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(len(ids)) / seconds, nil
	}
}

// RunQueue measures requests from POST to completed.
func RunQueue(ctx context.Context, r *report.Report, scale float64) error {
	n := max(int(crowd*scale), 200)
	const warm = 20
	h, err := open(ctx, r, config.RoleAll, warm+alone+5*n)
	if err != nil {
		return err
	}
	defer h.close()
	done := 0
	one := func() (float64, error) {
		return report.Seconds(func() error {
			if _, err := h.file(ctx, done); err != nil {
				return err
			}
			done++
			return h.await(ctx, done, 2*time.Millisecond)
		})
	}
	var latencies []float64
	for i := range warm + alone {
		seconds, err := one()
		if err != nil {
			return err
		}
		if i >= warm {
			latencies = append(latencies, seconds*1000)
		}
	}
	p50, p95 := percentile(latencies, 0.5), percentile(latencies, 0.95)
	r.AddBound("a lone request, REST to completed: p95", report.FigureOf("ms", p95), 1000, false,
		fmt.Sprintf("p50 %.0f ms, n=%d; the queue's fetch cooldown of 20 ms is part of each of its three steps", p50, alone))
	var rates []float64
	var cpu float64
	for range 5 {
		before := processCPU()
		seconds, err := report.Seconds(func() error {
			if _, err := h.flood(ctx, done, n); err != nil {
				return err
			}
			done += n
			return h.await(ctx, done, 50*time.Millisecond)
		})
		if err != nil {
			return err
		}
		rates, cpu = append(rates, float64(n)/seconds), (processCPU()-before)/seconds
	}
	r.AddBound("requests through the whole queue", report.FigureOf("1/s", rates...), 100, true,
		fmt.Sprintf("%d at once, 51 rows in 20 tables each; this process, load generator included, used %.1f cores", n, cpu))
	return nil
}

// processCPU returns the CPU seconds that this process has used.
func processCPU() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
