package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// shop opens a house over the shop on an embedded control database.
func shop(t *testing.T, configure func(*engine.Config)) (*house, *target) {
	t.Helper()
	x := sqliteTarget(t, shopSchema+shopRows)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, configure)
	h.activate(shopMap)
	return h, x
}

func auto(c *engine.Config) { c.Policy.AutoApprove = autoApprove }

func is(code dsr.Code) error { return &dsr.Error{Code: code} }

func TestFourEyes(t *testing.T) {
	t.Parallel()
	h, x := shop(t, nil)
	r, err := h.File(t.Context(), officer, engine.NewRequest{
		Kind: dsr.Erasure, Identifiers: email("ada@example.com"), Verified: true, Method: "letter",
	})
	require.NoError(t, err)
	h.drain()
	r = h.wants(r.ID, dsr.AwaitingReview)
	hash, _ := h.plan(r.ID)
	otherKey := dsr.Actor{ID: officer.ID, Roles: []string{dsr.RoleDPO, dsr.RoleOperator}}
	for _, a := range []dsr.Actor{officer, otherKey} {
		_, err = h.Approve(t.Context(), a, r.ID, r.Version, hash)
		require.ErrorIs(t, err, is(dsr.CodeFourEyes))
	}
	h.drain()
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))
	second := dsr.Actor{ID: "second", Roles: []string{dsr.RoleDPO}}
	_, err = h.Approve(t.Context(), second, r.ID, r.Version-1, hash)
	require.ErrorIs(t, err, is(dsr.CodeConflict))
	_, err = h.Approve(t.Context(), second, r.ID, r.Version, strings.Repeat("0", 64))
	require.ErrorIs(t, err, is(dsr.CodeHashMismatch))
	_, err = h.Approve(t.Context(), second, r.ID, r.Version, hash)
	require.NoError(t, err)
	h.drain()
	h.wants(r.ID, dsr.Completed)
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, auto)
	first := h.file(dsr.Erasure, "ada@example.com")
	n := engine.NewRequest{Kind: dsr.Erasure, Identifiers: email(" ADA@Example.com"), Verified: true}
	_, err := h.File(t.Context(), filer, n)
	require.ErrorIs(t, err, is(dsr.CodeDuplicate))
	require.NotContains(t, strings.ToLower(err.Error()), "ada@")
	n.Duplicate = true
	linked, err := h.File(t.Context(), filer, n)
	require.NoError(t, err)
	require.Equal(t, first.ID, linked.Duplicate)
	h.file(dsr.Access, "ada@example.com")
	h.drain()
	h.wants(first.ID, dsr.Completed)
	h.wants(linked.ID, dsr.Completed)
	h.file(dsr.Erasure, "ada@example.com") // the others have ended
}

func TestDuplicatesFiledAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		x := sqliteTarget(t, shopSchema+shopRows)
		h := open(t, url, map[string]string{"SHOP": x.url}, nil)
		h.activate(shopMap)
		errs := make(chan error, 8)
		for range cap(errs) {
			go func() {
				_, err := h.File(t.Context(), filer, engine.NewRequest{
					Kind: dsr.Erasure, Identifiers: email("ada@example.com"), Verified: true,
				})
				errs <- err
			}()
		}
		filed := 0
		for range cap(errs) {
			if err := <-errs; err == nil {
				filed++
			} else {
				require.ErrorIs(t, err, is(dsr.CodeDuplicate))
			}
		}
		require.Equal(t, 1, filed)
	})
}

func TestCapsHaltBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	t.Run("rows", func(t *testing.T) {
		t.Parallel()
		h, x := shop(t, auto)
		h.activate(strings.Replace(shopMap, "dsn: ${SHOP}", "dsn: ${SHOP}\n    limits: {rows_per_request: 2}", 1))
		r := h.file(dsr.Erasure, "ada@example.com")
		h.drain()
		require.Equal(t, "over-rows-per-request", h.wants(r.ID, dsr.NeedsAttention).Reason)
		require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))
		require.EqualValues(t, 3, x.count("SELECT count(*) FROM carts"))

		h.activate(shopMap) // a person raised the limit
		_, err := h.Retry(t.Context(), operator, r.ID, h.get(r.ID).Version)
		require.NoError(t, err)
		h.drain()
		h.wants(r.ID, dsr.Completed)
	})
	t.Run("share of a table", func(t *testing.T) {
		t.Parallel()
		h, x := shop(t, auto)
		for i := range 1500 {
			x.exec("INSERT INTO carts VALUES (?, ?, 'x')", 1000+i, 1+i%2)
		}
		h.activate(strings.Replace(shopMap, "dsn: ${SHOP}", "dsn: ${SHOP}\n    limits: {share_of_table: 5%}", 1))
		r := h.file(dsr.Erasure, "ada@example.com")
		h.drain()
		require.Equal(t, "over-share-of-table", h.wants(r.ID, dsr.NeedsAttention).Reason)
		require.EqualValues(t, 1503, x.count("SELECT count(*) FROM carts"))
	})
	t.Run("requests an hour", func(t *testing.T) {
		t.Parallel()
		h, x := shop(t, func(c *engine.Config) {
			auto(c)
			c.Policy.RequestsPerHour = map[dsr.Kind]int64{dsr.Erasure: 1}
		})
		a, b := h.file(dsr.Erasure, "ada@example.com"), h.file(dsr.Erasure, "bob@example.com")
		h.drain()
		for _, r := range []*dsr.Request{a, b} {
			require.Equal(t, "over-requests-per-hour", h.wants(r.ID, dsr.NeedsAttention).Reason)
		}
		require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))
		h.time.forward(2 * time.Hour)
		_, err := h.Retry(t.Context(), operator, a.ID, h.get(a.ID).Version)
		require.NoError(t, err)
		h.drain()
		h.wants(a.ID, dsr.Completed)
	})
}

func TestDriftAfterApproval(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ insert, code string }{
		"entity": {"INSERT INTO messages VALUES (30, 3, NULL, 'new')", "new:shop.messages.delete"},
		"count":  {"WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 250) INSERT INTO carts SELECT i, 3, 'x' FROM n", "count:shop.carts.delete"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, x := shop(t, nil)
			x.exec("DELETE FROM messages")
			x.exec("INSERT INTO carts VALUES (13, 3, 'x')")
			r, other := h.file(dsr.Erasure, "cy@example.com"), h.file(dsr.Erasure, "bob@example.com")
			h.drain()
			h.approve(r.ID)
			h.approve(other.ID)
			x.exec(c.insert)
			h.drain()
			h.wants(other.ID, dsr.Completed) // the others go on
			r = h.wants(r.ID, dsr.AwaitingReview)
			require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE id = 3"), "nothing of the one who drifted was changed")
			var codes string
			es, err := h.Events(t.Context(), officer, r.ID, 0, 0)
			require.NoError(t, err)
			for _, e := range es {
				if e.Type == "drifted" {
					codes = e.Detail["drift"]
				}
			}
			require.Equal(t, c.code, codes)
			h.approve(r.ID)
			h.drain()
			h.wants(r.ID, dsr.Completed)
			require.Zero(t, x.count("SELECT count(*) FROM customers WHERE id = 3"))
		})
	}
}

func TestDriftIsNeverApprovedByPolicy(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	x.exec("DELETE FROM messages")
	r := h.file(dsr.Erasure, "ada@example.com")
	for h.get(r.ID).State != dsr.Running {
		_, ok := h.stepOnce()
		require.True(t, ok)
	}
	x.exec("INSERT INTO messages VALUES (30, 1, NULL, 'new')")
	h.drain()
	h.wants(r.ID, dsr.AwaitingReview)
	h.approve(r.ID)
	h.drain()
	h.wants(r.ID, dsr.Completed)
}

func TestAmbiguityNeedsAttention(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	x.exec("INSERT INTO customers VALUES (4, 'ADA@EXAMPLE.COM', 'Another')")
	r, other := h.file(dsr.Erasure, "ada@example.com"), h.file(dsr.Erasure, "bob@example.com")
	h.drain()
	require.Equal(t, "ambiguous", h.wants(r.ID, dsr.NeedsAttention).Reason)
	h.wants(other.ID, dsr.Completed)
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))
}

