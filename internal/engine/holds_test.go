package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/logfiles"
	"github.com/lethe-gdpr/lethe/connectors/s3"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

func (h *house) hold(mail string, restriction bool) *dsr.Hold {
	h.t.Helper()
	n := engine.NewHold{Identifiers: email(mail), Restriction: restriction}
	if !restriction {
		n.Reference, n.Review = "T-1/26", h.time.Now().AddDate(0, 6, 0)
	}
	held, err := h.PlaceHold(h.t.Context(), officer, n)
	require.NoError(h.t, err)
	return held
}

func (h *house) lift(held *dsr.Hold) {
	h.t.Helper()
	now, err := h.Hold(h.t.Context(), officer, held.ID)
	require.NoError(h.t, err)
	_, err = h.LiftHold(h.t.Context(), officer, held.ID, now.Version)
	require.NoError(h.t, err)
}

func (h *house) deferredTick() {
	h.t.Helper()
	require.NoError(h.t, h.Tick(h.t.Context(), engine.Tick{Name: engine.TickDeferred}))
}

// A legal hold wins over an erasure: the request waits, and goes on by itself when the hold is lifted.
func TestALegalHoldDefersItsSubjectsErasure(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, control string) {
		x := sqliteTarget(t, shopSchema+shopRows)
		h := open(t, control, map[string]string{"SHOP": x.url}, nil)
		h.activate(shopMap)
		held := h.hold(" ADA@example.com", false)
		require.Len(t, held.Commitments, 2, "the address, and the number that the shop taught")
		r := h.file(dsr.Erasure, "ada@example.com")
		other := h.file(dsr.Erasure, "cy@example.com")
		h.drain()
		planned := h.wants(r.ID, dsr.AwaitingReview)
		require.Equal(t, "held", planned.Reason)
		require.Contains(t, planned.Hint, held.ID, "whoever approves it is told")
		require.Empty(t, h.wants(other.ID, dsr.AwaitingReview).Reason)
		h.approve(r.ID)
		h.approve(other.ID)
		h.drain()
		got := h.wants(r.ID, dsr.Deferred)
		require.Equal(t, "held", got.Reason)
		require.Contains(t, got.Hint, held.ID)
		require.Equal(t, held.Review, *got.DeferTo)
		require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE id = 1"))
		h.wants(other.ID, dsr.Completed)

		h.time.forward(30 * 24 * time.Hour)
		h.deferredTick()
		h.drain()
		h.wants(r.ID, dsr.Deferred)
		h.time.forward(180 * 24 * time.Hour) // its review is overdue now
		h.deferredTick()
		h.drain()
		got = h.wants(r.ID, dsr.Deferred)
		require.True(t, got.DeferTo.After(h.time.Now()))
		stats, err := h.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, stats.OverdueHolds)

		h.lift(held)
		h.drain()
		h.wants(r.ID, dsr.Completed)
		require.Zero(t, x.count("SELECT count(*) FROM customers WHERE id = 1"))
		require.EqualValues(t, 1, h.receipts(r.ID)["shop.customers.delete"])
		_, err = h.LiftHold(t.Context(), officer, held.ID, held.Version+1)
		require.Equal(t, dsr.CodeWrongState, dsr.CodeOf(err))
	})
}

// A Hold that is placed after the approval wins as well, before a Run has claimed the Task.
func TestAHoldAfterTheApproval(t *testing.T) {
	t.Parallel()
	h, x := shop(t, nil)
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	h.approve(r.ID)
	held := h.hold("ada@example.com", false)
	h.drain()
	require.Equal(t, "held", h.wants(r.ID, dsr.Deferred).Reason)
	require.EqualValues(t, 2, x.count("SELECT count(*) FROM carts WHERE customer_id = 1"))
	h.lift(held)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.Zero(t, x.count("SELECT count(*) FROM carts WHERE customer_id = 1"))
}

// A restriction by the same person asks the DPO, and blocks nothing for ever.
func TestARestrictionAsksTheDPO(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	held := h.hold("ada@example.com", true)
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	got := h.wants(r.ID, dsr.NeedsAttention)
	require.Equal(t, "restricted", got.Reason)
	require.Contains(t, got.Hint, held.ID)
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))
	h.lift(held)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.EqualValues(t, 2, x.count("SELECT count(*) FROM customers"))
}

