package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/accesspackage"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
)

// No identifier, known or learned, is in anything that Lethe writes: the control database with its events, leaves,
// plans, tasks and spool, the arguments of jobs, the log, errors, staged parts and packages.
func TestNoIdentifierIsWritten(t *testing.T) {
	t.Parallel()
	canaries := []string{"zebra.canary", "770077007", "was-here-canary"}
	x := sqliteTarget(t, shopSchema+shopRows)
	x.exec(`INSERT INTO customers VALUES (770077007, 'Zebra.Canary@example.com', 'Zebra');
		INSERT INTO carts VALUES (77, 770077007, 'was-here-canary')`)
	control, files := dbtest.SQLite(t), t.TempDir()
	h := open(t, control, map[string]string{"SHOP": x.url}, func(c *engine.Config) {
		auto(c)
		getenv := c.Getenv
		p, err := accesspackage.New(files, func(yaml []byte) (*datamap.Map, error) {
			return datamap.Load(yaml, getenv, sqldb.Kinds())
		})
		require.NoError(t, err)
		c.Packager = p
	})
	h.activate(shopMap)
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	n := 0
	h.hooks.before = func(_ context.Context, _, verb string, j *connectors.Job) error {
		switch n++; {
		case n == 2:
			return errors.New("driver said: zebra.canary@example.com")
		case verb == "verify" && n < 12:
			return &connectors.SubjectError{Subject: j.Batch[0].Ref, Entity: "carts", Err: errors.New("row of 770077007")}
		}
		return nil
	}
	access := h.file(dsr.Access, "ZEBRA.canary@example.com")
	_, err := h.File(t.Context(), filer, engine.NewRequest{Kind: dsr.Access, Identifiers: email("zebra.canary@example.com"), Verified: true})
	require.Error(t, err)
	note(err)
	_, err = h.File(t.Context(), filer, engine.NewRequest{Kind: dsr.Access, Identifiers: email("zebra.canary@example..com"), Verified: true})
	require.Error(t, err)
	note(err)
	h.drain()
	held := h.hold("zebra.canary@example.com", false)
	erasure := h.file(dsr.Erasure, "zebra.canary@example.com")
	h.drain()
	h.wants(erasure.ID, dsr.Deferred)
	_, err = h.PlaceHold(t.Context(), officer, engine.NewHold{Identifiers: email("zebra.canary@example..com"), Restriction: true})
	note(err)
	_, err = h.PlaceHold(t.Context(), officer, engine.NewHold{
		Identifiers: email("zebra.canary@example.com"), Restriction: true, Reference: "zebra.canary@example.com",
	})
	require.Error(t, err)
	note(err)
	h.lift(held)
	h.drain()
	h.wants(access.ID, dsr.Completed)
	h.wants(erasure.ID, dsr.Completed)
	_, err = h.File(t.Context(), filer, engine.NewRequest{
		Kind: dsr.Objection, Identifiers: email("zebra.canary@example.com"), Method: "zebra.canary@example.com was here",
	})
	require.NoError(t, err)

	clean := func(what, text string) {
		for _, c := range canaries {
			require.NotContains(t, strings.ToLower(text), c, what)
		}
	}
	for _, err := range errs {
		clean("error", unwrapAll(err))
	}
	clean("log", h.log.String())
	for _, w := range h.store.all {
		args, err := json.Marshal(w)
		require.NoError(t, err)
		clean("job", string(args))
	}
	for _, root := range []string{filepath.Dir(strings.TrimPrefix(control, "sqlite://")), files} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			body, err := os.ReadFile(path)
			clean(path, path+string(body))
			return err
		})
		require.NoError(t, err)
	}
	es, err := h.Events(t.Context(), officer, erasure.ID, 0, 0)
	require.NoError(t, err)
	require.NotEmpty(t, es)
}