func TestAFindingIgnoredNeedsAttention(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	x.exec("DROP TABLE carts")
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	r = h.wants(r.ID, dsr.NeedsAttention)
	require.True(t, strings.HasPrefix(r.Reason, "check-"), r.Reason)
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))

	x.exec("CREATE TABLE carts (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), content TEXT); CREATE INDEX carts_customer ON carts (customer_id)")
	_, err := h.Retry(t.Context(), operator, r.ID, r.Version)
	require.NoError(t, err)
	h.drain()
	h.wants(r.ID, dsr.Completed)
}

func TestIdentityWaitsAndPausesTheClock(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, auto)
	r, err := h.File(t.Context(), filer, engine.NewRequest{Kind: dsr.Erasure, Identifiers: email("ada@example.com")})
	require.NoError(t, err)
	h.drain()
	r = h.wants(r.ID, dsr.AwaitingIdentity)
	require.True(t, r.Clock.Paused())
	h.time.forward(14 * 24 * time.Hour)
	_, err = h.Resume(t.Context(), operator, r.ID, r.Version)
	require.ErrorIs(t, err, is(dsr.CodeWrongState))
	_, err = h.ConfirmIdentity(t.Context(), operator, r.ID, r.Version, "email-code")
	require.NoError(t, err)
	h.drain()
	r = h.wants(r.ID, dsr.Completed)
	require.Equal(t, "2026-04-02", r.Clock.DueUnpaused.Format(time.DateOnly))
	require.Equal(t, "2026-04-16", r.Clock.Due.Format(time.DateOnly))
}

func TestDecisionsOnStates(t *testing.T) {
	t.Parallel()
	h, x := shop(t, nil)
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	r = h.wants(r.ID, dsr.AwaitingReview)
	_, err := h.Retry(t.Context(), operator, r.ID, r.Version)
	require.ErrorIs(t, err, is(dsr.CodeWrongState))
	_, err = h.Refuse(t.Context(), officer, r.ID, r.Version, "Ada says no", "x")
	require.ErrorIs(t, err, is(dsr.CodeInvalid))
	r, err = h.Extend(t.Context(), officer, r.ID, r.Version, "complexity")
	require.NoError(t, err)
	require.Equal(t, "2026-06-02", r.Clock.Due.Format(time.DateOnly))
	_, err = h.Extend(t.Context(), officer, r.ID, r.Version, "complexity")
	require.ErrorIs(t, err, is(dsr.CodeWrongState))
	r, err = h.Pause(t.Context(), officer, r.ID, r.Version, "clarification")
	require.NoError(t, err)
	hash, _ := h.plan(r.ID)
	_, err = h.Approve(t.Context(), officer, r.ID, r.Version, hash)
	require.ErrorIs(t, err, is(dsr.CodeWrongState), "a paused request is not approved")
	r, err = h.Resume(t.Context(), officer, r.ID, r.Version)
	require.NoError(t, err)
	r, err = h.Refuse(t.Context(), officer, r.ID, r.Version, "12(5)(b)", "excessive")
	require.NoError(t, err)
	require.Equal(t, dsr.Refused, r.State)
	h.drain()
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))

	r = h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	h.approve(r.ID)
	r, err = h.Cancel(t.Context(), filer, r.ID, h.get(r.ID).Version)
	require.NoError(t, err, "no Run has claimed it yet")
	h.drain()
	h.wants(r.ID, dsr.Cancelled)
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))
}

func TestNeedToKnow(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, nil)
	r := h.file(dsr.Access, "ada@example.com")
	stranger := dsr.Actor{ID: "other-portal", Roles: []string{dsr.RolePortal}, System: true}
	_, err := h.Get(t.Context(), stranger, r.ID)
	require.ErrorIs(t, err, is(dsr.CodeNotFound))
	page, _, err := h.List(t.Context(), stranger, engine.Filter{})
	require.NoError(t, err)
	require.Empty(t, page)
	id := email("Ada@Example.com")[0]
	page, _, err = h.List(t.Context(), officer, engine.Filter{Identifier: &id})
	require.NoError(t, err)
	require.Len(t, page, 1)
	_, err = h.Reveal(t.Context(), dsr.Actor{ID: "a", Roles: []string{dsr.RoleAuditor}}, r.ID, "check")
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	ids, err := h.Reveal(t.Context(), officer, r.ID, "identity-check")
	require.NoError(t, err)
	require.Equal(t, "ada@example.com", ids[0].Value.Reveal())
}

