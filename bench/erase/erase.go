// Package erase measures the database connector alone against hand-written SQL and COPY.
package erase

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lethe-gdpr/lethe/bench/database"
	"github.com/lethe-gdpr/lethe/bench/helpdesk"
	"github.com/lethe-gdpr/lethe/bench/report"
	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
)

const (
	repetitions = 5
	lone        = 100  // subjects in one repetition of the first row
	batchSize   = 1000 // of the second
	heavyRows   = 84_000
)

// scene is the helpdesk with an open connector.
type scene struct {
	db   *pgxpool.Pool
	c    connectors.Connector
	next int // the next subject that is still there
}

func open(ctx context.Context, r *report.Report, subjects int) (*scene, func(), error) {
	dsn, drop, err := database.New(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	db, err := pgxpool.New(ctx, dsn)
	if err != nil {
		drop()
		return nil, nil, err
	}
	end := func() { db.Close(); drop() }
	fmt.Printf("filling a helpdesk of %d subjects, %d rows\n", subjects, subjects*helpdesk.RowsPerSubject)
	if err := helpdesk.Create(ctx, db, subjects, r.Seed); err != nil {
		end()
		return nil, nil, err
	}
	m, err := datamap.Load(helpdesk.Map(), func(string) (string, bool) { return dsn, true }, sqldb.Kinds())
	if err != nil {
		end()
		return nil, nil, err
	}
	c, err := sqldb.Open(ctx, m.Systems[0], connectors.Options{Now: time.Now})
	if err != nil {
		end()
		return nil, nil, err
	}
	return &scene{db: db, c: c}, func() { _ = c.Close(); end() }, nil
}

// Run measures erasure.
func Run(ctx context.Context, r *report.Report, scale float64) error {
	s, end, err := open(ctx, r, max(int(157_000*scale), 15_000))
	if err != nil {
		return err
	}
	defer end()
	if err := s.compare(ctx, r, "erase + verify a lone subject (51 rows, 20 tables)", lone, 1, 1, 3); err != nil {
		return err
	}
	if err := s.compare(ctx, r, "1,000 subjects in one batch", batchSize, batchSize, 100, 2); err != nil {
		return err
	}
	for i := range 2 * (repetitions + 1) {
		if err := helpdesk.Grow(ctx, s.db, s.next+i, heavyRows); err != nil {
			return err
		}
	}
	return s.compare(ctx, r, "the heaviest subject (84,000 rows)", 1, 1, 1, 3)
}

// compare erases n subjects a repetition, ours in batches of size ours and by hand in transactions of size hand, in
// turn, after one warm-up of each.
func (s *scene) compare(ctx context.Context, r *report.Report, what string, n, ours, hand int, limit float64) error {
	var us, them []float64
	var peak float64
	for i := range repetitions + 1 {
		floor, err := report.Seconds(func() error { return s.byHand(ctx, n, hand) })
		if err != nil {
			return err
		}
		report.ResetPeak()
		before := report.PeakMiB()
		seconds, err := report.Seconds(func() error { return s.byLethe(ctx, n, ours) })
		if err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		us, them = append(us, seconds), append(them, floor)
		peak = max(peak, report.PeakMiB()-before)
	}
	r.Add(what, report.FigureOf("s", us...), report.FigureOf("s", them...), limit,
		fmt.Sprintf("%.0f subjects/s against %.0f; peak %.0f MiB above idle",
			float64(n)/report.FigureOf("s", us...).Median, float64(n)/report.FigureOf("s", them...).Median, peak))
	return nil
}

func (s *scene) take(n int) []string {
	emails := make([]string, n)
	for i := range emails {
		emails[i] = helpdesk.Email(s.next + i)
	}
	s.next += n
	return emails
}

func (s *scene) byHand(ctx context.Context, n, size int) error {
	for done := 0; done < n; done += size {
		if _, err := helpdesk.EraseByHand(ctx, s.db, s.take(min(size, n-done))); err != nil {
			return err
		}
	}
	return nil
}

func (s *scene) byLethe(ctx context.Context, n, size int) error {
	for done := 0; done < n; done += size {
		b := batch(s.take(min(size, n-done)))
		j := connectortest.NewJournal()
		for {
			err := s.c.(connectors.Eraser).Erase(ctx, connectors.Job{Batch: b, Journal: j, Deadline: time.Now().Add(30 * time.Second)})
			if err == nil {
				break
			}
			if !errors.Is(err, connectors.ErrYield) {
				return err
			}
		}
		residue, err := s.c.Verify(ctx, connectors.Search{Batch: b, Keys: j})
		if err != nil {
			return err
		}
		if len(residue) > 0 {
			return fmt.Errorf("%d residues", len(residue))
		}
	}
	return nil
}

func batch(emails []string) connectors.Batch {
	b := make(connectors.Batch, len(emails))
	for i, e := range emails {
		b[i] = connectors.Subject{
			Ref:         fmt.Sprintf("task_%06d", i),
			Identifiers: []dsr.Identifier{{Name: "email", Value: dsr.NewSecret(e), Origin: dsr.Known}},
		}
	}
	return b
}
