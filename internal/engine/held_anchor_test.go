package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// anchorMap is the shop's with kept invoices, for whose sake a customer is anchored. A customer is known by the address
// alone: when that is masked nothing in the row tells whose it was.
var anchorMap = strings.NewReplacer(
	"          id: {identifier: user_id}\n", "",
	"          name: {category: user.name}\n        erase: delete", "          name: {category: user.name}\n        erase: delete\n"+
		"        anchor: {email: random, name: \"Former customer\"}",
).Replace(shopMap) + keptInvoices

const anchorRows = `
CREATE TABLE invoices (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), note TEXT, total INTEGER);
CREATE INDEX invoices_customer ON invoices (customer_id);
INSERT INTO invoices VALUES (30, 1, 'call Ada', 100);
`

// What a hold kept of a subject goes when the hold is lifted, though by then the address by which the subject was found
// stands nowhere any more.
func TestWhatWasHeldOfAnAnchoredSubjectGoesInTheEnd(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(h *house) *dsr.Hold{
		"of somebody else": func(h *house) *dsr.Hold { return h.hold("bob@example.com", false) },
		"of rows": func(h *house) *dsr.Hold {
			held, err := h.PlaceHold(h.t.Context(), officer, engine.NewHold{
				System: "shop", Entity: "messages", When: []dsr.Condition{{Field: "body", Values: []string{"hello", "note to self"}}},
				Reference: "T-1", Review: h.time.Now().AddDate(0, 6, 0),
			})
			require.NoError(h.t, err)
			return held
		},
		"of children": func(h *house) *dsr.Hold {
			held, err := h.PlaceHold(h.t.Context(), officer, engine.NewHold{
				System: "shop", Entity: "carts", When: []dsr.Condition{{Field: "content", Values: []string{"tea"}}},
				Reference: "T-1", Review: h.time.Now().AddDate(0, 6, 0),
			})
			require.NoError(h.t, err)
			return held
		},
		"of invoices": func(h *house) *dsr.Hold {
			held, err := h.PlaceHold(h.t.Context(), officer, engine.NewHold{
				System: "shop", Entity: "invoices", Reference: "T-1", Review: h.time.Now().AddDate(0, 6, 0),
			})
			require.NoError(h.t, err)
			return held
		},
	} {
		for _, during := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, during %v", name, during), func(t *testing.T) {
				t.Parallel()
				x := sqliteTarget(t, shopSchema+shopRows+anchorRows)
				h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
				h.activate(anchorMap)
				var held *dsr.Hold
				if during { // while the erasure works; its slice ends, and the next one knows
					h.hooks.step = func(_, step string) {
						if held == nil && step == sqldb.StepSpooled {
							h.hooks.step = nil
							held = place(h)
						}
					}
				} else {
					held = place(h)
				}
				r := h.file(dsr.Erasure, "ada@example.com")
				h.drain()
				h.lift(held)
				h.drain()
				h.deferredTick()
				h.drain()
				h.wants(r.ID, dsr.CompletedWithExceptions)
				require.Zero(t, x.count("SELECT count(*) FROM messages WHERE sender_id = 1 OR recipient_id = 1"))
				require.Zero(t, x.count("SELECT count(*) FROM carts WHERE customer_id = 1"))
				require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE id = 1 AND name = 'Former customer' AND email LIKE '%.invalid'"))
				require.EqualValues(t, 1, x.count("SELECT count(*) FROM invoices WHERE note = '[redacted]'"))
			})
		}
	}
}