// Somebody else's Hold keeps what is theirs too; the rest goes, and what was kept when the Hold is lifted.
func TestSomebodyElsesHoldKeepsWhatIsTheirs(t *testing.T) {
	t.Parallel()
	h, x := shop(t, auto)
	held := h.hold("bob@example.com", false)
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	got := h.wants(r.ID, dsr.Deferred)
	require.Equal(t, "waits", got.Reason)
	require.Zero(t, x.count("SELECT count(*) FROM carts WHERE customer_id = 1"))
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM messages WHERE id = 20 AND sender_id = 1"), "a message to Bob")
	h.lift(held)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.Zero(t, x.count("SELECT count(*) FROM messages WHERE sender_id = 1"))
	require.Zero(t, x.count("SELECT count(*) FROM customers WHERE id = 1"))
}

// A restriction request that is completed places its Hold, under a key of the Hold's own.
func TestACompletedRestrictionRestricts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, control string) {
		x := sqliteTarget(t, shopSchema+shopRows)
		h := open(t, control, map[string]string{"SHOP": x.url}, auto)
		h.activate(shopMap)
		complete := func(id string) {
			ts, err := h.Tasks(t.Context(), officer, id)
			require.NoError(t, err)
			for _, task := range ts {
				_, err = h.CompleteTask(t.Context(), officer, id, h.get(id).Version, task.ID, 1)
				require.NoError(t, err)
			}
		}
		r := h.file(dsr.Restriction, "ada@example.com")
		early, _, err := h.Holds(t.Context(), officer, engine.HoldFilter{Identifier: &email("Ada@example.com")[0]})
		require.NoError(t, err)
		require.Len(t, early, 1, "from when it is known who asks")
		require.Equal(t, "pending", early[0].Unlearned)
		h.drain()
		complete(r.ID)
		h.wants(r.ID, dsr.Completed)
		holds, _, err := h.Holds(t.Context(), officer, engine.HoldFilter{Identifier: &email("Ada@example.com")[0]})
		require.NoError(t, err)
		require.Len(t, holds, 1)
		require.True(t, holds[0].Restriction)
		require.Equal(t, r.ID, holds[0].Request)
		require.Equal(t, early[0].ID, holds[0].ID)
		require.Empty(t, holds[0].Unlearned)
		require.Greater(t, len(holds[0].Commitments), len(early[0].Commitments), "what the systems teach of her")
		erasure := h.file(dsr.Erasure, "ada@example.com")
		h.drain()
		require.Equal(t, "restricted", h.wants(erasure.ID, dsr.NeedsAttention).Reason, "though the request has forgotten its identifiers")

		other := h.file(dsr.Restriction, "bob@example.com")
		h.drain()
		again, err := h.PlaceHold(t.Context(), officer, engine.NewHold{Restriction: true, Request: other.ID})
		require.NoError(t, err)
		require.NotEqual(t, holds[0].ID, again.ID)
		require.Equal(t, other.ID, again.Request)
		complete(other.ID)
		holds, _, err = h.Holds(t.Context(), officer, engine.HoldFilter{})
		require.NoError(t, err)
		require.Len(t, holds, 2, "one is enough")

		// Before it is known who asks nothing is held; refused or withdrawn, nothing is any more.
		for name, end := range map[string]func(r *dsr.Request) error{
			"refused": func(r *dsr.Request) error {
				_, err := h.Refuse(t.Context(), officer, r.ID, r.Version, "18(1)", "not-disputed")
				return err
			},
			"cancelled": func(r *dsr.Request) error {
				_, err := h.Cancel(t.Context(), officer, r.ID, r.Version)
				return err
			},
		} {
			unknown, err := h.File(t.Context(), filer, engine.NewRequest{Kind: dsr.Restriction, Identifiers: email(name + "@example.com")})
			require.NoError(t, err)
			of := func() []*dsr.Hold {
				found, _, err := h.Holds(t.Context(), officer, engine.HoldFilter{Identifier: &email(name + "@example.com")[0]})
				require.NoError(t, err)
				return found
			}
			require.Empty(t, of())
			known, err := h.ConfirmIdentity(t.Context(), officer, unknown.ID, unknown.Version, "passport")
			require.NoError(t, err)
			require.Len(t, of(), 1)
			require.NoError(t, end(known))
			require.Empty(t, of(), name)
			h.drain()
		}
	})
}

