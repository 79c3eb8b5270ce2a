package engine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// Config is what an Engine is made of. Store, Cipher, Committer and Time are required.
type Config struct {
	Store      Store
	Cipher     Cipher
	Committer  Committer
	Packager   Packager // nil: access requests need attention when their package is due
	Pseudonyms mask.Keyring
	Kinds      []connectors.Kind // the connectors that a map may name
	// Decorate wraps every connector that is opened (retry, rate, metrics); nil leaves them as they are.
	Decorate func(s *connectors.System, c connectors.Connector) connectors.Connector
	// Getenv resolves ${VARIABLES} of data maps.
	Getenv func(string) (string, bool)
	// Calendar returns the working days of a country (ISO 3166-1 alpha-2); nil knows weekends only.
	Calendar func(country string) (dsr.Calendar, error)
	Time     Time
	Logger   *slog.Logger
	Policy   Policy
	Metrics  Metrics // nil measures nothing
	// Step is called at every named step of a Journal; tests count and interrupt it. Nil in production.
	Step func(run, name string)
}

// Policy holds the numbers that an operator may set. Zero values take the defaults that are named.
type Policy struct {
	AutoApprove     []AutoApproval
	RequestsPerHour map[dsr.Kind]int64 // filed per hour; a Plan above halts in needs_attention; 0 or absent is no cap
	PackageTTL      time.Duration      // how long an access package is kept: 30 days
	FinishedTTL     time.Duration      // how long a finished Request is kept: 3 years
	LinkTTL         time.Duration      // how long a download link works: 24 hours
	Lease           time.Duration      // how long a Run is its worker's without a sign of life: 90 s
	Slice           time.Duration      // how long one slice works: 20 s, never above 30 s
	BatchSize       int                // Tasks in one Run: 250
	Attempts        int                // transient faults in a row before a Task fails: 8
	Backoff         time.Duration      // pause after the first transient fault, doubled at each: 2 s
	ResidueRounds   int                // erasures of one Request before Residue needs attention: 3
	FindingsTTL     time.Duration      // how long a System's check is believed: 1 minute
	CountMargin     float64            // how far a count may be above the Plan: 0.10, and CountSlack rows
	CountSlack      int64              // 100
	Retention       RetentionPolicy
}

// RetentionPolicy says when, and how gently, deletion rules are carried out.
type RetentionPolicy struct {
	Schedule string          // cron expression by the wall clock of the controller: "30 2 * * *"
	Window   Window          // in which Sweeps work that nobody asked to work now: all day
	Pace     connectors.Pace // Stop is the engine's own
	Together int             // Sweeps of one System that work at once, across all workers: 1
}

// AutoApproval approves a Plan by itself when everything that it names is true.
type AutoApproval struct {
	Name     string
	Kinds    []dsr.Kind
	FiledBy  []string // principals; empty is anyone
	Verified bool     // only where the subject's identity is verified
	MaxRows  int64    // rows over all systems; 0 is no limit
}

// Metrics takes the engine's numbers. Labels are names of kinds, states, systems and phases.
type Metrics interface {
	Transition(kind dsr.Kind, from, to dsr.State)
	Finished(kind dsr.Kind, state dsr.State, took time.Duration)
	RunDone(system string, phase dsr.Phase, members int, took time.Duration)
	TaskFailed(system string, phase dsr.Phase, reason string)
	SweepEnded(s *retention.Sweep)
}

// Engine carries out the use cases and the work. It is safe for concurrent use.
type Engine struct {
	c     Config
	kinds map[string]connectors.Kind
	maps  atlases
	conns connections
	holds refreshed
}

var (
	_ UseCases  = (*Engine)(nil)
	_ Retention = (*Engine)(nil)
	_ Worker    = (*Engine)(nil)
)

// NewRequest is what intake is given. Identifiers are as a person wrote them.
type NewRequest struct {
	Kind        dsr.Kind
	Tenant      string
	Scope       dsr.Scope
	Identifiers []RawIdentifier
	Received    time.Time // zero is now
	Ground      string    // Art. 17(1) letter
	Verified    bool      // identity is asserted by the caller
	Method      string    // how it was verified: a stable code such as "session" or "email-code"
	Language    string    // BCP 47, for the package and the notices
	// Duplicate links the Request to an open one of the same subject and kind instead of refusing it.
	Duplicate bool
}

