package store

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

type requestRow struct {
	ID           string `gorm:"primaryKey"`
	Kind         dsr.Kind
	State        dsr.State
	Tenant       string
	Scope        dsr.Scope `gorm:"serializer:json"`
	FiledBy      string
	Subject      string
	Ground       string
	MapVersion   int
	PlanHash     string
	ApprovedHash string
	ApprovedBy   string
	Round        int
	Zone         string
	Received     time.Time
	DueUnpaused  time.Time
	Due          time.Time
	Extended     bool
	Pauses       []dsr.Pause `gorm:"serializer:json"`
	Article      string
	Reason       string
	Hint         string
	DeferTo      *time.Time
	Duplicate    string
	Version      int64
	CreatedAt    time.Time `gorm:"autoCreateTime:false"`
	UpdatedAt    time.Time `gorm:"autoUpdateTime:false"`
	ClosedAt     *time.Time
}

func (requestRow) TableName() string { return "requests" }

// mutable are the columns of a Request that a change may touch; who filed it, when and for which subject never change.
var mutable = []string{
	"state", "scope", "ground", "map_version", "plan_hash", "approved_hash", "approved_by", "round", "zone", "received",
	"due_unpaused", "due", "extended", "pauses", "article", "reason", "hint", "defer_to", "duplicate", "version",
	"updated_at", "closed_at", "kind", "tenant", "subject",
}

func rowOfRequest(r *dsr.Request) requestRow {
	pauses := make([]dsr.Pause, len(r.Clock.Pauses))
	for i, p := range r.Clock.Pauses {
		pauses[i] = dsr.Pause{From: stamp(p.From), To: stampPtr(p.To), Reason: p.Reason}
	}
	return requestRow{
		ID: r.ID, Kind: r.Kind, State: r.State, Tenant: r.Tenant, Scope: r.Scope, FiledBy: r.FiledBy, Subject: r.Subject,
		Ground: r.Ground, MapVersion: r.MapVersion, PlanHash: r.PlanHash, ApprovedHash: r.ApprovedHash,
		ApprovedBy: r.ApprovedBy, Round: r.Round, Zone: r.Clock.Due.Location().String(), Received: stamp(r.Clock.Received),
		DueUnpaused: stamp(r.Clock.DueUnpaused), Due: stamp(r.Clock.Due), Extended: r.Clock.Extended, Pauses: pauses,
		Article: r.Article, Reason: r.Reason, Hint: r.Hint, DeferTo: stampPtr(r.DeferTo), Duplicate: r.Duplicate,
		Version: r.Version, CreatedAt: stamp(r.CreatedAt), UpdatedAt: stamp(r.UpdatedAt), ClosedAt: stampPtr(r.ClosedAt),
	}
}

func (w *requestRow) request() *dsr.Request {
	zone := zoneOf(w.Zone)
	var pauses []dsr.Pause
	for _, p := range w.Pauses {
		q := dsr.Pause{From: p.From.In(zone), Reason: p.Reason}
		if p.To != nil {
			to := p.To.In(zone)
			q.To = &to
		}
		pauses = append(pauses, q)
	}
	return &dsr.Request{
		ID: w.ID, Kind: w.Kind, State: w.State, Tenant: w.Tenant, Scope: w.Scope, FiledBy: w.FiledBy, Subject: w.Subject,
		Ground: w.Ground, MapVersion: w.MapVersion, PlanHash: w.PlanHash, ApprovedHash: w.ApprovedHash,
		ApprovedBy: w.ApprovedBy, Round: w.Round,
		Clock: dsr.Clock{
			Received: w.Received.In(zone), DueUnpaused: w.DueUnpaused.In(zone), Due: w.Due.In(zone), Extended: w.Extended,
			Pauses: pauses,
		},
		Article: w.Article, Reason: w.Reason, Hint: w.Hint, DeferTo: utcPtr(w.DeferTo), Duplicate: w.Duplicate,
		Version: w.Version, CreatedAt: utc(w.CreatedAt), UpdatedAt: utc(w.UpdatedAt), ClosedAt: utcPtr(w.ClosedAt),
	}
}