// A Hold that is placed while a Sweep works is known before the next intent is durable, whether the Sweep looks at Stop
// or not: a chunk without one is rolled back, a chunk with one ends, and no other begins.
func TestAHoldInTheMiddleOfASweep(t *testing.T) {
	t.Parallel()
	for step, committed := range map[string]int{sqldb.StepChanged: 0, sqldb.StepIntent: 1} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			h, x := sweepHouse(t, dbtest.SQLite(t), many, ", review: never", chunky)
			s := h.sweepNow(rule)
			late := 0
			var held *dsr.Hold
			var seen []int
			h.hooks.step = func(_, name string) {
				if held != nil && len(seen) == 1 && name == sqldb.StepCommitted {
					late++
				}
				if held == nil && name == step {
					var err error
					held, err = h.PlaceHold(context.WithoutCancel(t.Context()), officer, engine.NewHold{
						System: "shop", Entity: "logins", When: []dsr.Condition{{Field: "customer_id", Values: []string{"2"}}},
						Reference: "T-2", Review: h.time.Now().AddDate(0, 6, 0),
					})
					require.NoError(t, err)
				}
			}
			h.hooks.sweep = func(_ context.Context, j *connectors.SweepJob) error {
				seen = append(seen, len(j.Held.Entities))
				return nil
			}
			h.drain()
			require.Equal(t, []int{0, 1}, seen)
			require.Equal(t, committed, late)
			got := h.swept(s.ID, retention.SweepDone)
			kept := x.count("SELECT count(*) FROM logins WHERE customer_id = 2")
			require.Greater(t, kept, int64(many/3-1000))
			require.EqualValues(t, many+1-kept, got.Count(dsr.Delete), "%v", got.Results)
			require.EqualValues(t, kept-1, got.Held, "one of them is not due")
			require.Equal(t, *got.Due, got.Count(dsr.Delete)+got.Held, "what was due went or is held")
			h.lift(held)
			h.night()
			require.EqualValues(t, 2, x.count(countLogins))
		})
	}
}

// A Hold that is placed while an erasure works is known before its next intent is durable, too.
func TestAHoldInTheMiddleOfAnErasure(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, shopSchema+shopRows)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
	h.activate(shopMap)
	h.hooks.step = func(_, step string) {
		if step != sqldb.StepChanged {
			return
		}
		h.hooks.step = nil
		h.hold("ada@example.com", false)
	}
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	h.wants(r.ID, dsr.Deferred)
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE id = 1 AND email = 'Ada@example.com'"))
	require.Positive(t, x.count("SELECT count(*) FROM carts WHERE customer_id = 1"))
}

// What cannot be learned stops a Sweep: a Hold that does not know its subject's identifiers holds nothing.
func TestNothingIsSweptWhileHoldsCannotBeResolved(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
	down := true
	h.hooks.before = func(_ context.Context, _, verb string, _ *connectors.Job) error {
		if down && verb == "locate" {
			return errors.New("connection refused")
		}
		return nil
	}
	held := h.hold("bob@example.com", false)
	require.Len(t, held.Commitments, 1, "it is placed all the same")
	s := h.sweepNow(rule)
	_, ok := h.stepOnce()
	require.True(t, ok)
	require.EqualValues(t, 12, x.count(countLogins))
	down = false
	h.drain()
	h.swept(s.ID, retention.SweepDone)
	now, err := h.Hold(t.Context(), officer, held.ID)
	require.NoError(t, err)
	require.Len(t, now.Commitments, 2, "what was learned is held from now on")
	h.lift(held)
	now, err = h.Hold(t.Context(), officer, held.ID)
	require.NoError(t, err)
	require.Len(t, now.Commitments, 2)
}

