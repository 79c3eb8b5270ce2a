package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/config"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/keys"
	"github.com/lethe-gdpr/lethe/internal/store"
)

// Opened is one System of a data map with its connector, outside a server. Connector is nil when it could not be opened:
// Problem says why.
type Opened struct {
	*connectors.System
	connectors.Connector
	Problem error
}

// Close releases connections. No verb runs or is called afterwards.
func (o *Opened) Close() error {
	if o.Connector == nil {
		return nil
	}
	return o.Connector.Close()
}

// CheckMap reads a data map and reports what would stop a request whatever its Systems hold.
func CheckMap(env config.Env, text []byte) ([]connectors.Finding, error) {
	m, err := datamap.Load(text, config.Secrets(env), Kinds())
	if err != nil {
		return nil, err
	}
	return m.Findings(), nil
}

// OpenMap reads a data map and opens the connectors of its Systems, all or the named ones. Nothing is connected to
// until a verb is called. A System that cannot be opened does not keep the others from it. Close each.
func OpenMap(ctx context.Context, c *config.Config, env config.Env, text []byte, names ...string) ([]Opened, error) {
	m, err := datamap.Load(text, config.Secrets(env), Kinds())
	if err != nil {
		return nil, err
	}
	held, err := existingKeys(ctx, c)
	if err != nil {
		return nil, err
	}
	options := connectors.Options{Now: time.Now, Pace: paceOf(&c.Policy.Retention.Pace)}
	if held != nil {
		options.Pseudonyms = held
	}
	wanted := map[string]bool{}
	for _, n := range names {
		if m.System(n) == nil {
			return nil, &dsr.Error{Code: dsr.CodeInvalid, Field: "system", Msg: "the data map has no system " + n}
		}
		wanted[n] = true
	}
	var out []Opened
	for _, s := range m.Systems {
		if len(wanted) > 0 && !wanted[s.Name] {
			continue
		}
		opened, err := Open(ctx, s, options)
		out = append(out, Opened{s, opened, err})
	}
	return out, nil
}

// Open opens one System's connector.
func Open(ctx context.Context, s *connectors.System, o connectors.Options) (connectors.Connector, error) {
	for _, k := range Kinds() {
		if k.Name == s.Connector {
			return k.Open(ctx, s, o)
		}
	}
	return nil, &dsr.Error{Code: dsr.CodeInvalid, Field: "connector", Msg: "there is no connector " + s.Connector}
}

// existingKeys opens the keys of a server that was started with this configuration; nil when there was none.
func existingKeys(ctx context.Context, c *config.Config) (*keys.Keys, error) {
	if _, err := os.Stat(filepath.Join(c.Data, "keys", "keys.json")); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return openKeys(ctx, c)
}

// Preview says what a Request would do, straight from the systems of a data map and without a server. It reads only,
// and leaves nothing behind. Pseudonyms are found when the server's keys are in the configuration's data folder.
func Preview(
	ctx context.Context, c *config.Config, env config.Env, text []byte, n engine.NewRequest,
) (p *engine.Preview, err error) {
	dir, err := os.MkdirTemp("", "lethe-plan-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := store.Open(ctx, "sqlite://"+filepath.Join(dir, "plan.db"), store.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Migrate(ctx); err != nil {
		return nil, err
	}
	held, err := existingKeys(ctx, c)
	if err == nil && held == nil {
		held, err = keys.Open(ctx, dir, nil)
	}
	if err != nil {
		return nil, err
	}
	e, err := engine.New(engine.Config{
		Store: s, Cipher: held, Committer: held, Pseudonyms: held, Kinds: Kinds(), Getenv: config.Secrets(env),
		Time: machineClock{},
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if _, err := e.ActivateMap(ctx, dsr.Engine, text); err != nil {
		return nil, err
	}
	return e.Preview(ctx, dsr.Actor{ID: "plan", Roles: []string{dsr.RoleDPO}}, n)
}