// zones caches time zones by name; loading one reads a file.
var zones sync.Map

// zoneOf returns the zone that a Request's dates are midnights in; UTC when this machine does not know it.
func zoneOf(name string) *time.Location {
	if z, ok := zones.Load(name); ok {
		return z.(*time.Location)
	}
	z, err := time.LoadLocation(name)
	if err != nil {
		z = time.UTC
	}
	zones.Store(name, z)
	return z
}

func requestsOf(rows []requestRow) []*dsr.Request {
	rs := make([]*dsr.Request, len(rows))
	for i := range rows {
		rs[i] = rows[i].request()
	}
	return rs
}

func (t *tx) InsertRequest(r *dsr.Request) error {
	r.Version = max(r.Version, 1)
	return create(t, []requestRow{rowOfRequest(r)})
}

func (t *tx) Request(id string) (*dsr.Request, error) {
	row, err := take[requestRow](t, t.db.Where("id = ?", id), "request")
	if err != nil {
		return nil, err
	}
	return row.request(), nil
}

// LockRequests leaves out ids that do not exist. On SQLite the transaction is the only writer, so there is nothing to
// lock.
func (t *tx) LockRequests(ids ...string) ([]*dsr.Request, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	q := t.db.Where(t.in("id", ids)).Order("id")
	if t.postgres {
		// Not FOR UPDATE: that would also stop others from inserting rows that refer to these.
		q = q.Clauses(clause.Locking{Strength: "NO KEY UPDATE"})
	}
	rows, err := find[requestRow](t, q)
	return requestsOf(rows), err
}

// UpdateRequests sets each Version to what it writes.
func (t *tx) UpdateRequests(rs ...*dsr.Request) error {
	if len(rs) == 0 {
		return nil
	}
	rows := make([]requestRow, len(rs))
	for i, r := range rs {
		rows[i] = rowOfRequest(r)
		rows[i].Version++
	}
	guard := fmt.Sprintf(" AND t.version = v.%s - 1", position(versionPosition))
	for _, r := range rs {
		r.Version++
	}
	whole := all(len(rs), &dsr.Error{Code: dsr.CodeConflict, Msg: "the request has changed meanwhile", Hint: "read it again"})
	return updateBatch(t, rows, "id", mutable, guard, func(changed int64) error {
		err := whole(changed)
		if err != nil {
			for _, r := range rs {
				r.Version--
			}
		}
		return err
	})
}

// versionPosition is where the version stands among the values of updateBatch, whose first is the key.
var versionPosition = func() int {
	for i, c := range mutable {
		if c == "version" {
			return i + 2
		}
	}
	panic("no version")
}()

// cursor is a place in the list of Requests.
type cursor struct {
	Due time.Time `json:"d"`
	ID  string    `json:"i"`
}

func (c cursor) encode() string {
	b, _ := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodeCursor(s string) (cursor, error) {
	var c cursor
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil || c.ID == "" {
		return c, &dsr.Error{
			Code: dsr.CodeInvalid, Field: "cursor", Msg: "is not one that this API gave out",
			Hint: "follow the Link header, or start without a cursor",
		}
	}
	return c, nil
}

const (
	defaultPage = 50
	maxPage     = 500
)

// ListRequests returns at most 500 a page, 50 when f.Limit is zero. A Request that changes its deadline while pages
// are read may be seen twice or not at all; others are seen once.
func (t *tx) ListRequests(f engine.RequestFilter) ([]*dsr.Request, string, error) {
	limit := min(f.Limit, maxPage)
	if limit <= 0 {
		limit = defaultPage
	}
	q := t.db.Order("due, id").Limit(limit + 1)
	if f.Kind != "" {
		q = q.Where("kind = ?", f.Kind)
	}
	if len(f.States) > 0 {
		q = q.Where("state IN ?", f.States)
	}
	if f.Tenants != nil {
		q = q.Where(t.in("tenant", f.Tenants))
	}
	if f.FiledBy != "" {
		q = q.Where("filed_by = ?", f.FiledBy)
	}
	if f.Commitment != "" {
		q = q.Where("id IN (SELECT request FROM identifiers WHERE commitment = ?)", f.Commitment)
	}
	if f.Cursor != "" {
		c, err := decodeCursor(f.Cursor)
		if err != nil {
			return nil, "", err
		}
		q = q.Where("(due, id) > (?, ?)", stamp(c.Due), c.ID)
	}
	rows, err := find[requestRow](t, q)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		next = cursor{Due: utc(last.Due), ID: last.ID}.encode()
	}
	return requestsOf(rows), next, nil
}

