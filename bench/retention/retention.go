// Package retention measures sweeps of the database connector: against one single DELETE, against pt-archiver, under a
// steady load of small statements, and of whole partitions.
package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lethe-gdpr/lethe/bench/report"
	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

const (
	repetitions = 5
	orders      = 3_000_000 // and as many lines of them, none to two each
	slice       = 20 * time.Second
)

// epoch is when the first order was made; there is one a minute, give or take an hour.
var epoch = time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)

// cutoff makes half of the orders due.
func cutoff(orders int) time.Time { return epoch.Add(time.Duration(orders/2) * time.Minute) }

// shop is a database with orders and their lines, as the connector sees it.
type shop struct {
	db     *sqldb.DB
	entity string
	cut    time.Time
}

// open opens the connector on orders, which own their lines.
func open(ctx context.Context, kind, dsn string, cut time.Time) (*shop, error) {
	s, err := openEntities(ctx, kind, dsn,
		connectors.Entity{Name: "order_lines", OwnedBy: []connectors.Owner{{Columns: []string{"order_id"}, Entity: "orders"}}, Erase: dsr.Delete},
		connectors.Entity{Name: "orders", Subject: true, Fields: []connectors.Field{{Name: "customer", Identifier: "customer_id"}}, Erase: dsr.Delete},
	)
	if err != nil {
		return nil, err
	}
	s.entity, s.cut = "orders", cut
	return s, nil
}

func openEntities(ctx context.Context, kind, dsn string, entities ...connectors.Entity) (*shop, error) {
	db, err := sqldb.Open(ctx, &connectors.System{
		Name: "shop", Connector: kind, Settings: map[string]any{"dsn": dsn},
		Identifiers: map[string]dsr.IdentifierKind{"customer_id": dsr.KindOpaque}, Entities: entities,
	}, connectors.Options{Now: time.Now})
	if err != nil {
		return nil, err
	}
	return &shop{db: db}, nil
}

// swept is what a Sweep came to.
type swept struct {
	rows     int64 // of all entities
	took     time.Duration
	longest  time.Duration
	chunks   int64
	finished bool
}

// sweep runs slices of a Sweep, as the engine does, until nothing is due. The journal is in memory.
func (s *shop) sweep(ctx context.Context, pace connectors.Pace) (swept, error) {
	j := connectortest.NewJournal()
	var out swept
	for !out.finished {
		m, err := s.slice(ctx, pace, j, slice)
		if err != nil {
			return out, err
		}
		out.longest, out.chunks, out.finished = max(out.longest, m.longest), out.chunks+m.chunks, m.finished
	}
	var err error
	out.rows, err = deleted(j)
	return out, err
}

// slice runs one slice; its rows are in the journal.
func (s *shop) slice(ctx context.Context, pace connectors.Pace, j *connectortest.Journal, length time.Duration) (swept, error) {
	m, err := s.db.Sweep(ctx, connectors.SweepJob{
		Entity: s.entity, Cut: connectors.Cut{Before: s.cut, Zone: time.UTC}, Pace: pace, Journal: j, Deadline: time.Now().Add(length),
		Rule: connectors.Rule{Rule: retention.Rule{
			Name: "shop." + s.entity + ".old", Action: retention.Delete,
			Start: retention.StartingPoint{Kind: retention.StartField, Field: "created_at"},
		}},
	})
	out := swept{longest: m.Longest, chunks: m.Transactions, finished: err == nil}
	if errors.Is(err, connectors.ErrYield) {
		err = nil
	}
	return out, err
}

// deleted counts the rows that a Sweep deleted. Everything that is due must go.
func deleted(j *connectortest.Journal) (rows int64, err error) {
	for _, t := range j.Tallies() {
		if t.Method != dsr.Delete {
			return 0, fmt.Errorf("%d rows of %s: %s", t.Rows, t.Entity, t.Method)
		}
		rows += t.Rows
	}
	return rows, nil
}

// contender is one way to delete what is due.
type contender struct {
	name string
	// run deletes from the database behind dsn.
	run func(ctx context.Context, dsn string) (swept, error)
}

// sweeper is the connector at full speed.
func sweeper(name, kind string, cut time.Time, connections int) contender {
	return contender{name, func(ctx context.Context, dsn string) (swept, error) {
		began := time.Now()
		s, err := open(ctx, kind, dsn, cut)
		if err != nil {
			return swept{}, err
		}
		defer s.db.Close()
		out, err := s.sweep(ctx, connectors.Pace{Connections: connections})
		out.took = time.Since(began)
		return out, err
	}}
}

// results are the repetitions of one contender.
type results struct {
	rates   []float64 // rows a second
	longest []float64 // milliseconds
	chunks  int64
}

func (r *results) rate() report.Figure        { return report.FigureOf("rows/s", r.rates...) }
func (r *results) transaction() report.Figure { return report.FigureOf("ms", r.longest...) }
func (r *results) note(connections int) string {
	return fmt.Sprintf("%d chunks, %d connections", r.chunks, connections)
}

// race lets every contender delete the same rows of a fresh copy each, in turn, after one warm-up. Who begins changes
// with the repetition.
func race(ctx context.Context, fresh func(ctx context.Context) (dsn string, drop func(), err error), list ...contender) (map[string]*results, error) {
	out := map[string]*results{}
	var want int64
	for i := range repetitions + 1 {
		for k := range list {
			c := list[(i+k)%len(list)]
			dsn, drop, err := fresh(ctx)
			if err != nil {
				return nil, err
			}
			did, err := c.run(ctx, dsn)
			drop()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if want == 0 {
				want = did.rows
			}
			if did.rows != want || want == 0 {
				return nil, fmt.Errorf("%s: %d rows, another deleted %d", c.name, did.rows, want)
			}
			fmt.Printf("%d %s: %d rows in %.2f s, longest transaction %d ms\n", i, c.name, did.rows, did.took.Seconds(), did.longest.Milliseconds())
			if i == 0 {
				continue
			}
			if out[c.name] == nil {
				out[c.name] = &results{}
			}
			r := out[c.name]
			r.rates = append(r.rates, float64(did.rows)/did.took.Seconds())
			r.longest = append(r.longest, milliseconds(did.longest))
			r.chunks = did.chunks
		}
	}
	return out, nil
}
