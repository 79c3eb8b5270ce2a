package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// crowd fills the shop with people whose rows are drawn: carts of one owner, messages of one or two.
func crowd(rt *rapid.T, x *target) (people int) {
	people = rapid.IntRange(1, 5).Draw(rt, "people")
	who := rapid.IntRange(1, people)
	var sql strings.Builder
	sql.WriteString("DELETE FROM messages; DELETE FROM carts; DELETE FROM customers;")
	for i := 1; i <= people; i++ {
		fmt.Fprintf(&sql, "INSERT INTO customers VALUES (%d, 'p%d@example.com', 'P');", i, i)
	}
	for i := range rapid.IntRange(0, 8).Draw(rt, "carts") {
		fmt.Fprintf(&sql, "INSERT INTO carts VALUES (%d, %d, 'x');", 100+i, who.Draw(rt, "owner"))
	}
	for i := range rapid.IntRange(0, 8).Draw(rt, "messages") {
		to := fmt.Sprint(who.Draw(rt, "recipient"))
		if rapid.Bool().Draw(rt, "alone") {
			to = "NULL"
		}
		fmt.Fprintf(&sql, "INSERT INTO messages VALUES (%d, %d, %s, 'x');", 200+i, who.Draw(rt, "sender"), to)
	}
	x.exec(sql.String())
	return people
}

// Property 10: with transient faults, at any call and any number below the bound, every request ends as it should;
// with a permanent one it ends in needs_attention, never in completed, and a retry after the repair finishes it.
func TestEveryRequestEnds(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, shopSchema)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
	h.activate(shopMap)
	rapid.Check(t, func(rt *rapid.T) {
		people := crowd(rt, x)
		broken := rapid.SampledFrom([]string{"", "locate", "erase", "verify"}).Draw(rt, "broken for good")
		faults := rapid.SliceOfN(rapid.IntRange(1, 12), 0, 6).Draw(rt, "calls that fail")
		calls := 0
		h.hooks.before = func(_ context.Context, _, verb string, _ *connectors.Job) error {
			if verb == broken {
				return connectors.Permanent("broken", "it is broken", "repair it", nil)
			}
			if calls++; slices.Contains(faults, calls) {
				return errors.New("connection reset")
			}
			return nil
		}
		var ids []string
		for i := range rapid.IntRange(1, people).Draw(rt, "erased") {
			ids = append(ids, h.file(dsr.Erasure, fmt.Sprintf("p%d@example.com", i+1)).ID)
			if rapid.Bool().Draw(rt, "apart") {
				h.stepOnce()
			}
		}
		h.drain()
		for _, id := range ids {
			r := h.get(id)
			switch {
			case broken == "":
				h.wants(id, dsr.Completed)
			case r.State == dsr.NeedsAttention:
				require.Equal(rt, "broken", r.Reason)
				h.hooks.before = nil
				_, err := h.Retry(t.Context(), operator, id, r.Version)
				require.NoError(rt, err)
				h.drain()
				h.wants(id, dsr.Completed)
			default: // it had nothing for the broken verb to do
				require.Equal(rt, "erase", broken)
				h.wants(id, dsr.Completed)
			}
		}
		require.EqualValues(rt, people-len(ids), x.count("SELECT count(*) FROM customers"))
	})
}

// Property 19: every row that is gone or changed is counted in exactly one Receipt, however the work is cut, and
// whatever dies on the way.
func TestEveryRowIsCountedOnce(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, shopSchema)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
	h.activate(shopMap)
	rapid.Check(t, func(rt *rapid.T) {
		people := crowd(rt, x)
		before := map[string]int64{}
		for _, table := range []string{"customers", "carts", "messages"} {
			before[table] = x.count("SELECT count(*) FROM " + table)
		}
		deadly := rapid.IntRange(0, 12).Draw(rt, "dies at step")
		n := 0
		h.hooks.step = func(string, string) {
			if n++; n == deadly {
				die()
			}
		}
		var ids []string
		for i := range rapid.IntRange(1, people).Draw(rt, "erased") {
			ids = append(ids, h.file(dsr.Erasure, fmt.Sprintf("p%d@example.com", i+1)).ID)
			if rapid.Bool().Draw(rt, "apart") {
				h.stepDying()
			}
		}
		h.drainDying()
		counted := map[string]int64{}
		for _, id := range ids {
			h.wants(id, dsr.Completed)
			for k, n := range h.receipts(id) {
				counted[k] += n
			}
			es, err := h.Events(t.Context(), officer, id, 0, 0)
			require.NoError(rt, err)
			require.Equal(rt, "completed", es[len(es)-1].Type)
		}
		for table, n := range before {
			require.Equal(rt, n-x.count("SELECT count(*) FROM "+table), counted["shop."+table+".delete"], "%s: %v", table, counted)
		}
		require.Zero(rt, x.count("SELECT count(*) FROM messages WHERE sender_id <= ? OR recipient_id <= ?", len(ids), len(ids)))
	})
}
