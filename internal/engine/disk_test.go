package engine_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// fullDisk is a package store whose disk is full for a while.
type fullDisk struct {
	engine.Packager
	part, zip int // how many calls fail
}

func (d *fullDisk) OpenPart(request, system string, key engine.DataKey) (engine.Part, error) {
	if d.part--; d.part >= 0 {
		return nil, syscall.ENOSPC
	}
	return d.Packager.OpenPart(request, system, key)
}

func (d *fullDisk) Assemble(ctx context.Context, s engine.PackageSpec) (*engine.Package, error) {
	if d.zip--; d.zip >= 0 {
		return nil, syscall.ENOSPC
	}
	return d.Packager.Assemble(ctx, s)
}

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		part, zip int
		ends      bool
	}{
		"staging for a while":  {part: 3, ends: true},
		"package for a while":  {zip: 3, ends: true},
		"staging until retry":  {part: 8},
		"package until retry":  {zip: 8},
		"everything, and late": {part: 7, zip: 7, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := sqliteTarget(t, shopSchema+shopRows)
			h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, func(conf *engine.Config) {
				auto(conf)
				conf.Packager = &fullDisk{conf.Packager, c.part, c.zip}
			})
			h.activate(shopMap)
			r := h.file(dsr.Access, "ada@example.com")
			h.drain()
			if !c.ends {
				r = h.wants(r.ID, dsr.NeedsAttention)
				require.NotEmpty(t, r.Hint)
				_, err := h.Retry(t.Context(), operator, r.ID, r.Version)
				require.NoError(t, err)
				h.drain()
			}
			h.wants(r.ID, dsr.Completed)
			p, err := h.PackageInfo(t.Context(), officer, r.ID)
			require.NoError(t, err)
			require.EqualValues(t, 5, p.Records)
			require.EqualValues(t, 2, h.receipts(r.ID)["shop.carts.export"])
		})
	}
}

// panicking is a package store with a defect.
type panicking struct {
	engine.Packager
	times int
}

func (d *panicking) OpenPart(request, system string, key engine.DataKey) (engine.Part, error) {
	if d.times--; d.times >= 0 {
		panic("a defect")
	}
	return d.Packager.OpenPart(request, system, key)
}

func TestAPanicEndsWithAPerson(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, shopSchema+shopRows)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, func(conf *engine.Config) {
		auto(conf)
		conf.Packager = &panicking{conf.Packager, 8}
	})
	h.activate(shopMap)
	r := h.file(dsr.Access, "ada@example.com")
	h.drain()
	r = h.wants(r.ID, dsr.NeedsAttention)
	require.NotEmpty(t, r.Hint)
	_, err := h.Retry(t.Context(), operator, r.ID, r.Version)
	require.NoError(t, err)
	h.drain()
	h.wants(r.ID, dsr.Completed)
}
