package logfiles_test

import (
	"context"
	"slices"
	"testing"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
)

// full is everything that a connector of contents does.
type full interface {
	connectors.Connector
	connectors.Exporter
	connectors.Eraser
	connectors.Sweeper
	connectors.Granter
}

// wrong is a connector that does not do right by what cannot be read.
type wrong struct {
	full
	due   func([]connectors.Due, error) ([]connectors.Due, error)
	job   func(*connectors.SweepJob)
	sweep func(error) error
}

func (w *wrong) Due(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
	due, err := w.full.Due(ctx, q)
	if w.due != nil {
		return w.due(due, err)
	}
	return due, err
}

func (w *wrong) Sweep(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
	if w.job != nil {
		w.job(&j)
	}
	m, err := w.full.Sweep(ctx, j)
	if w.sweep != nil {
		err = w.sweep(err)
	}
	return m, err
}

// untold is a journal that is not told what failed.
type untold struct{ connectors.Journal }

func (u untold) Save(ctx context.Context, checkpoint []byte, done []connectors.Tally) error {
	return u.Journal.Save(ctx, checkpoint, slices.DeleteFunc(slices.Clone(done), func(t connectors.Tally) bool { return t.Method == dsr.Failed }))
}

// forgetful is a journal whose checkpoint is ignored, so that what failed is counted again in every slice.
type forgetful struct{ connectors.Journal }

func (forgetful) Load(context.Context) ([]byte, error) { return nil, nil }

var defects = []struct {
	name, found string
	of          wrong
}{
	{name: "stops-at-the-first", found: "SweepDamaged", of: wrong{due: func(due []connectors.Due, err error) ([]connectors.Due, error) {
		if err == nil && len(due[0].Unreadable) > 0 {
			return nil, connectors.Permanent(dsr.CodeUnreadable, "a file cannot be read", "", nil)
		}
		return due, err
	}}},
	{name: "passes-over-it", found: "SweepDamaged", of: wrong{due: func(due []connectors.Due, err error) ([]connectors.Due, error) {
		for i := range due {
			due[i].Unreadable = nil
		}
		return due, err
	}}},
	{name: "is-content", found: "SweepDamaged", of: wrong{sweep: func(err error) error {
		if connectors.IsPermanent(err) {
			return nil
		}
		return err
	}}},
	{name: "tells-nobody", found: "SweepDamaged", of: wrong{job: func(j *connectors.SweepJob) { j.Journal = untold{j.Journal} }}},
	{name: "counts-again", found: "SweepDamaged", of: wrong{job: func(j *connectors.SweepJob) { j.Journal = forgetful{j.Journal} }}},
	{name: "takes-what-may-be-held", found: "SweepDamagedByAge", of: wrong{job: func(j *connectors.SweepJob) { j.Held = connectors.Holds{} }}},
	{name: "knows-no-end", found: "SweepMost", of: wrong{job: func(j *connectors.SweepJob) { j.Most = 0 }}},
}

func TestSuiteFindsDefects(t *testing.T) {
	t.Parallel()
	var list []connectortest.Defect
	for _, d := range defects {
		list = append(list, connectortest.Defect{Name: d.name, Found: d.found, Fresh: func(t *testing.T) connectortest.Backend {
			b := backend(t)
			open := b.Open
			b.Open = func(t *testing.T, sys *connectors.System, o connectors.Options, chunk int) connectors.Connector {
				w := d.of
				w.full = open(t, sys, o, chunk).(full)
				return &w
			}
			return b
		}})
	}
	connectortest.FindsDefects(t, list)
}
