package engine

import (
	"context"
	"io"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/ledger"
	"github.com/lethe-gdpr/lethe/retention"
)

// Store is the control plane's database. InTx is the one way to a transaction: a state change, its timeline entry,
// its ledger leaf and the next job commit together or not at all.
type Store interface {
	// InTx runs fn in one transaction and commits when it returns nil. It runs fn again when the database reports a
	// serialisation failure or a deadlock, so fn must not have effects outside tx. fn must not call InTx.
	InTx(ctx context.Context, fn func(tx Tx) error) error
}

// Tx is one transaction's view of the control plane. It is not safe for concurrent use. Methods that take several
// rows write them in one statement. A row that is not there is a *dsr.Error with CodeNotFound.
type Tx interface {
	Requests
	Identifiers
	Timeline
	Plans
	Tasks
	Runs
	Spool
	Evidence
	Maps
	Packages
	Upkeep
	Holds
	Sweeps
	Rules
	// Enqueue inserts the job that does w, not before at (zero is now).
	Enqueue(w Work, at time.Time) error
}

// Work names one kind of job and its arguments: ids only, never an identifier. It has the shape of River's job
// arguments, so that this package need not import River.
type Work interface{ Kind() string }

// Requests stores Requests.
type Requests interface {
	InsertRequest(r *dsr.Request) error
	Request(id string) (*dsr.Request, error)
	// LockRequests locks and returns the rows in id order.
	LockRequests(ids ...string) ([]*dsr.Request, error)
	// UpdateRequests writes rows whose Version is unchanged and adds one to each; CodeConflict otherwise.
	UpdateRequests(rs ...*dsr.Request) error
	ListRequests(f RequestFilter) (page []*dsr.Request, next string, err error)
	// LockSubjects holds off other transactions that lock one of the commitments until this one ends, so that two
	// Requests filed at once see each other.
	LockSubjects(commitments ...string) error
	// OpenRequests returns ids of open Requests of kind that have one of the identifier commitments.
	OpenRequests(kind dsr.Kind, tenant string, commitments []string) ([]string, error)
	CountRequestsSince(kind dsr.Kind, t time.Time) (int64, error)
	// Stats counts open Requests by kind and state, finds the nearest due date, and sums up retention.
	Stats(now time.Time) (Stats, error)
}

// RequestFilter selects a page of Requests, nearest deadline first.
type RequestFilter struct {
	Kind       dsr.Kind
	States     []dsr.State
	Tenants    []string // nil is every tenant
	FiledBy    string   // what a portal key may see
	Commitment string   // exact identifier, by its commitment
	Cursor     string
	Limit      int
}

// Stats feeds the metrics.
type Stats struct {
	Open       map[dsr.Kind]map[dsr.State]int64
	NearestDue *time.Time
	Pending    map[string]int64 // Tasks not done, by System
	Failed     map[string]int64 // Tasks failed, by System

	Sweeps       map[retention.SweepState]int64 // Sweeps that have not come to their end
	SweepsHalted bool                           // every Sweep is stopped
	Rules        []retention.RuleState          // of every rule that was ever looked at, by name
	Active       map[string]bool                // whether a rule runs: not paused, approved where it must be; the engine's to say
	LegalHolds   int64                          // that last
	Restrictions int64                          // that last
	OverdueHolds int64                          // that last and whose review date has passed
}

// SealedIdentifier is an identifier as it is stored: encrypted under the data key of its Request or Hold, and a
// commitment.
type SealedIdentifier struct {
	Request    string // or the Hold
	Name       string
	Origin     dsr.Origin
	Source     string
	Ciphertext []byte // nil once forgotten
	KeyID      string // of the commitment key
	Commitment string
}

// Identifiers stores sealed identifiers and the wrapped data keys that open them.
type Identifiers interface {
	// AddIdentifiers ignores those whose (Request, Name, Commitment) is there already.
	AddIdentifiers(ids ...SealedIdentifier) error
	IdentifiersOf(requests ...string) (map[string][]SealedIdentifier, error)
	PutDataKey(request string, wrapped []byte) error
	DataKeys(requests ...string) (map[string][]byte, error)
	// ForgetBut destroys the ciphertexts of a Request's identifiers of other names.
	ForgetBut(request string, names []string) error
	// Forget destroys the data keys and ciphertexts of the Requests; commitments of Requests stay for their retention.
	Forget(requests ...string) error
}