// RawIdentifier is an identifier before normalisation.
type RawIdentifier struct {
	Name  string
	Value dsr.Secret
}

// Filter selects a page of Requests; see [RequestFilter]. Identifier searches by commitment.
type Filter struct {
	Kind       dsr.Kind
	States     []dsr.State
	Tenant     string
	Identifier *RawIdentifier
	Cursor     string
	Limit      int
}

// SystemStatus is one System of the current data map as Lethe sees it.
type SystemStatus struct {
	Name         string                  `json:"name"`
	Connector    string                  `json:"connector"`
	Entities     int                     `json:"entities"`
	Teaches      bool                    `json:"teaches"`
	Capabilities connectors.Capabilities `json:"capabilities"`
	Pending      int64                   `json:"pending"`
	Failed       int64                   `json:"failed"`
	Checked      *time.Time              `json:"checked,omitempty"`
	Findings     []connectors.Finding    `json:"findings,omitempty"`
	Problem      string                  `json:"problem,omitempty"` // why it could not be checked, without any value
}

// CheckResult is what a System's Check found.
type CheckResult struct {
	System   string               `json:"system"`
	At       time.Time            `json:"at"`
	Findings []connectors.Finding `json:"findings"`
}

// Preview is a Plan without a Request.
type Preview struct {
	Kind       dsr.Kind       `json:"kind"`
	MapVersion int            `json:"map_version"`
	Lines      []dsr.PlanLine `json:"lines"`
	Unsearched []string       `json:"unsearched,omitempty"`
	Copies     []dsr.Copy     `json:"copies,omitempty"`
	Learned    map[string]int `json:"learned,omitempty"` // number of identifiers learned, by name
	Problems   []Problem      `json:"problems,omitempty"`
}

