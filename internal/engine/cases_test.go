package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// What one system teaches is searched for in the others, in rounds.
func TestIdentifiersLearnedAcrossSystems(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	c := crm(t)
	devices := sqliteTarget(t, `CREATE TABLE devices (id TEXT PRIMARY KEY, contact_id TEXT);
		CREATE INDEX devices_contact ON devices (contact_id);
		INSERT INTO devices VALUES ('d-1', 'c-1'), ('d-2', 'c-2')`)
	c.exec("ALTER TABLE contacts ADD COLUMN code TEXT; UPDATE contacts SET code = 'c-' || id")
	h.env["CRM"], h.env["DEVICES"] = c.url, devices.url
	h.activate(strings.Replace(shopMap, "user_id: {kind: opaque}", "user_id: {kind: opaque}\n  code: {kind: opaque}", 1) + `
  crm:
    connector: sqlite
    dsn: ${CRM}
    entities:
      contacts:
        subject: true
        teaches: true
        fields:
          user_id: {identifier: user_id}
          code: {identifier: code}
          note: {category: user.content}
        not_personal: [id]
        erase: delete
  devices:
    connector: sqlite
    dsn: ${DEVICES}
    entities:
      devices:
        subject: true
        fields: {contact_id: {identifier: code}}
        not_personal: [id]
        erase: delete
`)
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	r = h.wants(r.ID, dsr.Completed)
	require.Zero(t, x.count("SELECT count(*) FROM customers WHERE id = 1"))
	require.EqualValues(t, 1, c.count("SELECT count(*) FROM contacts"))
	require.EqualValues(t, 1, devices.count("SELECT count(*) FROM devices"))
	var rounds int
	es, err := h.Events(t.Context(), officer, r.ID, 0, 0)
	require.NoError(t, err)
	for _, e := range es {
		if e.Type == "learned" {
			rounds++
		}
	}
	require.GreaterOrEqual(t, rounds, 2)
}

const keptInvoices = `
      invoices:
        owned_by: {customer_id: customers}
        fields: {note: {category: user.content}}
        not_personal: [total]
        keep: {article: "17(3)(b)", statute: "Bokföringslag 7:2", class: accounting}
        mask: {note: redact}
deletion_classes:
  accounting: {period: P7Y, from: end_of_calendar_year}
`

func TestWhatMustStayIsNamedWithItsEnd(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	x.exec(`CREATE TABLE invoices (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), total INTEGER, note TEXT);
		CREATE INDEX invoices_customer ON invoices (customer_id);
		INSERT INTO invoices VALUES (1, 1, 100, 'for ada@example.com'), (2, 2, 50, 'other')`)
	h.activate(strings.Replace(shopMap, "        erase: delete\n      carts:",
		"        erase: delete\n        anchor: {email: random, name: \"Former customer\"}\n      carts:", 1) + keptInvoices)
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	h.wants(r.ID, dsr.CompletedWithExceptions)
	_, p := h.plan(r.ID)
	found := map[dsr.Method]*dsr.Exception{}
	for _, l := range p.Lines {
		if l.Exception != nil {
			found[l.Method] = l.Exception
		}
	}
	for _, m := range []dsr.Method{dsr.Keep, dsr.Anchor} {
		require.NotNil(t, found[m], m)
		require.Equal(t, "17(3)(b)", found[m].Article)
		require.Equal(t, "accounting", found[m].Class)
		require.Equal(t, "2034-01-01", found[m].Ends.Format(time.DateOnly))
	}
	require.EqualValues(t, 2, x.count("SELECT count(*) FROM invoices"))
	require.Zero(t, x.count("SELECT count(*) FROM invoices WHERE note LIKE '%ada@%'"))
	require.Zero(t, x.count("SELECT count(*) FROM customers WHERE lower(email) = 'ada@example.com'"))
}

