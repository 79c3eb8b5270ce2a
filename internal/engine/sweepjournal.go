package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/retention"
)

// sweepJournal implements [connectors.Journal] for a Sweep. It spools nothing: a Sweep has no subject to search again.
type sweepJournal struct {
	e          *Engine
	sweep      *retention.Sweep
	sealer     *sealer
	checkpoint []byte
}

var _ connectors.Journal = (*sweepJournal)(nil)

func (e *Engine) sweepJournal(ctx context.Context, s *retention.Sweep) (*sweepJournal, error) {
	j := &sweepJournal{e: e, sweep: s}
	var err error
	j.sealer, j.checkpoint, err = e.openCheckpoint(ctx, s.ID, s.Checkpoint)
	return j, err
}

// Load implements [connectors.Journal].
func (j *sweepJournal) Load(context.Context) ([]byte, error) { return j.checkpoint, nil }

// Save implements [connectors.Journal]. What it was given is durable even when it returns [connectors.ErrYield]: that a
// Hold was placed, or a person stopped the Sweep, and that the next chunk must not begin in this slice. The next slice
// settles the intent of a chunk that never began like that of one that was killed: nothing of it is gone.
func (j *sweepJournal) Save(ctx context.Context, checkpoint []byte, done []connectors.Tally) error {
	sealed, err := j.sealer.seal(ctx, checkpoint)
	if err != nil {
		return err
	}
	var interrupted bool
	err = j.e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		interrupted, err = tx.SaveSweep(j.sweep.ID, j.sweep.Fence, j.e.now().Add(j.e.c.Policy.Lease), sealed, done)
		return err
	})
	if err != nil {
		return err
	}
	j.checkpoint = checkpoint
	if interrupted {
		return connectors.ErrYield
	}
	return nil
}

// Spool implements [connectors.Journal].
func (j *sweepJournal) Spool(context.Context, string, string, []connectors.Key) error {
	return errors.New("engine: a sweep has no subjects to spool keys of")
}

// Each implements [connectors.Keys].
func (j *sweepJournal) Each(context.Context, string, func(string, []connectors.Key) error) error {
	return nil
}

// Step implements [connectors.Journal].
func (j *sweepJournal) Step(name string) {
	if j.e.c.Step != nil {
		j.e.c.Step(j.sweep.ID, name)
	}
}

// An interruption takes effect within a second: a slice looks for one every lookEvery, and what the connector has not
// ended by itself yieldGrace after that is broken off.
const (
	lookEvery  = 250 * time.Millisecond
	yieldGrace = 500 * time.Millisecond
)

// watch looks, while a slice works, whether somebody has interrupted the Sweep or taken it over, and keeps its lease
// while nothing else does.
type watch struct {
	flag   atomic.Bool
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// watchSweep returns a context for the slice's work as well. It ends, with the cause [connectors.ErrYield], when the
// slice is interrupted and works on: what is broken off there goes on like what was killed.
func (e *Engine) watchSweep(ctx context.Context, s *retention.Sweep) (context.Context, *watch) {
	w := &watch{}
	work, breakOff := context.WithCancelCause(ctx)
	ctx, w.cancel = context.WithCancel(ctx)
	id, fence, version := s.ID, s.Fence, s.MapVersion
	w.done.Go(func() {
		defer breakOff(nil)
		every := time.NewTicker(lookEvery)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
			var interrupted bool
			err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
				interrupted, err = tx.BeatSweep(id, fence, e.now().Add(e.c.Policy.Lease))
				return err
			})
			if err == nil && !interrupted {
				cur, err := e.current(ctx)
				interrupted = err == nil && cur.version != version // the next slice sees whether the rule has changed
			}
			if !interrupted && !errors.Is(err, connectors.ErrFenced) || w.flag.Swap(true) {
				continue
			}
			grace := time.AfterFunc(yieldGrace, func() { breakOff(connectors.ErrYield) })
			defer grace.Stop()
		}
	})
	return work, w
}

// interrupted is [connectors.Pace.Stop].
func (w *watch) interrupted() bool { return w.flag.Load() }

func (w *watch) stop() {
	w.cancel()
	w.done.Wait()
}
