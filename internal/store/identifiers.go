package store

import (
	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

type identifierRow struct {
	ID         int64  `gorm:"->;autoIncrement:false"` // order of arrival
	Request    string `gorm:"primaryKey"`
	Name       string `gorm:"primaryKey"`
	Origin     dsr.Origin
	Source     string
	Ciphertext []byte
	KeyID      string
	Commitment string `gorm:"primaryKey"`
}

func (identifierRow) TableName() string { return "identifiers" }

type dataKeyRow struct {
	Request string `gorm:"primaryKey"`
	Wrapped []byte
}

func (dataKeyRow) TableName() string { return "data_keys" }

func (t *tx) AddIdentifiers(ids ...engine.SealedIdentifier) error {
	rows := make([]identifierRow, len(ids))
	for i, s := range ids {
		rows[i] = identifierRow{
			Request: s.Request, Name: s.Name, Origin: s.Origin, Source: s.Source, Ciphertext: s.Ciphertext,
			KeyID: s.KeyID, Commitment: s.Commitment,
		}
	}
	return create(t, rows, clause.OnConflict{DoNothing: true})
}

func (t *tx) IdentifiersOf(requests ...string) (map[string][]engine.SealedIdentifier, error) {
	of := make(map[string][]engine.SealedIdentifier, len(requests))
	if len(requests) == 0 {
		return of, nil
	}
	rows, err := find[identifierRow](t, t.db.Where(t.in("request", requests)).Order("id"))
	for _, w := range rows {
		of[w.Request] = append(of[w.Request], engine.SealedIdentifier{
			Request: w.Request, Name: w.Name, Origin: w.Origin, Source: w.Source, Ciphertext: w.Ciphertext,
			KeyID: w.KeyID, Commitment: w.Commitment,
		})
	}
	return of, err
}

// PutDataKey replaces a key that is there.
func (t *tx) PutDataKey(request string, wrapped []byte) error {
	c := clause.OnConflict{
		Columns:   []clause.Column{{Name: "request"}},
		DoUpdates: clause.AssignmentColumns([]string{"wrapped"}),
	}
	return create(t, []dataKeyRow{{Request: request, Wrapped: wrapped}}, c)
}

// DataKeys leaves out Requests that are forgotten.
func (t *tx) DataKeys(requests ...string) (map[string][]byte, error) {
	keys := make(map[string][]byte, len(requests))
	if len(requests) == 0 {
		return keys, nil
	}
	rows, err := find[dataKeyRow](t, t.db.Where(t.in("request", requests)))
	for _, w := range rows {
		keys[w.Request] = w.Wrapped
	}
	return keys, err
}

func (t *tx) ForgetBut(request string, names []string) error {
	if len(names) == 0 {
		names = []string{""} // nobody's name: an empty list is NULL to SQL, and nothing is outside it
	}
	return t.write(nil, "UPDATE identifiers SET ciphertext = NULL WHERE request = ? AND NOT (?) AND ciphertext IS NOT NULL",
		request, t.in("name", names))
}

func (t *tx) Forget(requests ...string) error {
	if len(requests) == 0 {
		return nil
	}
	if err := t.write(nil, "DELETE FROM data_keys WHERE ?", t.in("request", requests)); err != nil {
		return err
	}
	return t.write(nil, "UPDATE identifiers SET ciphertext = NULL WHERE ? AND ciphertext IS NOT NULL",
		t.in("request", requests))
}
