package memory_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/memory"
	"github.com/lethe-gdpr/lethe/dsr"
)

// defective is the reference connector with one defect.
type defective struct {
	*memory.DB
	check  func([]connectors.Finding, error) ([]connectors.Finding, error)
	locate func(connectors.Located, error) (connectors.Located, error)
	verify func([]dsr.Residue, error) ([]dsr.Residue, error)
	erase  func(context.Context, connectors.Job) error
	export func(context.Context, connectors.Job, connectors.SinkFor) error
	due    func(context.Context, connectors.DueQuery) ([]connectors.Due, error)
	sweep  func(context.Context, connectors.SweepJob) (connectors.SweepMeasures, error)
}

func (d *defective) Check(ctx context.Context) ([]connectors.Finding, error) {
	found, err := d.DB.Check(ctx)
	if d.check != nil {
		return d.check(found, err)
	}
	return found, err
}

func (d *defective) Locate(ctx context.Context, q connectors.Query) (connectors.Located, error) {
	found, err := d.DB.Locate(ctx, q)
	if d.locate != nil {
		return d.locate(found, err)
	}
	return found, err
}

func (d *defective) Verify(ctx context.Context, q connectors.Search) ([]dsr.Residue, error) {
	left, err := d.DB.Verify(ctx, q)
	if d.verify != nil {
		return d.verify(left, err)
	}
	return left, err
}

func (d *defective) Erase(ctx context.Context, j connectors.Job) error {
	if d.erase != nil {
		return d.erase(ctx, j)
	}
	return d.DB.Erase(ctx, j)
}

func (d *defective) Export(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
	if d.export != nil {
		return d.export(ctx, j, sinks)
	}
	return d.DB.Export(ctx, j, sinks)
}

func (d *defective) Due(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
	if d.due != nil {
		return d.due(ctx, q)
	}
	return d.DB.Due(ctx, q)
}

func (d *defective) Sweep(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
	if d.sweep != nil {
		return d.sweep(ctx, j)
	}
	return d.DB.Sweep(ctx, j)
}

// forgetful is a journal whose checkpoint is ignored.
type forgetful struct{ connectors.Journal }

func (forgetful) Load(context.Context) ([]byte, error) { return nil, nil }

// generous is a journal that counts everything twice.
type generous struct{ connectors.Journal }

func (g generous) Save(ctx context.Context, checkpoint []byte, done []connectors.Tally) error {
	return g.Journal.Save(ctx, checkpoint, slices.Concat(done, done))
}

// deaf is a journal whose fence is not heard.
type deaf struct{ connectors.Journal }

func (d deaf) Save(ctx context.Context, checkpoint []byte, done []connectors.Tally) error {
	if err := d.Journal.Save(ctx, checkpoint, done); !errors.Is(err, connectors.ErrFenced) {
		return err
	}
	return nil
}

func (d deaf) Load(ctx context.Context) ([]byte, error) {
	b, err := d.Journal.Load(ctx)
	if errors.Is(err, connectors.ErrFenced) {
		err = nil
	}
	return b, err
}

func (d deaf) Spool(ctx context.Context, subject, entity string, keys []connectors.Key) error {
	if err := d.Journal.Spool(ctx, subject, entity, keys); !errors.Is(err, connectors.ErrFenced) {
		return err
	}
	return nil
}

// spoilMap changes the map behind the connector's back.
func spoilMap(spoil func(sys *connectors.System)) wrap {
	return func(sys *connectors.System, open func() *memory.DB) connectors.Connector {
		sys.Entities = slices.Clone(sys.Entities)
		spoil(sys)
		return open()
	}
}

// changeRules changes every deletion rule.
func changeRules(sys *connectors.System, change func(r *connectors.Rule)) {
	for i := range sys.Entities {
		e := &sys.Entities[i]
		e.Rules = slices.Clone(e.Rules)
		for n := range e.Rules {
			change(&e.Rules[n])
		}
	}
}

func spoilErase(erase func(db *memory.DB, ctx context.Context, j connectors.Job) error) wrap {
	return func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, erase: func(ctx context.Context, j connectors.Job) error { return erase(db, ctx, j) }}
	}
}

