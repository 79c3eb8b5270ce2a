package engine

import (
	"context"
	"errors"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

var errLater = errors.New("engine: not built yet")

// stub File
func (e *Engine) File(ctx context.Context, a dsr.Actor, n NewRequest) (*dsr.Request, error) {
	panic(errLater)
}

// stub Get
func (e *Engine) Get(ctx context.Context, a dsr.Actor, id string) (*dsr.Request, error) {
	panic(errLater)
}

// stub List
func (e *Engine) List(ctx context.Context, a dsr.Actor, f Filter) (page []*dsr.Request, next string, err error) {
	panic(errLater)
}

// stub Plan
func (e *Engine) Plan(ctx context.Context, a dsr.Actor, id string) (hash string, p *dsr.Plan, err error) {
	panic(errLater)
}

// stub Tasks
func (e *Engine) Tasks(ctx context.Context, a dsr.Actor, id string) ([]*dsr.Task, error) {
	panic(errLater)
}

// stub Events
func (e *Engine) Events(ctx context.Context, a dsr.Actor, id string, after int64, limit int) ([]dsr.Event, error) {
	panic(errLater)
}

// stub ConfirmIdentity
func (e *Engine) ConfirmIdentity(ctx context.Context, a dsr.Actor, id string, version int64, method string) (*dsr.Request, error) {
	panic(errLater)
}

// stub Instruct
func (e *Engine) Instruct(ctx context.Context, a dsr.Actor, id string, version int64, reference string) (*dsr.Request, error) {
	panic(errLater)
}

// stub Approve
func (e *Engine) Approve(ctx context.Context, a dsr.Actor, id string, version int64, hash string) (*dsr.Request, error) {
	panic(errLater)
}

// stub Refuse
func (e *Engine) Refuse(ctx context.Context, a dsr.Actor, id string, version int64, article, reason string) (*dsr.Request, error) {
	panic(errLater)
}

// stub Extend
func (e *Engine) Extend(ctx context.Context, a dsr.Actor, id string, version int64, reason string) (*dsr.Request, error) {
	panic(errLater)
}

// stub Pause
func (e *Engine) Pause(ctx context.Context, a dsr.Actor, id string, version int64, reason string) (*dsr.Request, error) {
	panic(errLater)
}

// stub Resume
func (e *Engine) Resume(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error) {
	panic(errLater)
}

// stub Cancel
func (e *Engine) Cancel(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error) {
	panic(errLater)
}

// stub Retry
func (e *Engine) Retry(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error) {
	panic(errLater)
}

// stub CompleteTask
func (e *Engine) CompleteTask(ctx context.Context, a dsr.Actor, id string, version int64, task string, records int64) (*dsr.Request, error) {
	panic(errLater)
}

// stub PackageInfo
func (e *Engine) PackageInfo(ctx context.Context, a dsr.Actor, id string) (*Package, error) {
	panic(errLater)
}

// stub PackageLink
func (e *Engine) PackageLink(ctx context.Context, a dsr.Actor, id string) (*Link, error) {
	panic(errLater)
}

// stub OpenPackage
func (e *Engine) OpenPackage(ctx context.Context, token dsr.Secret) (*OpenedPackage, error) {
	panic(errLater)
}

// stub Systems
func (e *Engine) Systems(ctx context.Context, a dsr.Actor) ([]SystemStatus, error) { panic(errLater) }

// stub CheckSystem
func (e *Engine) CheckSystem(ctx context.Context, a dsr.Actor, name string) (*CheckResult, error) {
	panic(errLater)
}

// stub Preview
func (e *Engine) Preview(ctx context.Context, a dsr.Actor, n NewRequest) (*Preview, error) {
	panic(errLater)
}

// stub LoadMap
func (e *Engine) LoadMap(ctx context.Context, yaml []byte) error { panic(errLater) }

// stub ActivateMap
func (e *Engine) ActivateMap(ctx context.Context, a dsr.Actor, yaml []byte) (int, error) {
	panic(errLater)
}

// stub CurrentMap
func (e *Engine) CurrentMap(ctx context.Context) (*StoredMap, error) { panic(errLater) }

// stub Stats
func (e *Engine) Stats(ctx context.Context) (Stats, error) { panic(errLater) }

// stub Gather
func (e *Engine) Gather(ctx context.Context, w Gather) error { panic(errLater) }

// stub Slice
func (e *Engine) Slice(ctx context.Context, w Slice) error { panic(errLater) }

// stub Assemble
func (e *Engine) Assemble(ctx context.Context, w Assemble) error { panic(errLater) }

// stub Tick
func (e *Engine) Tick(ctx context.Context, w Tick) error { panic(errLater) }

// stub Ticks
func (e *Engine) Ticks() map[string]time.Duration { panic(errLater) }