// Timeline stores Events.
type Timeline interface {
	AddEvents(es ...dsr.Event) error
	// Events returns those after the id, oldest first.
	Events(request string, after int64, limit int) ([]dsr.Event, error)
}

// Plans stores the latest Plan of each Request.
type Plans interface {
	PutPlan(hash string, p *dsr.Plan) error
	PlanOf(request string) (hash string, p *dsr.Plan, err error)
	// PlansOf returns the latest Plans of several Requests; one without a Plan is absent.
	PlansOf(requests ...string) (map[string]*dsr.Plan, error)
	// PutPlans stores several Plans, each under its own Hash.
	PutPlans(ps ...*dsr.Plan) error
}

// Tasks stores Tasks; one per Request and System.
type Tasks interface {
	InsertTasks(ts ...*dsr.Task) error
	TasksOf(requests ...string) ([]*dsr.Task, error) // ordered by Request, System
	UpdateTasks(ts ...*dsr.Task) error
	// ClaimTasks makes up to limit pending Tasks whose NotBefore has come members of run. Two callers never get the
	// same Task (FOR UPDATE SKIP LOCKED).
	ClaimTasks(run, system string, phase dsr.Phase, mapVersion int, now time.Time, limit int) ([]*dsr.Task, error)
	// PendingMapVersions returns the map versions that pending, due Tasks of a system and phase belong to.
	PendingMapVersions(system string, phase dsr.Phase, now time.Time) ([]int, error)
	RunTasks(run string) ([]*dsr.Task, error)
}

// Runs stores Runs, their fenced checkpoints and tallies.
type Runs interface {
	InsertRun(r *dsr.Run) error
	Run(id string) (*dsr.Run, error)
	// AcquireRun takes the lease when it is free, expired, or held under fence; it returns the Run with a higher Fence,
	// or CodeConflict when another worker holds it.
	AcquireRun(id string, fence int64, now time.Time, lease time.Duration) (*dsr.Run, error)
	// SaveRun stores a checkpoint and adds tallies when the Run's Fence is still fence; connectors.ErrFenced otherwise.
	SaveRun(id string, fence int64, until time.Time, checkpoint []byte, done []connectors.Tally) error
	// KeepRun is a sign of life: it extends the lease and nothing else; connectors.ErrFenced as in SaveRun.
	KeepRun(id string, fence int64, until time.Time) error
	FinishRun(id string, fence int64) error
	ExpiredRuns(now time.Time, limit int) ([]*dsr.Run, error)
	TalliesOf(tasks ...string) ([]connectors.Tally, error) // summed by Subject (the Task), Entity, Method, Resolved
}

// SpoolPage is one encrypted page of keys.
type SpoolPage struct {
	Task, Entity string
	Page         []byte
}

// Spool stores encrypted pages of keys by Task.
type Spool interface {
	AppendSpool(task, entity string, page []byte) error
	AppendSpools(pages ...SpoolPage) error
	// EachSpool calls fn with every page of the Tasks for one entity, oldest first, a bounded number in memory.
	EachSpool(tasks []string, entity string, fn func(task string, page []byte) error) error
	DropSpool(tasks ...string) error
}

// Suppression lets an erasure be repeated after a restore, with no identifier kept.
type Suppression struct {
	Request    string
	Tenant     string
	Name       string // identifier's name
	KeyID      string
	Commitment string
	Systems    []string // nil is all
	ErasedAt   time.Time
	Expires    time.Time // when the last backup that may hold the data has expired
}

// Evidence appends what proves the work.
type Evidence interface {
	AppendLeaves(ls ...ledger.Leaf) error
	AddSuppressions(ss ...Suppression) error
}