type defect struct {
	name, found string
	wrap        wrap
	of          func(wrap) func(*testing.T) connectortest.Backend // nil is backend
}

// defects are connectors that are wrong, by the case of the suite that must find them.
var defects = slices.Concat([]defect{
	{name: "verify-finds-nothing", found: "Saboteur", wrap: blind},
	{name: "verify-finds-nothing", found: "Orphan", wrap: blind},
	{name: "learns-nothing", found: "LocateTeaching", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), locate: func(l connectors.Located, err error) (connectors.Located, error) {
			l.Learned = nil
			return l, err
		}}
	}},
	{name: "guesses", found: "LocateAmbiguity", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), locate: func(l connectors.Located, err error) (connectors.Located, error) {
			l.Ambiguous = nil
			return l, err
		}}
	}},
	{name: "counts-wrong", found: "LocateReadsOnly", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), locate: func(l connectors.Located, err error) (connectors.Located, error) {
			for i := range l.Counts {
				l.Counts[i].Rows++
			}
			return l, err
		}}
	}},
	{name: "ignores-mentions", found: "Erase", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].Mentions = nil
		}
	})},
	{name: "first-owner-only", found: "SharedOwners", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].OwnedBy = sys.Entities[i].OwnedBy[:min(1, len(sys.Entities[i].OwnedBy))]
		}
	})},
	{name: "accessors-own", found: "Accessors", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].OwnedBy = slices.Concat(sys.Entities[i].OwnedBy, sys.Entities[i].AccessedBy)
		}
	})},
	{name: "no-memberships", found: "Memberships", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].Owns = nil
		}
	})},
	{name: "any-type", found: "Polymorphic", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].OwnedBy = slices.Clone(sys.Entities[i].OwnedBy)
			for n := range sys.Entities[i].OwnedBy {
				sys.Entities[i].OwnedBy[n].When = nil
			}
		}
	})},
	{name: "crosses-tenants", found: "Tenants", wrap: spoilMap(func(sys *connectors.System) {
		sys.TenantName = ""
		for i := range sys.Entities {
			sys.Entities[i].Tenant = ""
		}
	})},
	{name: "ignores-holds", found: "Held", wrap: ignoresHolds},
	{name: "ignores-holds", found: "Held", of: flat, wrap: ignoresHolds},
	{name: "ignores-holds", found: "HeldEntity", wrap: ignoresHolds},
	{name: "ignores-holds", found: "HeldEntity", of: flat, wrap: ignoresHolds},
	{name: "ignores-holds", found: "HeldKeeps", wrap: ignoresHolds},
	{name: "ignores-holds", found: "HeldMeanwhile", wrap: ignoresHolds},
	{name: "ignores-holds", found: "HeldMeanwhile", of: flat, wrap: ignoresHolds},
	{name: "forgets-what-holds", found: "HeldExpires", of: expires, wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), verify: func(left []dsr.Residue, err error) ([]dsr.Residue, error) {
			for i := range left {
				left[i].Waits = &dsr.Exception{Cause: dsr.CauseRetention}
			}
			return left, err
		}}
	}},
	{name: "ignores-holds", found: "RandomRecords", of: flat, wrap: ignoresHolds},
	{name: "ignores-conditions", found: "HeldEntity", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Held.Entities = slices.Clone(j.Held.Entities)
		for i := range j.Held.Entities {
			j.Held.Entities[i].When = nil
		}
		return db.Erase(ctx, j)
	})},
	{name: "never-waits", found: "Held", wrap: neverWaits},
	{name: "hides-what-is-held", found: "Held", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), verify: func(left []dsr.Residue, err error) ([]dsr.Residue, error) {
			return slices.DeleteFunc(left, func(r dsr.Residue) bool { return r.Waits != nil }), err
		}}
	}},
	{name: "ignores-minima", found: "Minimum", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].Rules = nil
		}
	})},
	{name: "ignores-conditions", found: "Minimum", wrap: spoilMap(func(sys *connectors.System) {
		changeRules(sys, func(r *connectors.Rule) { r.When = nil })
	})},
	{name: "keeps-for-the-period", found: "Minimum", wrap: spoilMap(func(sys *connectors.System) {
		changeRules(sys, func(r *connectors.Rule) { r.Class.Minimum = r.Class.Period })
	})},
	{name: "counts-days-in-utc", found: "Minimum", wrap: spoilMap(func(sys *connectors.System) { sys.Zone = nil })},
	{name: "never-waits", found: "Minimum", wrap: neverWaits},
	{name: "hides-what-waits", found: "Minimum", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), verify: func(left []dsr.Residue, err error) ([]dsr.Residue, error) {
			return slices.DeleteFunc(left, func(r dsr.Residue) bool { return r.Waits != nil }), err
		}}
	}},
	{name: "says-only-the-last-day", found: "Minimum", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), verify: func(left []dsr.Residue, err error) ([]dsr.Residue, error) {
			last := map[time.Time]int64{}
			for _, r := range left {
				if r.Waits != nil && r.Waits.Ends != nil {
					last[*r.Waits.Ends] = 1
				}
			}
			for _, r := range left {
				if r.Waits != nil && r.Waits.Ends != nil {
					r.Waits.Ends = connectors.LastDay(last)
				}
			}
			return left, err
		}}
	}},
	{name: "plans-what-waits", found: "Minimum", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), locate: func(l connectors.Located, err error) (connectors.Located, error) {
			for i := range l.Counts {
				if l.Counts[i].Method == dsr.Wait {
					l.Counts[i].Method, l.Counts[i].Exception = dsr.Delete, nil
				}
			}
			return l, err
		}}
	}},
	{name: "ignores-minima", found: "RandomGraphs", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].Rules = nil
		}
	})},
	{name: "ignores-limits", found: "Limits", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Limits = connectors.Limits{}
		return db.Erase(ctx, j)
	})},
	{name: "ignores-scope", found: "EraseScope", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Batch = slices.Clone(j.Batch)
		for i := range j.Batch {
			j.Batch[i].Entities = nil
		}
		return db.Erase(ctx, j)
	})},
	{name: "never-yields", found: "Slices", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Deadline = j.Deadline.AddDate(100, 0, 0)
		return db.Erase(ctx, j)
	})},
	{name: "only-yields", found: "Slices", wrap: spoilErase(func(*memory.DB, context.Context, connectors.Job) error { return connectors.ErrYield })},
	{name: "counts-twice", found: "BatchSizes", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Journal = generous{j.Journal}
		return db.Erase(ctx, j)
	})},
	{name: "starts-again", found: "InterruptedErase", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Journal = forgetful{j.Journal}
		return db.Erase(ctx, j)
	})},
	{name: "starts-again", found: "JournalFails", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Journal = forgetful{j.Journal}
		return db.Erase(ctx, j)
	})},
	{name: "hears-no-fence", found: "Fenced", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Journal = deaf{j.Journal}
		return db.Erase(ctx, j)
	})},
	{name: "never-stops", found: "Cancelled", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		return db.Erase(context.WithoutCancel(ctx), connectors.Job{Batch: j.Batch, Journal: connectortest.NewJournal()})
	})},
	{name: "does-nothing", found: "Erase", wrap: spoilErase(func(*memory.DB, context.Context, connectors.Job) error { return nil })},
	{name: "says-who", found: "ErrorsNameNobody", wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		if err := db.Erase(ctx, j); err != nil {
			return connectors.Permanent(dsr.CodeInvalid, "cannot erase "+j.Batch[0].Identifiers[0].Value.Reveal(), "", err)
		}
		return nil
	})},
	{name: "repeats-records", found: "InterruptedExport", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, export: func(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
			j.Journal = forgetful{j.Journal}
			return db.Export(ctx, j, sinks)
		}}
	}},
	{name: "shows-others", found: "Export", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, export: func(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
			if err := db.Export(ctx, j, sinks); err != nil {
				return err
			}
			sink, err := sinks(j.Batch[0].Ref)
			if err != nil {
				return err
			}
			return sink.Record("devices", []string{"id", "customer_id", "token"}, []any{int64(77), int64(1002), "x"})
		}}
	}},
	{name: "verify-finds-nothing", found: "NothingErased", wrap: blind},
	{name: "verify-finds-nothing", found: "NothingErased", of: flat, wrap: blind},
	{name: "verify-finds-nothing", found: "Saboteur", of: flat, wrap: blind},
	{name: "verify-finds-nothing", found: "Expire", of: expires, wrap: blind},
	{name: "never-waits", found: "Expire", of: expires, wrap: neverWaits},
	{name: "gives-no-reason", found: "Expire", of: expires, wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), locate: func(l connectors.Located, err error) (connectors.Located, error) {
			for i := range l.Counts {
				l.Counts[i].Exception = nil
			}
			return l, err
		}}
	}},
	{name: "deletes-what-expires", found: "Expire", of: expires, wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].Erase = dsr.Delete
		}
	})},
	{name: "names-no-field", found: "LocateUnsearched", wrap: namesNoField},
	{name: "names-no-field", found: "LocateUnsearched", of: flat, wrap: namesNoField},
	{name: "checks-nothing", found: "CheckFlat", of: flat, wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), check: func([]connectors.Finding, error) ([]connectors.Finding, error) { return nil, nil }}
	}},
	{name: "reads-no-lists", found: "SharedRecords", of: flat, wrap: readsNoLists},
	{name: "reads-no-lists", found: "RandomRecords", of: flat, wrap: readsNoLists},
	{name: "says-who", found: "ErrorsNameNobody", of: flat, wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		if err := db.Erase(ctx, j); err != nil {
			return connectors.Permanent(dsr.CodeInvalid, "cannot erase "+j.Batch[0].Identifiers[0].Value.Reveal(), "", err)
		}
		return nil
	})},
	{name: "one-fault-stops-all", found: "ErrorsNameNobody", of: flat, wrap: spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		if j.Limits.RowsPerRequest > 0 {
			return &connectors.SubjectError{Subject: "a", Err: connectors.Permanent(dsr.CodeOverCap, "too many rows", "", nil)}
		}
		return db.Erase(ctx, j)
	})},
}, sweepDefects)

