package memory_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/memory"
	"github.com/lethe-gdpr/lethe/dsr"
)

// defective is the reference connector with one defect.
type defective struct {
	*memory.DB
	locate func(connectors.Located, error) (connectors.Located, error)
	verify func([]dsr.Residue, error) ([]dsr.Residue, error)
	erase  func(context.Context, connectors.Job) error
	export func(context.Context, connectors.Job, connectors.SinkFor) error
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
func spoilMap(spoil func(sys *connectors.System)) func(*connectors.System, func() *memory.DB) connectors.Connector {
	return func(sys *connectors.System, open func() *memory.DB) connectors.Connector {
		sys.Entities = slices.Clone(sys.Entities)
		spoil(sys)
		return open()
	}
}

func spoilErase(erase func(db *memory.DB, ctx context.Context, j connectors.Job) error) func(*connectors.System, func() *memory.DB) connectors.Connector {
	return func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, erase: func(ctx context.Context, j connectors.Job) error { return erase(db, ctx, j) }}
	}
}

// defects are connectors that are wrong, by the case of the suite that must find them.
var defects = []struct {
	name, found string
	wrap        func(*connectors.System, func() *memory.DB) connectors.Connector
}{
	{"verify-finds-nothing", "Saboteur", func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), verify: func([]dsr.Residue, error) ([]dsr.Residue, error) { return nil, nil }}
	}},
	{"verify-finds-nothing", "Orphan", func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), verify: func([]dsr.Residue, error) ([]dsr.Residue, error) { return nil, nil }}
	}},
	{"learns-nothing", "LocateTeaching", func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), locate: func(l connectors.Located, err error) (connectors.Located, error) {
			l.Learned = nil
			return l, err
		}}
	}},
	{"guesses", "LocateAmbiguity", func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), locate: func(l connectors.Located, err error) (connectors.Located, error) {
			l.Ambiguous = nil
			return l, err
		}}
	}},
	{"counts-wrong", "LocateReadsOnly", func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), locate: func(l connectors.Located, err error) (connectors.Located, error) {
			for i := range l.Counts {
				l.Counts[i].Rows++
			}
			return l, err
		}}
	}},
	{"ignores-mentions", "Erase", spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].Mentions = nil
		}
	})},
	{"first-owner-only", "SharedOwners", spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].OwnedBy = sys.Entities[i].OwnedBy[:min(1, len(sys.Entities[i].OwnedBy))]
		}
	})},
	{"accessors-own", "Accessors", spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].OwnedBy = slices.Concat(sys.Entities[i].OwnedBy, sys.Entities[i].AccessedBy)
		}
	})},
	{"no-memberships", "Memberships", spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].Owns = nil
		}
	})},
	{"any-type", "Polymorphic", spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].OwnedBy = slices.Clone(sys.Entities[i].OwnedBy)
			for n := range sys.Entities[i].OwnedBy {
				sys.Entities[i].OwnedBy[n].When = nil
			}
		}
	})},
	{"crosses-tenants", "Tenants", spoilMap(func(sys *connectors.System) {
		sys.TenantName = ""
		for i := range sys.Entities {
			sys.Entities[i].Tenant = ""
		}
	})},
	{"ignores-holds", "Held", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Held = connectors.Holds{}
		return db.Erase(ctx, j)
	})},
	{"ignores-limits", "Limits", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Limits = connectors.Limits{}
		return db.Erase(ctx, j)
	})},
	{"ignores-scope", "EraseScope", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Batch = slices.Clone(j.Batch)
		for i := range j.Batch {
			j.Batch[i].Entities = nil
		}
		return db.Erase(ctx, j)
	})},
	{"never-yields", "Slices", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Deadline = j.Deadline.AddDate(100, 0, 0)
		return db.Erase(ctx, j)
	})},
	{"only-yields", "Slices", spoilErase(func(*memory.DB, context.Context, connectors.Job) error { return connectors.ErrYield })},
	{"counts-twice", "BatchSizes", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Journal = generous{j.Journal}
		return db.Erase(ctx, j)
	})},
	{"starts-again", "InterruptedErase", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Journal = forgetful{j.Journal}
		return db.Erase(ctx, j)
	})},
	{"starts-again", "JournalFails", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Journal = forgetful{j.Journal}
		return db.Erase(ctx, j)
	})},
	{"hears-no-fence", "Fenced", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		j.Journal = deaf{j.Journal}
		return db.Erase(ctx, j)
	})},
	{"never-stops", "Cancelled", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		return db.Erase(context.WithoutCancel(ctx), connectors.Job{Batch: j.Batch, Journal: connectortest.NewJournal()})
	})},
	{"does-nothing", "Erase", spoilErase(func(*memory.DB, context.Context, connectors.Job) error { return nil })},
	{"says-who", "ErrorsNameNobody", spoilErase(func(db *memory.DB, ctx context.Context, j connectors.Job) error {
		if err := db.Erase(ctx, j); err != nil {
			return connectors.Permanent(dsr.CodeInvalid, "cannot erase "+j.Batch[0].Identifiers[0].Value.Reveal(), "", err)
		}
		return nil
	})},
	{"repeats-records", "InterruptedExport", func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, export: func(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
			j.Journal = forgetful{j.Journal}
			return db.Export(ctx, j, sinks)
		}}
	}},
	{"shows-others", "Export", func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
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
}

const defectVariable = "LETHE_TEST_DEFECT"

// TestDefective is what [TestSuiteFindsDefects] runs in a process of its own.
func TestDefective(t *testing.T) {
	var n int
	if _, err := fmt.Sscan(os.Getenv(defectVariable), &n); err != nil {
		t.Skip("runs within TestSuiteFindsDefects")
	}
	connectortest.Run(t, backend(defects[n].wrap))
}

// TestSuiteFindsDefects: a suite that a wrong connector passes proves nothing of a right one.
func TestSuiteFindsDefects(t *testing.T) {
	t.Parallel()
	if os.Getenv(defectVariable) != "" {
		t.Skip("runs outside")
	}
	for n, d := range defects {
		t.Run(d.name+"/"+d.found, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDefective$/^"+d.found+"$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", defectVariable, n))
			out, err := cmd.CombinedOutput()
			var failed *exec.ExitError
			require.ErrorAs(t, err, &failed, "the suite did not find it")
			require.Contains(t, string(out), "--- FAIL: TestDefective/"+d.found)
			require.NotContains(t, string(out), "panic:")
		})
	}
}