// StoredMap is one version of the data map.
type StoredMap struct {
	Version int
	Hash    string // SHA-256 of YAML, hex
	YAML    []byte // without the values of environment variables
	At      time.Time
}

// Maps stores every version of the data map.
type Maps interface {
	// PutMap returns the existing version when the newest has the same hash.
	PutMap(hash string, yaml []byte, at time.Time) (int, error)
	Map(version int) (*StoredMap, error)
	LatestMap() (*StoredMap, error)
}

// Package is a finished access package.
type Package struct {
	Request   string
	Path      string // relative to the package store
	Size      int64  // bytes, encrypted
	Records   int64
	SHA256    string // of the plain zip, hex
	DataKey   []byte // wrapped key that opens it
	CreatedAt time.Time
	Expires   time.Time
	RemovedAt *time.Time
}

// Packages stores access packages' metadata and their one-time download links.
type Packages interface {
	PutPackage(p *Package) error
	PackageOf(request string) (*Package, error)
	// PutLink stores the SHA-256 of a link's token.
	PutLink(request, tokenHash string, expires time.Time) error
	// TakeLink marks the link used and returns its Request; CodeNotFound when unknown, used or expired.
	TakeLink(tokenHash string, now time.Time) (string, error)
	ExpiredPackages(now time.Time, limit int) ([]*Package, error)
}

// Upkeep is Lethe's own retention and the durable memory of its schedules.
type Upkeep interface {
	LastRun(name string) (time.Time, error) // zero when never
	SetLastRun(name string, t time.Time) error
	// Clock is the database's own clock; zero where it has none but this machine's.
	Clock() (time.Time, error)
	// Purge deletes what is past Lethe's own retention: finished Requests before closed, spools of closed Requests,
	// expired suppressions and links, Sweeps finished and Holds lifted before closed; at most limit rows a table. It
	// returns how many rows went.
	Purge(closed, now time.Time, limit int) (int64, error)
}

// Cipher makes and opens per-request data keys.
type Cipher interface {
	NewDataKey(ctx context.Context) (wrapped []byte, k DataKey, err error)
	OpenDataKey(ctx context.Context, wrapped []byte) (DataKey, error)
}

// DataKey encrypts what belongs to one Request. The associated data binds a ciphertext to its place.
type DataKey interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
	// SealStream and OpenStream are for packages of any size.
	SealStream(w io.Writer, associated []byte) (io.WriteCloser, error)
	OpenStream(r io.Reader, associated []byte) (io.Reader, error)
}

// Committer makes keyed commitments (HMAC-SHA-256) of normalised identifiers; equal values have equal commitments.
type Committer interface {
	Commit(tenant, name string, value dsr.Secret) (keyID, commitment string, err error)
	// Candidates returns the commitments under every live key, the active one first.
	Candidates(tenant, name string, value dsr.Secret) ([]string, error)
}

// Part is the staging area of one Request's records from one System.
type Part interface {
	connectors.Sink
	Records() int64
	// Mark makes what was written durable and returns a position to Rewind to.
	Mark() (string, error)
	Rewind(mark string) error
	Close() error
}

// Packager stages exports and assembles access packages.
type Packager interface {
	// OpenPart opens or creates a part, encrypted under key.
	OpenPart(request, system string, key DataKey) (Part, error)
	// Assemble builds the encrypted zip from the request's parts and removes them.
	Assemble(ctx context.Context, spec PackageSpec) (*Package, error)
	// Open streams the plain zip.
	Open(p *Package, key DataKey) (io.ReadCloser, error)
	Remove(p *Package) error
	// Discard removes parts of a Request that will not be assembled.
	Discard(request string) error
}

// PackageSpec is what an access package is made of.
type PackageSpec struct {
	Request  *dsr.Request
	Key      DataKey
	Wrapped  []byte
	Systems  []string
	Language string // BCP 47; "en" when empty
	Map      *StoredMap
	Withheld []dsr.PlanLine
	Now      time.Time
	Expires  time.Time
}

// Time is the clock the engine goes by.
type Time interface{ Now() time.Time }
