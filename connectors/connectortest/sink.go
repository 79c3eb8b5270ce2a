package connectortest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// ErrSink is what [Sinks] fail with when a test told them to.
var ErrSink = errors.New("the disk is full")

// Record is one exported record. Values are as they are compared.
type Record struct {
	Entity string
	Values map[string]any
}

// Sinks take the records of an export in memory. What was written since the journal's last Save is taken back by
// [Sinks.Rewind], as the engine does before it calls an interrupted Export again.
type Sinks struct {
	mu       sync.Mutex
	records  map[string][]Record
	saved    map[string]int
	names    map[string][]string
	withheld map[string]int64
	writes   int
	failAt   int
}

// NewSinks returns sinks that belong to a journal.
func NewSinks(j *Journal) *Sinks {
	s := &Sinks{records: map[string][]Record{}, saved: map[string]int{}, names: map[string][]string{}, withheld: map[string]int64{}}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.onSave = append(j.onSave, s.commit)
	return s
}

// FailAt makes the nth write from now on fail; 0 heals.
func (s *Sinks) FailAt(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes, s.failAt = 0, n
}

func (s *Sinks) commit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, list := range s.records {
		s.saved[ref] = len(list)
	}
}

// Rewind takes back what no Save covered.
func (s *Sinks) Rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, list := range s.records {
		s.records[ref] = list[:s.saved[ref]]
	}
}

// For implements [connectors.SinkFor].
func (s *Sinks) For(subject string) (connectors.Sink, error) { return &sink{s, subject}, nil }

// Records are those of one subject, in the order in which they were written.
func (s *Sinks) Records(subject string) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records[subject])
}

// Count is how many records all subjects have.
func (s *Sinks) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, list := range s.records {
		n += len(list)
	}
	return n
}

type sink struct {
	s       *Sinks
	subject string
}

func (k *sink) write() error {
	k.s.writes++
	if k.s.failAt > 0 && k.s.writes == k.s.failAt {
		return ErrSink
	}
	return nil
}

// Record implements [connectors.Sink].
func (k *sink) Record(entity string, names []string, values []any) error {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	if err := k.write(); err != nil {
		return err
	}
	if len(names) != len(values) {
		return fmt.Errorf("%s: %d names, %d values", entity, len(names), len(values))
	}
	id := k.subject + "\x00" + entity
	if known, ok := k.s.names[id]; ok && !slices.Equal(known, names) {
		return fmt.Errorf("%s: the names or their order changed between records", entity)
	}
	k.s.names[id] = slices.Clone(names)
	r := Record{Entity: entity, Values: map[string]any{}}
	for i, n := range names {
		r.Values[n] = values[i]
	}
	k.s.records[k.subject] = append(k.s.records[k.subject], r)
	return nil
}

// File implements [connectors.Sink].
func (k *sink) File(entity, name string, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return k.Record(entity, []string{"name", "content"}, []any{name, string(b)})
}

// Withheld implements [connectors.Sink].
func (k *sink) Withheld(entity string, count int64, _ dsr.Exception) error {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.withheld[entity] += count
	return nil
}