func TestManualKinds(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, nil)
	for _, kind := range []dsr.Kind{dsr.Rectification, dsr.Restriction, dsr.Portability, dsr.Objection} {
		r := h.file(kind, "ada@example.com")
		h.drain()
		r = h.wants(r.ID, dsr.Manual)
		ts, err := h.Tasks(t.Context(), operator, r.ID)
		require.NoError(t, err)
		require.Len(t, ts, 1)
		_, err = h.CompleteTask(t.Context(), operator, r.ID, r.Version, ts[0].ID, 2)
		require.NoError(t, err)
		h.wants(r.ID, dsr.Completed)
	}
}

func TestProcessorWaitsForTheInstruction(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, `CREATE TABLE customers (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, email TEXT);
		INSERT INTO customers VALUES (1, 'a', 'ada@example.com'), (2, 'b', 'ada@example.com')`)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
	h.activate(`
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
processor: {instruction: required}
tenants: {identifier: account}
identifiers:
  account: {kind: opaque}
  email: {kind: email}
systems:
  shop:
    connector: sqlite
    dsn: ${SHOP}
    entities:
      customers:
        subject: true
        tenant: tenant
        fields: {email: {identifier: email}}
        not_personal: [id]
        erase: delete
`)
	n := engine.NewRequest{Kind: dsr.Erasure, Identifiers: email("ada@example.com"), Verified: true}
	_, err := h.File(t.Context(), filer, n)
	require.ErrorIs(t, err, is(dsr.CodeInvalid))
	n.Tenant = "a"
	bound := filer
	bound.Tenants = []string{"b"}
	_, err = h.File(t.Context(), bound, n)
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	r, err := h.File(t.Context(), filer, n)
	require.NoError(t, err)
	h.drain()
	r = h.wants(r.ID, dsr.AwaitingInstruction)
	_, err = h.Instruct(t.Context(), operator, r.ID, r.Version, "case-17")
	require.NoError(t, err)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers"))
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE tenant = 'b'"), "no statement crosses tenants")
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, nil)
	const canary = "canary-7f3a"
	for field, n := range map[string]engine.NewRequest{
		"kind":                 {Kind: canary, Identifiers: email("a@example.com")},
		"identifiers":          {Kind: dsr.Access},
		"identifiers[0].value": {Kind: dsr.Access, Identifiers: email(canary)},
		"identifiers[0].name":  {Kind: dsr.Access, Identifiers: []engine.RawIdentifier{{Name: canary, Value: dsr.NewSecret("x")}}},
		"ground":               {Kind: dsr.Erasure, Ground: canary, Identifiers: email("a@example.com")},
		"scope.systems[0]":     {Kind: dsr.Erasure, Scope: dsr.Scope{Systems: []string{canary}}, Identifiers: email("a@example.com")},
		"scope.purposes[0]":    {Kind: dsr.Erasure, Scope: dsr.Scope{Purposes: []string{canary}}, Identifiers: email("a@example.com")},
		"tenant":               {Kind: dsr.Erasure, Tenant: canary, Identifiers: email("a@example.com")},
		"received":             {Kind: dsr.Erasure, Received: h.time.Now().AddDate(0, 0, 3), Identifiers: email("a@example.com")},
	} {
		_, err := h.File(t.Context(), filer, n)
		var own *dsr.Error
		require.ErrorAs(t, err, &own, field)
		require.Equal(t, field, own.Field)
		require.NotContains(t, unwrapAll(err), canary, field)
	}
	page, _, err := h.List(t.Context(), officer, engine.Filter{})
	require.NoError(t, err)
	require.Empty(t, page)
}
