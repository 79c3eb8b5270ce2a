package store

import (
	"time"

	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

type holdRow struct {
	ID          string `gorm:"primaryKey"`
	Restriction bool
	Tenant      string
	System      string
	Entity      string
	Conditions  []dsr.Condition `gorm:"serializer:json"`
	Reference   string
	Request     string
	Review      *time.Time
	PlacedBy    string
	LiftedBy    string
	CreatedAt   time.Time `gorm:"autoCreateTime:false"`
	LiftedAt    *time.Time
	DataKey     []byte
	Version     int64
	Unlearned   string
}

func (holdRow) TableName() string { return "holds" }

func (w *holdRow) hold() *dsr.Hold {
	h := &dsr.Hold{
		ID: w.ID, Restriction: w.Restriction, Tenant: w.Tenant, System: w.System, Entity: w.Entity, When: w.Conditions,
		Reference: w.Reference, Request: w.Request, PlacedBy: w.PlacedBy, LiftedBy: w.LiftedBy, CreatedAt: utc(w.CreatedAt),
		LiftedAt: utcPtr(w.LiftedAt), Version: w.Version, Unlearned: w.Unlearned,
	}
	if w.Review != nil {
		h.Review = utc(*w.Review)
	}
	return h
}

// review is nil where none is set.
func review(h *dsr.Hold) *time.Time {
	if h.Review.IsZero() {
		return nil
	}
	return stampPtr(&h.Review)
}

type holdIdentifierRow struct {
	ID         int64  `gorm:"->;autoIncrement:false"`
	Hold       string `gorm:"primaryKey"`
	Name       string `gorm:"primaryKey"`
	Origin     dsr.Origin
	Source     string
	Ciphertext []byte
	KeyID      string
	Commitment string `gorm:"primaryKey"`
}

func (holdIdentifierRow) TableName() string { return "hold_identifiers" }

func (t *tx) InsertHold(h *dsr.Hold, dataKey []byte) error {
	h.Version = max(h.Version, 1)
	return create(t, []holdRow{{
		ID: h.ID, Restriction: h.Restriction, Tenant: h.Tenant, System: h.System, Entity: h.Entity, Conditions: h.When,
		Reference: h.Reference, Request: h.Request, Review: review(h), PlacedBy: h.PlacedBy, LiftedBy: h.LiftedBy,
		CreatedAt: stamp(h.CreatedAt), LiftedAt: stampPtr(h.LiftedAt), DataKey: dataKey, Version: h.Version, Unlearned: h.Unlearned,
	}})
}

func (t *tx) HoldOf(id string) (*dsr.Hold, error) {
	row, err := take[holdRow](t, t.db.Where("id = ?", id), "hold")
	if err != nil {
		return nil, err
	}
	sealed, err := t.sealedHolds([]holdRow{*row})
	if err != nil {
		return nil, err
	}
	return sealed[0].Hold, nil
}

func (t *tx) UpdateHold(h *dsr.Hold) error {
	err := t.write(
		all(1, &dsr.Error{Code: dsr.CodeConflict, Msg: "the hold has changed meanwhile", Hint: "read it again"}),
		"UPDATE holds SET review = ?, lifted_by = ?, lifted_at = ?, version = version + 1 WHERE id = ? AND version = ?",
		review(h), h.LiftedBy, stampPtr(h.LiftedAt), h.ID, h.Version,
	)
	h.Version++
	return err
}

func (t *tx) SetUnlearned(id, why string) error {
	return t.write(nil, "UPDATE holds SET unlearned = ? WHERE id = ?", why, id)
}

func (t *tx) AddHoldIdentifiers(ids ...engine.SealedIdentifier) error {
	rows := make([]holdIdentifierRow, len(ids))
	for i, s := range ids {
		rows[i] = holdIdentifierRow{
			Hold: s.Request, Name: s.Name, Origin: s.Origin, Source: s.Source, Ciphertext: s.Ciphertext, KeyID: s.KeyID,
			Commitment: s.Commitment,
		}
	}
	return create(t, rows, clause.OnConflict{DoNothing: true})
}

func (t *tx) OpenHolds() ([]engine.SealedHold, error) {
	rows, err := find[holdRow](t, t.db.Where("lifted_at IS NULL").Order("id"))
	if err != nil {
		return nil, err
	}
	return t.sealedHolds(rows)
}

func (t *tx) LastingHolds() ([]string, error) {
	rows, err := find[holdRow](t, t.db.Select("id").Where("lifted_at IS NULL"))
	ids := make([]string, len(rows))
	for i, w := range rows {
		ids[i] = w.ID
	}
	return ids, err
}

// sealedHolds reads the identifiers that belong to Holds.
func (t *tx) sealedHolds(rows []holdRow) ([]engine.SealedHold, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]string, len(rows))
	for i, w := range rows {
		ids[i] = w.ID
	}
	identifiers, err := find[holdIdentifierRow](t, t.db.Where(t.in("hold", ids)).Order("id"))
	if err != nil {
		return nil, err
	}
	of := map[string][]engine.SealedIdentifier{}
	for _, w := range identifiers {
		of[w.Hold] = append(of[w.Hold], engine.SealedIdentifier{
			Request: w.Hold, Name: w.Name, Origin: w.Origin, Source: w.Source, Ciphertext: w.Ciphertext, KeyID: w.KeyID,
			Commitment: w.Commitment,
		})
	}
	out := make([]engine.SealedHold, 0, len(rows))
	for _, row := range rows {
		h := row.hold()
		for _, s := range of[h.ID] {
			h.Commitments = append(h.Commitments, s.Commitment)
		}
		out = append(out, engine.SealedHold{Hold: h, Sealed: of[h.ID], DataKey: row.DataKey})
	}
	return out, nil
}

