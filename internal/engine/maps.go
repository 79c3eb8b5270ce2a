package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
)

// atlas is one version of the data map, ready to work with. It is immutable.
type atlas struct {
	*datamap.Map
	version  int
	hash     string
	stored   *StoredMap
	calendar dsr.Calendar
}

// parse reads a stored map under today's environment.
func (e *Engine) parse(stored *StoredMap) (*atlas, error) {
	m, err := datamap.Load(stored.YAML, e.c.Getenv, e.c.Kinds)
	if err != nil {
		return nil, &dsr.Error{Code: dsr.CodeInvalid, Field: "map", Msg: "the data map is not valid", Hint: "run `lethe check`", Err: err}
	}
	a := &atlas{Map: m, version: stored.Version, hash: datamap.Hash(stored.YAML), stored: stored, calendar: weekends{}}
	if e.c.Calendar != nil {
		if a.calendar, err = e.c.Calendar(m.Controller.Country); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// MapFaults are what is wrong with a data map, each with its line and column, when err is because one is not valid.
func MapFaults(err error) []string {
	var faults datamap.Faults
	if !errors.As(err, &faults) {
		return nil
	}
	out := make([]string, len(faults))
	for i, f := range faults {
		out[i] = f.Error()
	}
	return out
}

// weekends is the calendar of a state whose public holidays are not known.
type weekends struct{}

func (weekends) Workday(day time.Time) bool {
	return day.Weekday() != time.Saturday && day.Weekday() != time.Sunday
}

// teachers are the names of the Systems that teach identifiers. They are asked whatever a Request's scope is, because
// what they teach may be the only way to a System that is in it.
func (m *atlas) teachers() []string {
	var names []string
	for _, s := range m.Systems {
		if slices.ContainsFunc(s.Entities, func(e connectors.Entity) bool { return e.Teaches }) {
			names = append(names, s.Name)
		}
	}
	return names
}

func (m *atlas) systemNames() []string {
	names := make([]string, len(m.Systems))
	for i, s := range m.Systems {
		names[i] = s.Name
	}
	return names
}

func (m *atlas) hasPurpose(p string) bool {
	return slices.ContainsFunc(m.Systems, func(s *connectors.System) bool {
		return slices.ContainsFunc(s.Entities, func(e connectors.Entity) bool { return slices.Contains(e.Purposes, p) })
	})
}

// inScope reports whether a Request reaches a System: by name, and by purpose when it is limited to purposes.
func inScope(r *dsr.Request, s *connectors.System) bool {
	if len(r.Scope.Systems) > 0 && !slices.Contains(r.Scope.Systems, s.Name) {
		return false
	}
	return len(r.Scope.Purposes) == 0 || len(scopedEntities(r, s)) > 0
}

// scopedEntities are the entities that a Request limited to purposes reaches; nil is all of them.
func scopedEntities(r *dsr.Request, s *connectors.System) map[string]bool {
	if len(r.Scope.Purposes) == 0 {
		return nil
	}
	in := map[string]bool{}
	for i := range s.Entities {
		if slices.ContainsFunc(s.Entities[i].Purposes, func(p string) bool { return slices.Contains(r.Scope.Purposes, p) }) {
			in[s.Entities[i].Name] = true
		}
	}
	return in
}

// atlases keeps parsed versions of the data map; old ones stay while Tasks run under them.
type atlases struct {
	mu      sync.Mutex
	byNo    map[int]*atlas
	current *atlas
	asked   time.Time // when the store was asked which is the newest
}

// atlas returns one version of the data map. A version that cannot be read under today's environment is a permanent
// fault of the Tasks that need it.
func (e *Engine) atlas(ctx context.Context, version int) (*atlas, error) {
	e.maps.mu.Lock()
	m := e.maps.byNo[version]
	e.maps.mu.Unlock()
	if m != nil {
		return m, nil
	}
	var stored *StoredMap
	err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		stored, err = tx.Map(version)
		return err
	})
	if err != nil {
		return nil, err
	}
	return e.remember(stored, false)
}

// current returns the newest version of the data map. Another process may have activated one since, so the store is
// asked for it, at most once a second.
func (e *Engine) current(ctx context.Context) (*atlas, error) {
	e.maps.mu.Lock()
	m, asked := e.maps.current, e.maps.asked
	e.maps.mu.Unlock()
	now := e.now()
	if m != nil && now.Sub(asked) < time.Second && !now.Before(asked) {
		return m, nil
	}
	var stored *StoredMap
	err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		stored, err = tx.LatestMap()
		return err
	})
	if err != nil {
		if dsr.CodeOf(err) == dsr.CodeNotFound {
			return nil, &dsr.Error{Code: dsr.CodeUnavailable, Msg: "there is no data map yet", Hint: "give lethe a lethe.yaml; `lethe init` drafts one"}
		}
		return nil, err
	}
	e.maps.mu.Lock()
	e.maps.asked = now
	e.maps.mu.Unlock()
	if m != nil && m.version == stored.Version {
		return m, nil
	}
	return e.remember(stored, true)
}

func (e *Engine) remember(stored *StoredMap, current bool) (*atlas, error) {
	m, err := e.parse(stored)
	if err != nil {
		return nil, err
	}
	e.maps.mu.Lock()
	defer e.maps.mu.Unlock()
	if known := e.maps.byNo[m.version]; known != nil {
		m = known
	} else {
		e.maps.byNo[m.version] = m
	}
	if current {
		e.maps.current = m
	}
	return m, nil
}
