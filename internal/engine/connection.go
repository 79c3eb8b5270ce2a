package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// connection is an open connector of one System under one version of the data map.
type connection struct {
	system    *connectors.System
	connector connectors.Connector

	uses    int
	touched time.Time

	checking sync.Mutex
	checked  time.Time
	findings []connectors.Finding
}

type connectionKey struct {
	version int
	system  string
}

// connections caches open connectors by map version and System. One that nobody has used for a while and that is not
// of the current version is closed.
type connections struct {
	mu     sync.Mutex
	open   map[connectionKey]*connection
	closed bool
}

// idleConnection is how long a connector of an old map version stays open unused.
const idleConnection = 10 * time.Minute

// connect lends a connector; call release when done. An unknown System or connector is a permanent fault.
func (e *Engine) connect(ctx context.Context, m *atlas, system string) (c *connection, release func(), err error) {
	s := m.System(system)
	if s == nil {
		return nil, nil, connectors.Permanent("unknown-system", "the data map of this request has no such system",
			"retry the request; it is planned again under the newest map", nil)
	}
	key := connectionKey{m.version, system}
	e.conns.mu.Lock()
	defer e.conns.mu.Unlock()
	if e.conns.closed {
		return nil, nil, &dsr.Error{Code: dsr.CodeUnavailable, Msg: "Lethe is stopping"}
	}
	c = e.conns.open[key]
	if c == nil {
		if c, err = e.openSystem(ctx, s); err != nil {
			return nil, nil, err
		}
		e.conns.open[key] = c
	}
	c.uses++
	c.touched = e.now()
	return c, func() {
		e.conns.mu.Lock()
		c.uses--
		c.touched = e.now()
		e.conns.mu.Unlock()
	}, nil
}

// openSystem opens a connector that nobody else uses.
func (e *Engine) openSystem(ctx context.Context, s *connectors.System) (*connection, error) {
	kind, ok := e.kinds[s.Connector]
	if !ok {
		return nil, connectors.Permanent("unknown-connector", "no connector "+s.Connector+" is built in", "", nil)
	}
	opened, err := kind.Open(ctx, s, connectors.Options{Pseudonyms: e.c.Pseudonyms, Now: e.now, Pace: e.c.Policy.Retention.Pace})
	if err != nil {
		return nil, err
	}
	if e.c.Decorate != nil {
		opened = e.c.Decorate(s, opened)
	}
	return &connection{system: s, connector: opened}, nil
}

// prune closes connectors that are idle and not of the current map.
func (e *Engine) prune(current int) {
	e.conns.mu.Lock()
	var idle []*connection
	for key, c := range e.conns.open {
		if c.uses == 0 && key.version != current && e.now().Sub(c.touched) > idleConnection {
			idle = append(idle, c)
			delete(e.conns.open, key)
		}
	}
	e.conns.mu.Unlock()
	for _, c := range idle {
		_ = c.connector.Close()
	}
}

// Close closes every connector. Call it when no work runs any more.
func (e *Engine) Close() error {
	e.conns.mu.Lock()
	open := e.conns.open
	e.conns.open, e.conns.closed = nil, true
	e.conns.mu.Unlock()
	var first error
	for _, c := range open {
		if err := c.connector.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// check returns what the System's Check found, at most ttl old. What stops work is always looked at again: it may have
// been mended since.
func (c *connection) check(ctx context.Context, now func() time.Time, ttl time.Duration) ([]connectors.Finding, time.Time, error) {
	c.checking.Lock()
	defer c.checking.Unlock()
	stops := func(f connectors.Finding) bool { return f.Severity == connectors.Error }
	if at := now(); !c.checked.IsZero() && at.Sub(c.checked).Abs() < ttl && !slices.ContainsFunc(c.findings, stops) {
		return c.findings, c.checked, nil
	}
	found, err := c.connector.Check(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	c.findings, c.checked = found, now()
	return found, c.checked, nil
}

// sound is check for work: an Error among the findings is a permanent fault that names the first one and the codes of
// the others, so that whoever reads it sees all that has to be settled. Findings about a deletion rule stop that rule's
// Sweeps alone; rule is empty for the work of Requests. Findings name tables and columns, never values.
func (e *Engine) sound(ctx context.Context, c *connection, rule string) error {
	found, _, err := c.check(ctx, e.now, e.c.Policy.FindingsTTL)
	if err != nil {
		return err
	}
	var first *connectors.Finding
	var others []string
	for i, f := range found {
		switch {
		case f.Severity != connectors.Error, f.Rule != "" && f.Rule != rule:
		case first == nil:
			first = &found[i]
		case !slices.Contains(others, f.Code):
			others = append(others, f.Code)
		}
	}
	if first == nil {
		return nil
	}
	at, hint := first.Entity, first.Hint
	if first.Field != "" {
		at += "." + first.Field
	}
	if at != "" { // settings are the whole System's
		at += ": "
	}
	if len(others) > 0 {
		hint += " There is more to settle (" + strings.Join(others, ", ") + "); `lethe check` lists it."
	}
	return connectors.Permanent(dsr.Code("check-"+first.Code), at+first.Message, hint, nil)
}