// A Hold that is placed while a Sweep works, when nobody can say what else its subject is called, is learned before the
// Sweep goes on, however lately Holds were learned.
func TestAHoldThatKnowsTooLittleInTheMiddleOfASweep(t *testing.T) {
	t.Parallel()
	h, _ := sweepHouse(t, dbtest.SQLite(t), many, ", review: never", chunky)
	down := false
	h.hooks.before = func(_ context.Context, _, verb string, _ *connectors.Job) error {
		if down && verb == "locate" {
			return errors.New("connection refused")
		}
		return nil
	}
	s := h.sweepNow(rule)
	var held *dsr.Hold
	h.hooks.step = func(_, name string) {
		if held == nil && name == sqldb.StepChanged {
			down = true
			held = h.hold("bob@example.com", false)
			down = false
			require.Len(t, held.Commitments, 1)
		}
	}
	var knew []int
	h.hooks.sweep = func(_ context.Context, j *connectors.SweepJob) error {
		if len(j.Held.Subjects) == 1 {
			knew = append(knew, len(j.Held.Subjects[0].Identifiers))
		}
		return nil
	}
	h.drain()
	h.swept(s.ID, retention.SweepDone)
	require.Equal(t, []int{2}, knew, "the address and the number that the shop teaches")
}

// A map that calls otherwise what a Hold is on does not end the Hold: nothing is deleted until somebody has looked.
func TestNothingIsSweptWhileTheMapHasLostAHold(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		hold    engine.NewHold
		changes []string
	}{
		"an identifier": {engine.NewHold{Identifiers: email("bob@example.com"), Restriction: true}, []string{"email: {kind", "mail: {kind", "{identifier: email", "{identifier: mail"}},
		"an entity":     {engine.NewHold{System: "shop", Entity: "carts", Restriction: true}, []string{"      carts:\n", "      baskets:\n        table: carts\n"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h, x := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
			held, err := h.PlaceHold(t.Context(), officer, c.hold)
			require.NoError(t, err)
			h.activate(strings.NewReplacer(c.changes...).Replace(loginsMap(", review: never")))
			s := h.sweepNow(rule)
			h.drain()
			got := h.swept(s.ID, retention.SweepFailed)
			require.Equal(t, "hold-unresolved", got.Reason)
			require.Contains(t, got.Hint, held.ID)
			require.EqualValues(t, 12, x.count(countLogins))
			h.lift(held)
			s = h.sweepNow(rule)
			h.drain()
			h.swept(s.ID, retention.SweepDone)
		})
	}
}

func TestWhatIsNoHold(t *testing.T) {
	t.Parallel()
	h, _ := sweepHouse(t, dbtest.SQLite(t), 1, "", nil)
	h.activate(strings.Replace(loginsMap(""), "      carts:\n        owned_by: {customer_id: customers}\n        fields: {content: {category: user.content}}\n",
		"      carts:\n        owned_by: {customer_id: customers}\n        mentions: [content]\n", 1))
	review := h.time.Now().AddDate(0, 1, 0)
	when := func(c ...dsr.Condition) engine.NewHold {
		return engine.NewHold{System: "shop", Entity: "logins", When: c, Reference: "T-1", Review: review}
	}
	for name, c := range map[string]struct {
		n     engine.NewHold
		field string
	}{
		"nothing":            {engine.NewHold{Reference: "T-1", Review: review}, "identifiers"},
		"two ways":           {engine.NewHold{Identifiers: email("a@example.com"), Entity: "logins", System: "shop", Reference: "T-1", Review: review}, "identifiers"},
		"no review":          {engine.NewHold{Identifiers: email("a@example.com"), Reference: "T-1"}, "review"},
		"past review":        {engine.NewHold{Identifiers: email("a@example.com"), Reference: "T-1", Review: h.time.Now()}, "review"},
		"no reference":       {engine.NewHold{Identifiers: email("a@example.com"), Review: review}, "reference"},
		"a name":             {engine.NewHold{Identifiers: email("a@example.com"), Reference: "Ada Lovelace", Review: review}, "reference"},
		"legal request":      {engine.NewHold{Request: "req_1", Reference: "T-1", Review: review}, "request"},
		"bad address":        {engine.NewHold{Identifiers: email("a@example..com"), Restriction: true}, "identifiers[0].value"},
		"tenant":             {engine.NewHold{Identifiers: email("a@example.com"), Restriction: true, Tenant: "x"}, "tenant"},
		"system":             {engine.NewHold{System: "crm", Entity: "logins", Reference: "T-1", Review: review}, "system"},
		"entity":             {engine.NewHold{System: "shop", Entity: "x", Reference: "T-1", Review: review}, "entity"},
		"empty condition":    {when(dsr.Condition{Field: "customer_id"}), "when[0]"},
		"two conditions":     {when(dsr.Condition{Field: "customer_id", Null: true, NotNull: true}), "when[0]"},
		"no such field":      {when(dsr.Condition{Field: "colour", Null: true}), "when[0].field"},
		"a word as a number": {when(dsr.Condition{Field: "customer_id", Values: []string{"1", "12x"}}), "when[0].values[1]"},
		"a word as a time":   {when(dsr.Condition{Field: "at", Values: []string{"yesterday"}}), "when[0].values[0]"},
		"a person in a text": {
			engine.NewHold{
				System: "shop", Entity: "carts", When: []dsr.Condition{{Field: "content", Values: []string{"a@example.com"}}},
				Reference: "T-1", Review: review,
			}, "when[0]",
		},
		"a person": {
			engine.NewHold{
				System: "shop", Entity: "customers", When: []dsr.Condition{{Field: "email", Values: []string{"a@example.com"}}},
				Reference: "T-1", Review: review,
			}, "when[0]",
		},
	} {
		_, err := h.PlaceHold(t.Context(), officer, c.n)
		var own *dsr.Error
		require.ErrorAs(t, err, &own, name)
		require.Equal(t, dsr.CodeInvalid, own.Code, name)
		require.Equal(t, c.field, own.Field, name)
	}
	holds, _, err := h.Holds(t.Context(), officer, engine.HoldFilter{})
	require.NoError(t, err)
	require.Empty(t, holds)
}