// namesNoField passes over text that the map does not declare.
func namesNoField(_ *connectors.System, open func() *memory.DB) connectors.Connector {
	return &defective{DB: open(), locate: func(l connectors.Located, err error) (connectors.Located, error) {
		l.Unsearched = nil
		return l, err
	}}
}

// blind finds nothing when it searches again.
func blind(_ *connectors.System, open func() *memory.DB) connectors.Connector {
	return &defective{DB: open(), verify: func([]dsr.Residue, error) ([]dsr.Residue, error) { return nil, nil }}
}

// neverWaits calls residue what cannot go yet.
func neverWaits(_ *connectors.System, open func() *memory.DB) connectors.Connector {
	return &defective{DB: open(), verify: func(left []dsr.Residue, err error) ([]dsr.Residue, error) {
		for i := range left {
			left[i].Waits = nil
		}
		return left, err
	}}
}

// ignoresHolds erases what is held.
func ignoresHolds(sys *connectors.System, open func() *memory.DB) connectors.Connector {
	return spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Held = connectors.Holds{}
		return db.Erase(ctx, j)
	})(sys, open)
}

// readsNoLists sees only the first of a repeated field's values, which is nobody's.
func readsNoLists(sys *connectors.System, open func() *memory.DB) connectors.Connector {
	return spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			e := &sys.Entities[i]
			e.Fields = slices.DeleteFunc(slices.Clone(e.Fields), func(f connectors.Field) bool { return f.Name == "recipients" || f.Name == "to" })
		}
	})(sys, open)
}

func TestSuiteFindsDefects(t *testing.T) {
	t.Parallel()
	var list []connectortest.Defect
	for _, d := range defects {
		of := d.of
		if of == nil {
			of = backend
		}
		list = append(list, connectortest.Defect{Name: d.name, Found: d.found, Fresh: of(d.wrap)})
	}
	connectortest.FindsDefects(t, list)
}
