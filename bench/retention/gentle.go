package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lethe-gdpr/lethe/bench/report"
	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/internal/config"
)

const (
	loadRate    = 500 // statements a second
	loadClients = 4
	phase       = 4 * time.Second // a sweep works and rests in turn while the load goes on; a slice of Lethe's has 30 s
	cycles      = 2               // of phases in one repetition
)

// Phases of a load.
const (
	none = iota
	soft // a sweep at the default pace
	hard // a sweep at full speed
)

// nightly is the pace that Lethe keeps when nothing is configured.
func nightly() connectors.Pace {
	p := config.Default().Policy.Retention.Pace
	return connectors.Pace{
		Transaction: time.Duration(p.Transaction), Duty: p.Duty, Connections: p.Connections, Lag: time.Duration(p.Lag),
		Sessions: p.Sessions, LockWaits: p.LockWaits,
	}
}

// gentle measures what a load feels of a sweep at the default pace and at full speed, against none. The three alternate
// every few seconds on the same database under the same load, so that whatever else the machine does meets all alike.
func gentle(ctx context.Context, r *report.Report, fresh func(ctx context.Context) (string, func(), error), n int) error {
	var rates []float64
	var p99 [3][]float64
	var share float64
	for i := range repetitions + 1 {
		dsn, drop, err := fresh(ctx)
		if err != nil {
			return err
		}
		felt, phases, rate, err := alternate(ctx, dsn, n, r.Seed+uint64(i))
		drop()
		if err != nil {
			return err
		}
		for what, name := range []string{"no sweep", "default pace", "full speed"} {
			fmt.Printf("%d %s: %d phases, p50 %.2f, p95 %.2f, p99 %.2f ms\n", i, name, len(phases[what]),
				felt.quantile(0.5, phases[what]), felt.quantile(0.95, phases[what]), felt.quantile(0.99, phases[what]))
			if i > 0 {
				p99[what] = append(p99[what], felt.quantile(0.99, phases[what]))
			}
		}
		if i > 0 {
			rates = append(rates, rate)
		}
		share = felt.Share
	}
	r.Add("PostgreSQL: p99 of a load beside a sweep at the default pace", report.FigureOf("ms", p99[soft]...), report.FigureOf("ms", p99[none]...), 1.3,
		fmt.Sprintf("against no sweep; %d statements/s from a generator that takes %.0f%% of the cores; %.2f ms beside a sweep at full speed",
			loadRate, 100*share, report.FigureOf("ms", p99[hard]...).Median))
	r.AddBound("rows that the sweep at the default pace deletes meanwhile", report.FigureOf("rows/s", rates...), 50_000, true, "")
	return nil
}

// alternate runs the phases under a load. rate is what the sweep at the default pace deleted in a second of its phases.
func alternate(ctx context.Context, dsn string, n int, seed uint64) (f felt, phases [3][]span, rate float64, err error) {
	s, err := open(ctx, "postgres", dsn, cutoff(n))
	if err != nil {
		return f, phases, 0, err
	}
	defer s.db.Close()
	j := connectortest.NewJournal()
	var rows int64
	var took time.Duration
	l := load{DSN: dsn, Every: time.Second * loadClients / loadRate, Connections: loadClients, Orders: n, Seed: seed}
	f, err = l.under(ctx, func(ctx context.Context) error {
		for range cycles {
			for _, what := range []int{none, soft, hard} {
				began := time.Now()
				before, err := deleted(j)
				if err != nil {
					return err
				}
				finished := false
				if what == none {
					time.Sleep(phase)
				} else {
					pace := connectors.Pace{}
					if what == soft {
						pace = nightly()
					}
					did, err := s.slice(ctx, pace, j, phase)
					if err != nil {
						return err
					}
					finished = did.finished
				}
				phases[what] = append(phases[what], span{began, time.Now()})
				after, err := deleted(j)
				if err != nil {
					return err
				}
				if what == soft {
					rows, took = rows+after-before, took+time.Since(began)
				}
				if finished {
					return nil
				}
			}
		}
		return nil
	})
	if err == nil && took == 0 {
		err = errors.New("nothing was swept")
	}
	return f, phases, float64(rows) / took.Seconds(), err
}