func (t *tx) HoldsOn(tenant string, commitments []string) ([]*dsr.Hold, error) {
	if len(commitments) == 0 {
		return nil, nil
	}
	rows, err := find[holdRow](t, t.db.Where("lifted_at IS NULL AND tenant = ? AND id IN (SELECT hold FROM hold_identifiers WHERE ?)",
		tenant, t.in("commitment", commitments)).Order("id"))
	if err != nil {
		return nil, err
	}
	return t.withCommitments(rows)
}

func (t *tx) withCommitments(rows []holdRow) ([]*dsr.Hold, error) {
	sealed, err := t.sealedHolds(rows)
	hs := make([]*dsr.Hold, len(sealed))
	for i, s := range sealed {
		hs[i] = s.Hold
	}
	return hs, err
}

func (t *tx) ForgetHold(id string) error {
	if err := t.write(nil, "UPDATE holds SET data_key = NULL WHERE id = ?", id); err != nil {
		return err
	}
	return t.write(nil, "UPDATE hold_identifiers SET ciphertext = NULL WHERE hold = ? AND ciphertext IS NOT NULL", id)
}

// ListHolds returns at most 500 a page, 50 when f.Limit is zero.
func (t *tx) ListHolds(f engine.HoldSelection) ([]*dsr.Hold, string, error) {
	limit := pageOf(f.Limit)
	q := t.db.Order("id DESC").Limit(limit + 1)
	if f.Lifted {
		q = q.Where("lifted_at IS NOT NULL")
	} else {
		q = q.Where("lifted_at IS NULL")
	}
	if f.Overdue != nil {
		q = q.Where("review < ?", stamp(*f.Overdue))
	}
	if f.Tenants != nil {
		q = q.Where(t.in("tenant", f.Tenants))
	}
	if f.System != "" {
		q = q.Where("system = ?", f.System)
	}
	if f.Request != "" {
		q = q.Where("request = ?", f.Request)
	}
	if f.Commitments != nil {
		q = q.Where("id IN (SELECT hold FROM hold_identifiers WHERE ?)", t.in("commitment", f.Commitments))
	}
	if f.Cursor != "" {
		q = q.Where("id < ?", f.Cursor)
	}
	rows, err := find[holdRow](t, q)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].ID
	}
	hs, err := t.withCommitments(rows)
	return hs, next, err
}

// pageOf bounds how many rows a page has.
func pageOf(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}