// Two owners of a message are erased at once: whichever goes second takes the row, and each row is counted once.
func TestSharedOwnersErasedAtOnce(t *testing.T) {
	t.Parallel()
	for _, apart := range []bool{false, true} {
		h, x := shop(t, auto)
		a := h.file(dsr.Erasure, "ada@example.com")
		if apart { // Ada is planned before Bob is known of
			h.stepOnce()
		}
		b := h.file(dsr.Erasure, "bob@example.com")
		h.drain()
		h.wants(a.ID, dsr.Completed)
		h.wants(b.ID, dsr.Completed)
		require.EqualValues(t, 1, x.count("SELECT count(*) FROM messages"))
		require.EqualValues(t, 1, x.count("SELECT count(*) FROM messages WHERE id = 21 AND sender_id IS NULL"))
		sum := h.receipts(a.ID)["shop.messages.delete"] + h.receipts(b.ID)["shop.messages.delete"]
		require.EqualValues(t, 2, sum, "message 20 is credited once, 22 to Ada")
	}
}

func TestAnErasureWaitsForTheSubjectsExport(t *testing.T) {
	t.Parallel()
	h, x := shop(t, func(c *engine.Config) {
		c.Policy.AutoApprove = []engine.AutoApproval{{Name: "erasures", Kinds: []dsr.Kind{dsr.Erasure}}}
	})
	access := h.file(dsr.Access, "ada@example.com")
	erasure := h.file(dsr.Erasure, "ada@example.com")
	other := h.file(dsr.Erasure, "cy@example.com")
	for range 12 {
		h.stepOnce()
	}
	r := h.wants(erasure.ID, dsr.Running)
	require.Equal(t, "waits-for-export", r.Reason)
	h.wants(other.ID, dsr.Completed)
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE id = 1"))
	h.wants(access.ID, dsr.AwaitingReview)
	h.approve(access.ID)
	h.drain()
	h.wants(access.ID, dsr.Completed)
	h.wants(erasure.ID, dsr.Completed)
	p, err := h.PackageInfo(t.Context(), officer, access.ID)
	require.NoError(t, err)
	require.EqualValues(t, 5, p.Records, "the copy came first")
	require.Zero(t, x.count("SELECT count(*) FROM customers WHERE id = 1"))
}

// A Request is carried out under the map that its Plan was made under, while a newer one is in force.
func TestTwoMapVersionsInFlight(t *testing.T) {
	t.Parallel()
	h, x := shop(t, nil)
	old := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	h.wants(old.ID, dsr.AwaitingReview)
	// the new version masks customers instead of deleting them
	masking := strings.Replace(shopMap, "          name: {category: user.name}\n        erase: delete",
		"          name: {category: user.name}\n        not_personal: [id]\n        erase: mask\n        mask: {email: random, name: \"Former customer\"}", 1)
	h.activate(strings.Replace(masking, "          id: {identifier: user_id}\n", "", 1))
	fresh := h.file(dsr.Erasure, "bob@example.com")
	h.drain()
	h.wants(fresh.ID, dsr.AwaitingReview)
	h.approve(old.ID)
	h.approve(fresh.ID)
	h.drain()
	require.Equal(t, 1, h.wants(old.ID, dsr.Completed).MapVersion)
	require.Equal(t, 2, h.wants(fresh.ID, dsr.Completed).MapVersion)
	require.EqualValues(t, 1, h.receipts(old.ID)["shop.customers.delete"])
	require.EqualValues(t, 1, h.receipts(fresh.ID)["shop.customers.mask"])
	require.EqualValues(t, 2, x.count("SELECT count(*) FROM customers"))
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE name = 'Former customer'"))
}

// Members come while others run, and go while they wait.
func TestBatchesWithMembersThatComeAndGo(t *testing.T) {
	t.Parallel()
	h, x := shop(t, nil)
	h.activate(strings.Replace(shopMap, "dsn: ${SHOP}", "dsn: ${SHOP}\n    batch: {window: 10m}", 1))
	ids := map[string]string{}
	for _, name := range []string{"ada", "bob", "cy"} {
		ids[name] = h.file(dsr.Erasure, name+"@example.com").ID
	}
	for h.get(ids["cy"]).State != dsr.AwaitingReview {
		h.stepOnce()
	}
	h.approve(ids["ada"])
	h.approve(ids["bob"])
	_, err := h.Cancel(t.Context(), filer, ids["bob"], h.get(ids["bob"]).Version)
	require.NoError(t, err)
	h.time.forward(5 * time.Minute)
	h.approve(ids["cy"]) // comes into the same window
	var batches [][]string
	h.hooks.before = func(_ context.Context, _, v string, j *connectors.Job) error {
		if v == "erase" {
			var in []string
			for _, s := range j.Batch {
				in = append(in, s.Ref)
			}
			batches = append(batches, in)
		}
		return nil
	}
	h.drain()
	h.wants(ids["ada"], dsr.Completed)
	h.wants(ids["bob"], dsr.Cancelled)
	h.wants(ids["cy"], dsr.Completed)
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers"))
	require.Len(t, batches, 2)
	_, err = h.Cancel(t.Context(), filer, ids["ada"], h.get(ids["ada"]).Version)
	require.ErrorIs(t, err, is(dsr.CodeWrongState))
}

