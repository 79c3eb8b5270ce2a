package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// Rules reach the rows of every tenant, so whoever works for one decides about none, and sees no figures of others.
func TestATenantsOwnOfficerDecidesAboutNoRule(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, `CREATE TABLE customers (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, email TEXT, at TIMESTAMP NOT NULL);
		CREATE INDEX customers_at ON customers (at); INSERT INTO customers VALUES (1, 'a', 'ada@example.com', '2020-01-01'), (2, 'b', 'bob@example.com', '2020-01-01')`)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
	h.activate(`
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
processor: {instruction: required}
tenants: {identifier: account}
identifiers:
  account: {kind: opaque}
  email: {kind: email}
deletion_classes:
  short: {period: P30D, from: collection}
systems:
  shop:
    connector: sqlite
    dsn: ${SHOP}
    entities:
      customers:
        subject: true
        tenant: tenant
        fields: {email: {identifier: email}}
        not_personal: [id, at]
        erase: delete
        retention: [{class: short, start: at, action: delete, cap: {rows: 1}}]
`)
	const name = "shop.customers.short"
	ctx := t.Context()
	bound := officer
	bound.Tenants = []string{"a"}
	s, err := h.Rule(ctx, bound, name)
	require.NoError(t, err)
	_, err = h.ApproveRule(ctx, bound, name, s.Hash)
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	h.approveRule(name)
	_, err = h.Sweep(ctx, bound, name, true)
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	stopped := h.sweepNow(name)
	h.drain()
	stopped = h.swept(stopped.ID, retention.SweepStopped)
	_, err = h.ApproveSweep(ctx, bound, stopped.ID, stopped.Version, 2)
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	s, err = h.Rule(ctx, bound, name)
	require.NoError(t, err)
	require.Equal(t, name, s.Rule.Name)
	require.Nil(t, s.State.Counted)
	require.Zero(t, s.State.Due)
	require.Nil(t, s.Last)
	_, err = h.Forecast(ctx, bound)
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	_, _, err = h.Sweeps(ctx, bound, engine.SweepFilter{})
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	_, err = h.GetSweep(ctx, bound, stopped.ID)
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	whole, err := h.Rule(ctx, officer, name)
	require.NoError(t, err)
	require.EqualValues(t, 2, whole.State.Due)
	require.NotNil(t, whole.Last)
	_, err = h.PauseRule(ctx, bound, name)
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	_, err = h.ResumeRule(ctx, bound, name)
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	_, err = h.StopSweeps(ctx, bound, "incident")
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	_, err = h.StartSweeps(ctx, bound)
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	_, err = h.Simulate(ctx, bound, []byte("version: 1"))
	require.ErrorIs(t, err, is(dsr.CodeForbidden))
	require.EqualValues(t, 2, x.count("SELECT count(*) FROM customers"))
}
