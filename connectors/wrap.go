package connectors

import (
	"context"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Around is called instead of a verb and calls it through call, as often as it sees fit.
type Around func(ctx context.Context, verb string, call func(context.Context) error) error

// Wrap returns c with every verb run through around. Capabilities are preserved exactly: what c cannot do, the wrapped
// connector cannot do either.
func Wrap(c Connector, around Around) Connector {
	w := wrapped{c, around}
	ex, er, sw, gr := wrappedExporter{w}, wrappedEraser{w}, wrappedSweeper{w}, wrappedGranter{w}
	switch CapabilitiesOf(c) {
	case Capabilities{Export: true, Erase: true, Sweep: true, Grants: true}:
		return struct {
			wrapped
			wrappedExporter
			wrappedEraser
			wrappedSweeper
			wrappedGranter
		}{w, ex, er, sw, gr}
	case Capabilities{Export: true, Erase: true, Sweep: true}:
		return struct {
			wrapped
			wrappedExporter
			wrappedEraser
			wrappedSweeper
		}{w, ex, er, sw}
	case Capabilities{Export: true, Erase: true, Grants: true}:
		return struct {
			wrapped
			wrappedExporter
			wrappedEraser
			wrappedGranter
		}{w, ex, er, gr}
	case Capabilities{Export: true, Erase: true}:
		return struct {
			wrapped
			wrappedExporter
			wrappedEraser
		}{w, ex, er}
	case Capabilities{Export: true, Sweep: true, Grants: true}:
		return struct {
			wrapped
			wrappedExporter
			wrappedSweeper
			wrappedGranter
		}{w, ex, sw, gr}
	case Capabilities{Export: true, Sweep: true}:
		return struct {
			wrapped
			wrappedExporter
			wrappedSweeper
		}{w, ex, sw}
	case Capabilities{Export: true, Grants: true}:
		return struct {
			wrapped
			wrappedExporter
			wrappedGranter
		}{w, ex, gr}
	case Capabilities{Export: true}:
		return struct {
			wrapped
			wrappedExporter
		}{w, ex}
	case Capabilities{Erase: true, Sweep: true, Grants: true}:
		return struct {
			wrapped
			wrappedEraser
			wrappedSweeper
			wrappedGranter
		}{w, er, sw, gr}
	case Capabilities{Erase: true, Sweep: true}:
		return struct {
			wrapped
			wrappedEraser
			wrappedSweeper
		}{w, er, sw}
	case Capabilities{Erase: true, Grants: true}:
		return struct {
			wrapped
			wrappedEraser
			wrappedGranter
		}{w, er, gr}
	case Capabilities{Erase: true}:
		return struct {
			wrapped
			wrappedEraser
		}{w, er}
	case Capabilities{Sweep: true, Grants: true}:
		return struct {
			wrapped
			wrappedSweeper
			wrappedGranter
		}{w, sw, gr}
	case Capabilities{Sweep: true}:
		return struct {
			wrapped
			wrappedSweeper
		}{w, sw}
	case Capabilities{Grants: true}:
		return struct {
			wrapped
			wrappedGranter
		}{w, gr}
	}
	return w
}

type wrapped struct {
	inner  Connector
	around Around
}

func (w wrapped) Describe(ctx context.Context) (s Schema, err error) {
	err = w.around(ctx, "describe", func(ctx context.Context) (err error) { s, err = w.inner.Describe(ctx); return err })
	return s, err
}

func (w wrapped) Check(ctx context.Context) (fs []Finding, err error) {
	err = w.around(ctx, "check", func(ctx context.Context) (err error) { fs, err = w.inner.Check(ctx); return err })
	return fs, err
}

func (w wrapped) Locate(ctx context.Context, q Query) (l Located, err error) {
	err = w.around(ctx, "locate", func(ctx context.Context) (err error) { l, err = w.inner.Locate(ctx, q); return err })
	return l, err
}

func (w wrapped) Verify(ctx context.Context, s Search) (rs []dsr.Residue, err error) {
	err = w.around(ctx, "verify", func(ctx context.Context) (err error) { rs, err = w.inner.Verify(ctx, s); return err })
	return rs, err
}

func (w wrapped) Close() error { return w.inner.Close() }

// The fields are named so that embedding them beside wrapped makes no verb ambiguous.
type (
	wrappedExporter struct{ exporter wrapped }
	wrappedEraser   struct{ eraser wrapped }
	wrappedSweeper  struct{ sweeper wrapped }
	wrappedGranter  struct{ granter wrapped }
)

func (w wrappedExporter) Export(ctx context.Context, j Job, sinks SinkFor) error {
	return w.exporter.around(ctx, "export", func(ctx context.Context) error {
		return w.exporter.inner.(Exporter).Export(ctx, j, sinks)
	})
}

func (w wrappedEraser) Erase(ctx context.Context, j Job) error {
	return w.eraser.around(ctx, "erase", func(ctx context.Context) error { return w.eraser.inner.(Eraser).Erase(ctx, j) })
}

func (w wrappedSweeper) Due(ctx context.Context, q DueQuery) (due []Due, err error) {
	err = w.sweeper.around(ctx, "due", func(ctx context.Context) (err error) {
		due, err = w.sweeper.inner.(Sweeper).Due(ctx, q)
		return err
	})
	return due, err
}

func (w wrappedSweeper) Sweep(ctx context.Context, j SweepJob) (m SweepMeasures, err error) {
	err = w.sweeper.around(ctx, "sweep", func(ctx context.Context) (err error) {
		m, err = w.sweeper.inner.(Sweeper).Sweep(ctx, j)
		return err
	})
	return m, err
}

// Heed implements [Heeder] for every Sweeper; one that has no settings of its own has nothing to lift.
func (w wrappedSweeper) Heed(ctx context.Context, j HeedJob) (h Heeded, err error) {
	inner, ok := w.sweeper.inner.(Heeder)
	if !ok {
		return h, nil
	}
	err = w.sweeper.around(ctx, "heed", func(ctx context.Context) (err error) { h, err = inner.Heed(ctx, j); return err })
	return h, err
}

func (w wrappedGranter) Grants(ctx context.Context, principal string) (text string, err error) {
	err = w.granter.around(ctx, "grants", func(ctx context.Context) (err error) {
		text, err = w.granter.inner.(Granter).Grants(ctx, principal)
		return err
	})
	return text, err
}