func TestScopeLimitsToSystems(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	c := crm(t)
	h.env["CRM"] = c.url
	h.activate(shopMap + secondSystem)
	r, err := h.File(t.Context(), filer, engine.NewRequest{
		Kind: dsr.Erasure, Identifiers: email("ada@example.com"), Verified: true, Scope: dsr.Scope{Systems: []string{"crm"}},
	})
	require.NoError(t, err)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"), "the shop taught the number and was left alone")
	require.EqualValues(t, 1, c.count("SELECT count(*) FROM contacts"))
}

func TestAnAccessRequestNeedsItsStatement(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, auto)
	h.activate(strings.Replace(shopMap, "  purposes: running the shop\n", "", 1))
	r := h.file(dsr.Access, "ada@example.com")
	h.drain()
	r = h.wants(r.ID, dsr.NeedsAttention)
	require.NotEmpty(t, r.Hint)
	h.activate(shopMap)
	_, err := h.Retry(t.Context(), operator, r.ID, r.Version)
	require.NoError(t, err)
	h.drain()
	h.wants(r.ID, dsr.Completed)
}

func TestForgottenWhenClosed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		x := sqliteTarget(t, shopSchema+shopRows)
		h := open(t, url, map[string]string{"SHOP": x.url}, auto)
		h.activate(shopMap)
		r := h.file(dsr.Erasure, "ada@example.com")
		h.drain()
		h.wants(r.ID, dsr.Completed)
		err := h.store.InTx(t.Context(), func(tx engine.Tx) error {
			keys, err := tx.DataKeys(r.ID)
			require.NoError(t, err)
			require.Empty(t, keys)
			sealed, err := tx.IdentifiersOf(r.ID)
			require.NoError(t, err)
			require.Len(t, sealed[r.ID], 2)
			for _, s := range sealed[r.ID] {
				require.Nil(t, s.Ciphertext)
				require.NotEmpty(t, s.Commitment)
			}
			return nil
		})
		require.NoError(t, err)
		_, err = h.Reveal(t.Context(), officer, r.ID, "curious")
		require.Error(t, err)
	})
}

func TestUpkeep(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, auto)
	r := h.file(dsr.Access, "ada@example.com")
	h.drain()
	h.wants(r.ID, dsr.Completed)
	link, err := h.PackageLink(t.Context(), officer, r.ID)
	require.NoError(t, err)
	h.time.forward(31 * 24 * time.Hour)
	for name := range h.Ticks() {
		require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: name}), name)
		require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: name}), name)
	}
	h.drain()
	p, err := h.PackageInfo(t.Context(), officer, r.ID)
	require.NoError(t, err)
	require.NotNil(t, p.RemovedAt)
	_, err = h.OpenPackage(t.Context(), link.Token)
	require.ErrorIs(t, err, is(dsr.CodeNotFound))
	_, err = h.PackageLink(t.Context(), officer, r.ID)
	require.ErrorIs(t, err, is(dsr.CodeNotFound))
	h.time.forward(4 * 365 * 24 * time.Hour)
	require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickPurge}))
	_, err = h.Get(t.Context(), officer, r.ID)
	require.ErrorIs(t, err, is(dsr.CodeNotFound), "Lethe has a retention of its own")
}

