package connectortest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/lethe-gdpr/lethe/connectors"
)

// ErrJournal is what a [Journal] fails with when a test told it to.
var ErrJournal = errors.New("the journal cannot be reached")

// Journal is a [connectors.Journal] in memory that counts steps and injects faults. What it holds survives a verb, as
// the control database does: give the same Journal to the call that resumes.
type Journal struct {
	mu         sync.Mutex
	checkpoint []byte
	tallies    []connectors.Tally
	spool      []spooled
	seen       map[string]bool
	steps      []string
	saves      int
	fenced     bool
	onSave     []func()
	atStep     func(n int, name string)
	beforeSave func(n int) error
	afterSave  func(n int) error
}

type spooled struct {
	subject, entity string
	keys            []connectors.Key
}

// NewJournal returns the empty journal of a new Run.
func NewJournal() *Journal { return &Journal{seen: map[string]bool{}} }

// Next returns the journal of the next Run of the same subjects: what was spooled is there, and nothing else.
func (j *Journal) Next() *Journal {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &Journal{spool: slices.Clone(j.spool), seen: maps.Clone(j.seen)}
}

// AtStep calls fn at every step with its number from 1 on and its name; nil calls nothing. fn may cancel the verb's
// context, or change the store as somebody else would.
func (j *Journal) AtStep(fn func(n int, name string)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.atStep = fn
}

// FailAt cancels the context at the nth time that a step is passed: with that the verb stops as a process does that is
// told to end. It returns the context to call the verb with.
func (j *Journal) FailAt(ctx context.Context, step string, n int) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	passed := 0
	j.AtStep(func(_ int, name string) {
		if name != step {
			return
		}
		if passed++; passed == n {
			cancel()
		}
	})
	context.AfterFunc(ctx, cancel)
	return ctx
}

// OnSave installs faults of Save by its number, from 1 on: before it is durable, and after, when only the answer is
// lost. Either may be nil.
func (j *Journal) OnSave(before, after func(n int) error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.beforeSave, j.afterSave = before, after
}

// Fence takes the Run away, as another worker's claim does.
func (j *Journal) Fence() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fenced = true
}

// Heal removes every fault, and what was counted of steps and saves.
func (j *Journal) Heal() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.atStep, j.beforeSave, j.afterSave, j.fenced = nil, nil, nil, false
	j.steps, j.saves = nil, 0
}

// Steps lists the steps that were passed, in order.
func (j *Journal) Steps() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.steps)
}

// Saves is how often Save was called.
func (j *Journal) Saves() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.saves
}

// Tallies are all that were saved.
func (j *Journal) Tallies() []connectors.Tally {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.tallies)
}

// Checkpoint is the one that was saved last.
func (j *Journal) Checkpoint() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.checkpoint)
}

// Spooled counts the keys that were spooled, by entity.
func (j *Journal) Spooled() map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := map[string]int{}
	for _, s := range j.spool {
		out[s.entity] += len(s.keys)
	}
	return out
}

func (j *Journal) check(ctx context.Context) error {
	if j.fenced {
		return connectors.ErrFenced
	}
	return ctx.Err()
}

// Load implements [connectors.Journal].
func (j *Journal) Load(ctx context.Context) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.check(ctx); err != nil {
		return nil, err
	}
	return slices.Clone(j.checkpoint), nil
}

// Save implements [connectors.Journal].
func (j *Journal) Save(ctx context.Context, checkpoint []byte, done []connectors.Tally) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.check(ctx); err != nil {
		return err
	}
	j.saves++
	if j.beforeSave != nil {
		if err := j.beforeSave(j.saves); err != nil {
			return err
		}
	}
	j.checkpoint = append([]byte{}, checkpoint...)
	j.tallies = append(j.tallies, done...)
	for _, fn := range j.onSave {
		fn()
	}
	if j.afterSave != nil {
		return j.afterSave(j.saves)
	}
	return nil
}

// Spool implements [connectors.Journal].
func (j *Journal) Spool(ctx context.Context, subject, entity string, keys []connectors.Key) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.check(ctx); err != nil {
		return err
	}
	var fresh []connectors.Key
	for _, k := range keys {
		id := subject + "\x00" + entity + "\x00" + string(k)
		if !j.seen[id] {
			j.seen[id] = true
			fresh = append(fresh, k)
		}
	}
	if len(fresh) > 0 {
		j.spool = append(j.spool, spooled{subject, entity, fresh})
	}
	return nil
}

// Each implements [connectors.Keys].
func (j *Journal) Each(ctx context.Context, entity string, fn func(subject string, keys []connectors.Key) error) error {
	j.mu.Lock()
	if err := j.check(ctx); err != nil {
		j.mu.Unlock()
		return err
	}
	pages := slices.Clone(j.spool)
	j.mu.Unlock()
	for _, p := range pages {
		if p.entity == entity {
			if err := fn(p.subject, slices.Clone(p.keys)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Step implements [connectors.Journal].
func (j *Journal) Step(name string) {
	j.mu.Lock()
	j.steps = append(j.steps, name)
	n, fn := len(j.steps), j.atStep
	j.mu.Unlock()
	if fn != nil {
		fn(n, name)
	}
}