// Records of flat systems have fields that the map does not declare, and a hold may ask for them as a rule may.
func TestAHoldOnAFieldOfRecords(t *testing.T) {
	t.Parallel()
	h := open(t, dbtest.SQLite(t), nil, func(c *engine.Config) { c.Kinds = append(c.Kinds, logfiles.Kinds()...) })
	h.activate(`
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers: {user_id: {kind: opaque}}
systems:
  web:
    connector: logfiles
    root: ` + t.TempDir() + `
    entities:
      app: {files: "*.log", format: jsonl, fields: {user: {identifier: user_id}}, not_personal: [level], erase: delete}
`)
	for _, field := range []string{"level", "case"} {
		_, err := h.PlaceHold(t.Context(), officer, engine.NewHold{
			System: "web", Entity: "app", When: []dsr.Condition{{Field: field, Values: []string{"17"}}}, Restriction: true,
		})
		require.NoError(t, err, field)
	}
}

// A store that deletes by itself is told of a hold at once: its own deletion may come before the next night.
func TestAHoldReachesStoresThatDeleteByThemselves(t *testing.T) {
	t.Parallel()
	h := open(t, dbtest.SQLite(t), nil, func(c *engine.Config) { c.Kinds = append(c.Kinds, s3.Kinds()...) })
	h.activate(`
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers: {user_id: {kind: opaque}}
deletion_classes: {short: {period: P30D, from: collection}}
systems:
  lake:
    connector: s3
    bucket: example
    region: eu-north-1
    endpoint: http://127.0.0.1:1
    access_key: example
    secret_key: example
    entities:
      events: {objects: "events/**", format: jsonl, fields: {user: {identifier: user_id}}, erase: delete, retention: [{class: short, start: object_age, action: expire, review: never}]}
      waits: {objects: "waits/**", format: jsonl, fields: {user: {identifier: user_id}}, erase: delete, retention: [{class: short, start: object_age, action: expire}]}
      clicks: {objects: "clicks/**", format: jsonl, fields: {user: {identifier: user_id}}, erase: delete, retention: [{class: short, start: object_age, action: delete, review: never}]}
`)
	_, err := h.PlaceHold(t.Context(), officer, engine.NewHold{System: "lake", Entity: "events", Reference: "T-1", Review: h.time.Now().AddDate(0, 6, 0)})
	require.NoError(t, err)
	require.Contains(t, h.store.all, engine.Heed{System: "lake"})
	require.Error(t, h.Heed(t.Context(), engine.Heed{System: "lake"}), "of a bucket that does not answer it is tried again")
	all := h.sweeps()
	require.Len(t, all, 1)
	require.Equal(t, "lake.events.short", all[0].Rule)
	require.True(t, all[0].Now, "not only in the nightly window")
	require.Contains(t, h.log.String(), "lake.waits.short", "of a rule that may not run the log says so")
}