func TestALostNudgeIsFound(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, auto)
	r := h.file(dsr.Erasure, "ada@example.com")
	_, ok := h.store.next() // lost
	require.True(t, ok)
	h.drain()
	h.wants(r.ID, dsr.Discovering)
	require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickNudges}))
	h.drain()
	h.wants(r.ID, dsr.Completed)
}

func TestPreviewStoresNothing(t *testing.T) {
	t.Parallel()
	h, x := shop(t, nil)
	p, err := h.Preview(t.Context(), operator, engine.NewRequest{Kind: dsr.Erasure, Identifiers: email("ada@example.com")})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"user_id": 1}, p.Learned)
	var rows int64
	for _, l := range p.Lines {
		rows += l.Count
	}
	require.EqualValues(t, 5, rows)
	page, _, err := h.List(t.Context(), officer, engine.Filter{})
	require.NoError(t, err)
	require.Empty(t, page)
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))
	ss, err := h.Systems(t.Context(), operator)
	require.NoError(t, err)
	require.True(t, ss[0].Capabilities.Erase)
	c, err := h.CheckSystem(t.Context(), operator, "shop")
	require.NoError(t, err)
	for _, f := range c.Findings {
		require.NotEqual(t, connectors.Error, f.Severity, f)
	}
}

// What only expires keeps a Request deferred, with the identifiers that the last look needs, until its day has come.
func TestWhatExpiresIsVerifiedAgain(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, auto)
	h.env["CRM"] = crm(t).url
	h.activate(shopMap + secondSystem)
	ends := h.time.Now().Add(30 * 24 * time.Hour)
	gone := &dsr.Exception{Cause: dsr.CauseRetention, Ends: &ends}
	h.hooks.located = func(_ string, l *connectors.Located) {
		for i := range l.Counts {
			if l.Counts[i].Entity == "contacts" {
				l.Counts[i].Method, l.Counts[i].Exception = dsr.Expire, gone
			}
		}
	}
	var searched []string
	h.hooks.verified = func(system string, b connectors.Batch, left []dsr.Residue) []dsr.Residue {
		searched = append(searched, system)
		if system == "crm" && h.time.Now().Before(ends) {
			left = append(left, dsr.Residue{Subject: b[0].Ref, System: system, Entity: "contacts", Count: 1, Waits: gone})
		}
		return left
	}
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	r = h.wants(r.ID, dsr.Deferred)
	require.Equal(t, ends.UTC(), r.DeferTo.UTC(), "the day on which the system says that it is gone")
	_, p := h.plan(r.ID)
	at := slices.IndexFunc(p.Lines, func(l dsr.PlanLine) bool { return l.Method == dsr.Expire })
	require.GreaterOrEqual(t, at, 0)
	require.Equal(t, dsr.CauseRetention, p.Lines[at].Exception.Cause)
	ids, err := h.Reveal(t.Context(), officer, r.ID, "still-needed")
	require.NoError(t, err)
	for _, id := range ids {
		require.Equal(t, "user_id", id.Name, "the system that waits does not search by anything else")
	}
	require.NotEmpty(t, ids)
	require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickDeferred}))
	h.drain()
	h.wants(r.ID, dsr.Deferred)
	searched = nil
	h.time.forward(31 * 24 * time.Hour)
	require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickDeferred}))
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.Equal(t, []string{"crm"}, searched, "only the system in which something waited is searched again")
	_, err = h.Reveal(t.Context(), officer, r.ID, "no-longer")
	require.Error(t, err)
}

// What a lock keeps is erased when the lock has ended: nobody has to remember, and who knows that somebody has lifted it
// before need not wait.
func TestWhatWaitsIsErasedLater(t *testing.T) {
	t.Parallel()
	for _, ask := range []bool{false, true} {
		waitsForALock(t, ask)
	}
}

