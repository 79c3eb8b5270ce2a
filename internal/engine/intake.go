package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/lethe-gdpr/lethe/dsr"
)

// maxIdentifiers bounds what one Request may name.
const maxIdentifiers = 50

// newID returns a sortable id with a prefix: "req_", "task_", "run_".
func (e *Engine) newID(prefix string) string {
	return prefix + ulid.MustNew(ulid.Timestamp(e.now()), rand.Reader).String()
}

// File takes a Request in: it validates and normalises, encrypts the identifiers under a data key of the Request's
// own, commits to them, refuses or links a duplicate, computes the deadline and starts the flow.
func (e *Engine) File(ctx context.Context, a dsr.Actor, n NewRequest) (*dsr.Request, error) {
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := e.validate(a, m, &n)
	if err != nil {
		return nil, err
	}
	now := e.now()
	if n.Received.IsZero() {
		n.Received = now
	}
	r := &dsr.Request{
		ID: e.newID("req_"), Kind: n.Kind, Tenant: n.Tenant, Scope: n.Scope, FiledBy: a.ID, Ground: n.Ground,
		MapVersion: m.version, Clock: dsr.StartClock(n.Received, m.Controller.Zone, m.calendar), CreatedAt: now, UpdatedAt: now,
	}
	wrapped, key, err := e.c.Cipher.NewDataKey(ctx)
	if err != nil {
		return nil, err
	}
	sealed, err := e.seal(r.ID, r.Tenant, key, ids)
	if err != nil {
		return nil, err
	}
	r.Subject = sealed[0].Commitment
	candidates, err := e.candidates(r.Tenant, ids)
	if err != nil {
		return nil, err
	}
	filed := detail{"identifiers": count(int64(len(ids)))}
	if n.Language != "" {
		filed["language"] = n.Language
	}
	var out *dsr.Request
	err = e.change(ctx, a, func(c *changes) error {
		fresh, filed := *r, maps.Clone(filed)
		if err := c.tx.LockSubjects(candidates...); err != nil {
			return err
		}
		open, err := c.tx.OpenRequests(r.Kind, r.Tenant, candidates)
		if err != nil {
			return err
		}
		if len(open) > 0 {
			if !n.Duplicate {
				return duplicate(c.tx, a, open[0])
			}
			fresh.Duplicate = open[0]
			filed["duplicate"] = open[0]
		}
		switch {
		case m.Instruction:
			fresh.State = dsr.AwaitingInstruction
		case !n.Verified:
			fresh.State = dsr.AwaitingIdentity
			fresh.Clock.Pause(now, pauseIdentity, m.calendar)
		default:
			fresh.State = dsr.Discovering
		}
		c.learned = sealed
		c.filed(&fresh, wrapped, filed)
		if n.Verified {
			c.note(&fresh, "identity.verified", detail{"method": code(n.Method)})
		}
		if fresh.State == dsr.Discovering {
			c.begin(&fresh, m, nil, "started")
		}
		out = &fresh
		if fresh.Kind == dsr.Restriction && fresh.State == dsr.Manual {
			return c.restrict(ctx, &fresh, ids)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// validate checks what was given and returns the normalised identifiers, without repeats.
func (e *Engine) validate(a dsr.Actor, m *atlas, n *NewRequest) ([]dsr.Identifier, error) {
	if !slices.Contains(dsr.Kinds(), n.Kind) {
		return nil, invalid("kind", "is not a kind of request", fmt.Sprintf("one of %v", dsr.Kinds()))
	}
	if n.Ground != "" && (n.Kind != dsr.Erasure || len(n.Ground) != 1 || n.Ground < "a" || n.Ground > "f") {
		return nil, invalid("ground", "is not a ground of Art. 17(1)", "a to f, for erasure requests only")
	}
	if err := e.validateTenant(a, m, n.Tenant); err != nil {
		return nil, err
	}
	for i, s := range n.Scope.Systems {
		if m.System(s) == nil {
			return nil, invalid("scope.systems["+strconv.Itoa(i)+"]", "is not a system of the data map", "GET /v1/systems (lethe system list) lists them")
		}
	}
	for i, p := range n.Scope.Purposes {
		if !m.hasPurpose(p) {
			return nil, invalid("scope.purposes["+strconv.Itoa(i)+"]", "is not a purpose of the data map", "")
		}
	}
	if len(n.Scope.Systems)+len(n.Scope.Purposes) > 0 &&
		!slices.ContainsFunc(m.systemNames(), func(s string) bool { return inScope(&dsr.Request{Scope: n.Scope}, m.System(s)) }) {
		return nil, invalid("scope", "reaches no system", "name systems that hold data for one of the purposes")
	}
	now := e.now()
	if n.Received.After(now.Add(24 * time.Hour)) {
		return nil, invalid("received", "is in the future", "the day on which the request arrived")
	}
	if !n.Received.IsZero() && n.Received.Before(now.AddDate(-2, 0, 0)) {
		return nil, invalid("received", "is more than two years ago", "the day on which the request arrived")
	}
	if len(n.Method) > 64 || len(n.Language) > 35 {
		return nil, invalid("language", "is too long", "a BCP 47 tag such as sv or de-AT")
	}
	return e.normaliseAll(m, n.Identifiers)
}

func (e *Engine) validateTenant(a dsr.Actor, m *atlas, tenant string) error {
	switch {
	case m.Tenants == "" && tenant != "":
		return invalid("tenant", "is given, but the data map has no tenants", "leave it out")
	case m.Tenants != "" && tenant == "":
		return invalid("tenant", "is missing", "name the controller on whose behalf the data is held")
	case len(tenant) > 200:
		return invalid("tenant", "is too long", "")
	case m.Tenants != "" && !a.MayReach(tenant):
		return &dsr.Error{Code: dsr.CodeForbidden, Field: "tenant", Msg: "is not one that you act for"}
	}
	return nil
}

func (e *Engine) normaliseAll(m *atlas, raw []RawIdentifier) ([]dsr.Identifier, error) {
	if len(raw) == 0 {
		return nil, invalid("identifiers", "is empty", "give at least one identifier of the subject")
	}
	if len(raw) > maxIdentifiers {
		return nil, invalid("identifiers", "has more than "+strconv.Itoa(maxIdentifiers)+" entries", "")
	}
	var ids []dsr.Identifier
	for i, in := range raw {
		field := "identifiers[" + strconv.Itoa(i) + "]"
		if _, ok := m.Identifiers[in.Name]; !ok || in.Name == m.Tenants {
			return nil, invalid(field+".name", "is not an identifier of the data map", "see the section `identifiers` of lethe.yaml")
		}
		id, err := e.normalise(m, in.Name, in.Value)
		if err != nil {
			return nil, invalid(field+".value", "is not a valid "+string(m.Identifiers[in.Name]), "")
		}
		id.Origin = dsr.Known
		if !slices.ContainsFunc(ids, func(o dsr.Identifier) bool { return o.Name == id.Name && o.Value == id.Value }) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// candidates are the identifiers' commitments under every live key.
func (e *Engine) candidates(tenant string, ids []dsr.Identifier) ([]string, error) {
	var all []string
	for _, id := range ids {
		cs, err := e.c.Committer.Candidates(tenant, id.Name, id.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, cs...)
	}
	return all, nil
}

func invalid(field, msg, hint string) error {
	return &dsr.Error{Code: dsr.CodeInvalid, Field: field, Msg: msg, Hint: hint}
}

// code keeps a caller's word only when it looks like a stable code, so that a free text with a person in it cannot
// reach the timeline.
func code(s string) string {
	if s == "" || len(s) > 64 {
		return "other"
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return "other"
		}
	}
	return s
}

// duplicate refuses a second Request of one subject. It names the first one only to whoever may see it.
func duplicate(tx Tx, a dsr.Actor, id string) error {
	first, err := tx.Request(id)
	if err != nil {
		return err
	}
	msg := "an open request of this kind for this subject exists"
	if visible(a, first) {
		msg += ": " + id
	}
	return &dsr.Error{
		Code: dsr.CodeDuplicate, Field: "identifiers", Msg: msg,
		Hint: "follow that request, or file this one as a duplicate of it",
	}
}