// fewCommitments is what the identifiers of one Request come to, under a few live keys.
const fewCommitments = 64

// OpenRequests makes transactions that ask for the same few commitments take turns until they end, so that of two
// duplicates that are filed at once the second sees the first.
// LockSubjects takes advisory locks on PostgreSQL, in one order; on SQLite the transaction is the only writer.
func (t *tx) LockSubjects(commitments ...string) error {
	if !t.postgres {
		return nil
	}
	for _, c := range slices.Compact(slices.Sorted(slices.Values(commitments))) {
		if _, err := t.exec("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", c); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) OpenRequests(kind dsr.Kind, tenant string, commitments []string) ([]string, error) {
	if len(commitments) == 0 {
		return nil, nil
	}
	if t.postgres && len(commitments) <= fewCommitments {
		err := t.write(nil, `SELECT pg_advisory_xact_lock(hashtextextended(c, 0))
			FROM (SELECT DISTINCT c FROM unnest(CAST(? AS text[])) c ORDER BY c) AS sorted`, textArray(commitments))
		if err != nil {
			return nil, err
		}
	}
	// Two steps, since a planner without statistics may start a join at the wrong end; mostly the first finds nothing.
	var ids []string
	err := t.scan(&ids, "SELECT DISTINCT request FROM identifiers WHERE ?", t.in("commitment", commitments))
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	var open []string
	err = t.scan(&open, `SELECT id FROM requests WHERE ? AND kind = ? AND tenant = ? AND closed_at IS NULL
		AND state NOT IN ? ORDER BY id`, t.in("id", ids), kind, tenant, finalStates)
	return open, err
}

var finalStates = []dsr.State{dsr.Completed, dsr.CompletedWithExceptions, dsr.Refused, dsr.Cancelled}

func (t *tx) CountRequestsSince(kind dsr.Kind, since time.Time) (int64, error) {
	var n int64
	err := t.scan(&n, "SELECT count(*) FROM requests WHERE kind = ? AND created_at >= ?", kind, stamp(since))
	return n, err
}

func (t *tx) Stats(now time.Time) (engine.Stats, error) {
	s := engine.Stats{Open: map[dsr.Kind]map[dsr.State]int64{}, Pending: map[string]int64{}, Failed: map[string]int64{}}
	var open []struct {
		Kind  dsr.Kind
		State dsr.State
		N     int64
	}
	err := t.scan(&open, `SELECT kind, state, count(*) AS n FROM requests WHERE closed_at IS NULL AND state NOT IN ?
		GROUP BY kind, state`, finalStates)
	if err != nil {
		return s, err
	}
	for _, o := range open {
		if s.Open[o.Kind] == nil {
			s.Open[o.Kind] = map[dsr.State]int64{}
		}
		s.Open[o.Kind][o.State] = o.N
	}
	nearest, err := find[requestRow](t, t.db.Where("closed_at IS NULL AND state NOT IN ?", finalStates).Order("due").Limit(1))
	if err != nil {
		return s, err
	}
	if len(nearest) == 1 {
		s.NearestDue = &nearest[0].request().Clock.Due
	}
	var tasks []struct {
		System string
		State  dsr.TaskState
		N      int64
	}
	err = t.scan(&tasks, `SELECT system, state, count(*) AS n FROM tasks WHERE state <> 'done' AND state <> 'cancelled'
		GROUP BY system, state`)
	for _, k := range tasks {
		if k.State == dsr.TaskFailed {
			s.Failed[k.System] += k.N
		} else {
			s.Pending[k.System] += k.N
		}
	}
	if err != nil {
		return s, err
	}
	return s, t.retentionStats(&s, now)
}