// Problem is one reason why a Request would need attention.
type Problem struct {
	Code   string `json:"code"`
	System string `json:"system,omitempty"`
	Entity string `json:"entity,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// Link is a one-time download link of an access package. Token is shown once.
type Link struct {
	Token   dsr.Secret
	Expires time.Time
}

// OpenedPackage streams a plain access package. Close it.
type OpenedPackage struct {
	io.ReadCloser
	Info *Package
}

// UseCases is everything that API, pages and commands may ask of the engine. [Engine] implements it. Decisions take
// the Version that the caller saw; CodeConflict when the Request has moved on. A Request that the actor may not see is
// CodeNotFound.
type UseCases interface {
	File(ctx context.Context, a dsr.Actor, n NewRequest) (*dsr.Request, error)
	Get(ctx context.Context, a dsr.Actor, id string) (*dsr.Request, error)
	List(ctx context.Context, a dsr.Actor, f Filter) (page []*dsr.Request, next string, err error)
	Plan(ctx context.Context, a dsr.Actor, id string) (hash string, p *dsr.Plan, err error)
	Tasks(ctx context.Context, a dsr.Actor, id string) ([]*dsr.Task, error)
	Events(ctx context.Context, a dsr.Actor, id string, after int64, limit int) ([]dsr.Event, error)
	// Reveal shows a Request's identifiers to a person who gave a reason, and notes it.
	Reveal(ctx context.Context, a dsr.Actor, id, reason string) ([]dsr.Identifier, error)

	// ConfirmIdentity ends awaiting_identity; method is a stable code of how it was done.
	ConfirmIdentity(ctx context.Context, a dsr.Actor, id string, version int64, method string) (*dsr.Request, error)
	// Instruct records the controller's instruction; reference is the processor's own file number, not a person's name.
	Instruct(ctx context.Context, a dsr.Actor, id string, version int64, reference string) (*dsr.Request, error)
	// Approve approves the Plan with this hash. The approver is not who filed the Request (CodeFourEyes).
	Approve(ctx context.Context, a dsr.Actor, id string, version int64, hash string) (*dsr.Request, error)
	Refuse(ctx context.Context, a dsr.Actor, id string, version int64, article, reason string) (*dsr.Request, error)
	Extend(ctx context.Context, a dsr.Actor, id string, version int64, reason string) (*dsr.Request, error)
	// Pause stops the clock; reason is "identity" or "clarification".
	Pause(ctx context.Context, a dsr.Actor, id string, version int64, reason string) (*dsr.Request, error)
	Resume(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error)
	Cancel(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error)
	// Retry takes a Request out of needs_attention, to the phase that stopped. One that is deferred, for anything but a Hold on
	// its subject, is looked at again at once.
	Retry(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error)
	// CompleteTask ends one manual Task with a count of the records that a person handled.
	CompleteTask(ctx context.Context, a dsr.Actor, id string, version int64, task string, records int64) (*dsr.Request, error)

	PackageInfo(ctx context.Context, a dsr.Actor, id string) (*Package, error)
	PackageLink(ctx context.Context, a dsr.Actor, id string) (*Link, error)
	// OpenPackage spends a link. Nobody is logged in when a subject follows it.
	OpenPackage(ctx context.Context, token dsr.Secret) (*OpenedPackage, error)

	Systems(ctx context.Context, a dsr.Actor) ([]SystemStatus, error)
	CheckSystem(ctx context.Context, a dsr.Actor, name string) (*CheckResult, error)
	Preview(ctx context.Context, a dsr.Actor, n NewRequest) (*Preview, error)

	// LoadMap validates a data map without storing it; ActivateMap stores it as the newest version and returns it.
	LoadMap(ctx context.Context, yaml []byte) error
	ActivateMap(ctx context.Context, a dsr.Actor, yaml []byte) (int, error)
	CurrentMap(ctx context.Context) (*StoredMap, error)
	Stats(ctx context.Context) (Stats, error)
}

// Worker is what the job runner calls. An error means that the job should be tried again; everything that a person
// must know is in the Requests by then.
type Worker interface {
	Gather(ctx context.Context, w Gather) error
	Slice(ctx context.Context, w Slice) error
	Assemble(ctx context.Context, w Assemble) error
	SweepSlice(ctx context.Context, w SweepSlice) error
	CountDue(ctx context.Context, w CountDue) error
	Heed(ctx context.Context, w Heed) error
	Tick(ctx context.Context, w Tick) error
	// Ticks says which Ticks to run and how often.
	Ticks() map[string]time.Duration
}

// New returns an Engine. It opens nothing: connectors connect when they are first used.
func New(c Config) (*Engine, error) {
	if c.Store == nil || c.Cipher == nil || c.Committer == nil || c.Time == nil {
		return nil, errors.New("engine: Store, Cipher, Committer and Time are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Getenv == nil {
		c.Getenv = func(string) (string, bool) { return "", false }
	}
	c.Policy.fill()
	if _, err := parseSchedule(c.Policy.Retention.Schedule, time.UTC); err != nil {
		return nil, err
	}
	e := &Engine{
		c: c, kinds: map[string]connectors.Kind{},
		maps:  atlases{byNo: map[int]*atlas{}},
		conns: connections{open: map[connectionKey]*connection{}},
	}
	for _, k := range c.Kinds {
		e.kinds[k.Name] = k
	}
	return e, nil
}

// fill sets the defaults.
func (p *Policy) fill() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&p.PackageTTL, 30 * 24 * time.Hour},
		{&p.FinishedTTL, 3 * 365 * 24 * time.Hour},
		{&p.LinkTTL, 24 * time.Hour},
		{&p.Lease, 90 * time.Second},
		{&p.Slice, 20 * time.Second},
		{&p.Backoff, 2 * time.Second},
		{&p.FindingsTTL, time.Minute},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	p.Slice = min(p.Slice, 30*time.Second)
	p.BatchSize = cmp.Or(p.BatchSize, 250)
	p.Attempts = cmp.Or(p.Attempts, 8)
	p.ResidueRounds = cmp.Or(p.ResidueRounds, 3)
	p.CountMargin = cmp.Or(p.CountMargin, 0.10)
	p.CountSlack = cmp.Or(p.CountSlack, 100)
	p.Retention.Schedule = cmp.Or(p.Retention.Schedule, "30 2 * * *")
}

// now is the time to the microsecond, which is what databases keep: what is answered first and what is read later are
// the same.
func (e *Engine) now() time.Time { return e.c.Time.Now().Truncate(time.Microsecond) }