func waitsForALock(t *testing.T, ask bool) {
	t.Helper()
	h, x := shop(t, auto)
	locked := true
	ends := h.time.Now().Add(10 * 24 * time.Hour)
	lock := &dsr.Exception{Cause: dsr.CauseObjectLock, Ends: &ends}
	h.hooks.located = func(_ string, l *connectors.Located) {
		for i := range l.Counts {
			if locked {
				l.Counts[i].Method, l.Counts[i].Exception = dsr.Wait, lock
			}
		}
	}
	h.hooks.before = func(_ context.Context, _, verb string, job *connectors.Job) error {
		if verb == "erase" && locked {
			job.Batch = nil
		}
		return nil
	}
	h.hooks.verified = func(_ string, _ connectors.Batch, left []dsr.Residue) []dsr.Residue {
		for i := range left {
			if locked {
				left[i].Waits = lock
			}
		}
		return left
	}
	before := x.count("SELECT count(*) FROM customers")
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	r = h.wants(r.ID, dsr.Deferred)
	require.Equal(t, ends.UTC(), r.DeferTo.UTC())
	require.Equal(t, before, x.count("SELECT count(*) FROM customers"))

	retry := func() {
		_, err := h.Retry(t.Context(), operator, r.ID, h.get(r.ID).Version)
		require.NoError(t, err)
	}
	if ask {
		retry()
		h.drain()
		require.Equal(t, ends.UTC(), h.wants(r.ID, dsr.Deferred).DeferTo.UTC(), "it is still locked")
	}
	locked = false
	if ask {
		retry()
	} else {
		h.time.forward(11 * 24 * time.Hour)
		require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickDeferred}))
	}
	h.drain()
	r = h.get(r.ID)
	require.True(t, r.State.Final(), r.State)
	require.Equal(t, before-1, x.count("SELECT count(*) FROM customers"))
}

// Who cannot be erased fails alone, though the system refused the whole batch.
func TestOneMembersPermanentFaultIsIsolated(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	x.exec("CREATE TRIGGER refuse BEFORE DELETE ON customers WHEN old.id = 1 BEGIN SELECT RAISE(ABORT, 'no'); END")
	ids := map[string]string{}
	for _, name := range []string{"ada", "bob", "cy"} {
		ids[name] = h.file(dsr.Erasure, name+"@example.com").ID
	}
	h.drain()
	h.wants(ids["ada"], dsr.NeedsAttention)
	h.wants(ids["bob"], dsr.Completed)
	h.wants(ids["cy"], dsr.Completed)
	x.exec("DROP TRIGGER refuse")
	_, err := h.Retry(t.Context(), operator, ids["ada"], h.get(ids["ada"]).Version)
	require.NoError(t, err)
	h.drain()
	h.wants(ids["ada"], dsr.Completed)
	require.Zero(t, x.count("SELECT count(*) FROM customers"))
	var deleted int64
	for _, id := range ids {
		deleted += h.receipts(id)["shop.customers.delete"]
	}
	require.EqualValues(t, 3, deleted)
}

// One system drifts when another is done already: the request is reviewed again, and what was done stays counted.
func TestDriftInTheSecondSystem(t *testing.T) {
	t.Parallel()
	h, x := shop(t, nil)
	c := crm(t)
	c.exec(`CREATE TABLE calls (id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, note TEXT); CREATE INDEX calls_contact ON calls (contact_id)`)
	h.env["CRM"] = c.url
	h.activate(shopMap + strings.Replace(secondSystem, "dsn: ${CRM}", "dsn: ${CRM}\n    batch: {window: 10m}", 1) + `
      calls:
        owned_by: {contact_id: contacts}
        fields: {note: {category: user.content}}
        erase: delete
`)
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	h.approve(r.ID)
	h.stepOnce()
	require.Zero(t, x.count("SELECT count(*) FROM customers WHERE id = 1"))
	c.exec("INSERT INTO calls VALUES (1, 1, 'rang')")
	h.drain()
	r = h.wants(r.ID, dsr.AwaitingReview)
	require.Equal(t, "drift", r.Reason)
	_, p := h.plan(r.ID)
	for _, l := range p.Lines {
		require.Equal(t, "crm", l.System)
	}
	_, err := h.Cancel(t.Context(), filer, r.ID, r.Version)
	require.ErrorIs(t, err, is(dsr.CodeWrongState), "the shop is erased already")
	h.approve(r.ID)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.Equal(t, map[string]int64{
		"crm.contacts.delete": 1, "crm.calls.delete": 1, "shop.customers.delete": 1, "shop.carts.delete": 2,
		"shop.messages.delete": 1, "shop.messages.release": 1,
	}, h.receipts(r.ID))
}