func TestReviewsOfHolds(t *testing.T) {
	t.Parallel()
	h, _ := shop(t, nil)
	held := h.hold("ada@example.com", false)
	_, err := h.ReviewHold(t.Context(), officer, held.ID, held.Version, h.time.Now())
	require.Equal(t, dsr.CodeInvalid, dsr.CodeOf(err))
	next := held.Review.AddDate(0, 6, 0)
	got, err := h.ReviewHold(t.Context(), officer, held.ID, held.Version, next)
	require.NoError(t, err)
	require.Equal(t, next, got.Review)
	_, err = h.ReviewHold(t.Context(), officer, held.ID, held.Version, next)
	require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err))
	_, err = h.LiftHold(t.Context(), dsr.Actor{ID: "x", Tenants: []string{"other"}}, held.ID, got.Version)
	require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err), "another tenant's")
	h.time.forward(2 * 365 * 24 * time.Hour)
	overdue, _, err := h.Holds(t.Context(), officer, engine.HoldFilter{Overdue: true})
	require.NoError(t, err)
	require.Len(t, overdue, 1)
}

// Whoever places a Hold learns that a System did not say what else its subject is called, and it is asked again.
func TestAHoldSaysWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, control string) {
		x := sqliteTarget(t, shopSchema+shopRows)
		h := open(t, control, map[string]string{"SHOP": x.url}, auto)
		h.activate(shopMap)
		away := true
		h.hooks.before = func(_ context.Context, _, verb string, _ *connectors.Job) error {
			if away && verb == "locate" {
				return &dsr.Error{Code: dsr.CodeUnavailable, Msg: "away"}
			}
			return nil
		}
		held := h.hold("ada@example.com", false)
		require.Equal(t, "unavailable", held.Unlearned)
		tick := func() *dsr.Hold {
			require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickDeferred}))
			now, err := h.Hold(t.Context(), officer, held.ID)
			require.NoError(t, err)
			require.Equal(t, held.Version, now.Version)
			return now
		}
		require.Equal(t, "unavailable", tick().Unlearned)
		away = false
		now := tick()
		require.Empty(t, now.Unlearned)
		require.Greater(t, len(now.Commitments), len(held.Commitments))
		require.Empty(t, h.hold("bob@example.com", false).Unlearned)
	})
}

// A Sweep that goes on under an older map stops when a Hold is placed on what that map does not know yet.
func TestAHoldOnWhatAnOlderMapDoesNotKnow(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), 30, ", review: never", nil)
	x.exec("ALTER TABLE customers ADD COLUMN mobile TEXT")
	x.exec("UPDATE customers SET mobile = '+46701740605' WHERE id = 2")
	yaml := loginsMap(", review: never")
	customers := strings.Replace(yaml, "fields:\n", "fields:\n          mobile: {category: user.contact.phone_number}\n", 1)
	h.activate(customers)
	s := h.sweepNow(rule) // begun under the map in which the number is no identifier
	customers = strings.Replace(yaml, "fields:\n", "fields:\n          mobile: {identifier: mobile}\n", 1)
	h.activate(strings.Replace(customers, "identifiers:\n", "identifiers:\n  mobile: {kind: phone}\n", 1))
	_, err := h.PlaceHold(t.Context(), officer, engine.NewHold{
		Identifiers: []engine.RawIdentifier{{Name: "mobile", Value: dsr.NewSecret("+46 70-174 06 05")}}, Reference: "T-1",
		Review: h.time.Now().AddDate(1, 0, 0),
	})
	require.NoError(t, err)
	h.drain()
	require.Equal(t, "hold-unresolved", h.swept(s.ID, retention.SweepFailed).Reason)
	require.EqualValues(t, 32, x.count(countLogins))
	next := h.sweepNow(rule)
	h.drain()
	require.EqualValues(t, 20, h.swept(next.ID, retention.SweepDone).Count(dsr.Delete))
	require.EqualValues(t, 10, x.count("SELECT count(*) FROM logins WHERE customer_id = 2 AND at < '2026-02-01'"))
}
