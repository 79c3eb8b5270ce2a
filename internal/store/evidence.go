package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"time"

	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/ledger"
)

// leafRow keeps a leaf as the bytes that will be hashed; the salt keeps its hash from being guessed.
type leafRow struct {
	ID   int64 `gorm:"->;autoIncrement:false;primaryKey"`
	At   time.Time
	Leaf string
	Salt []byte
}

func (leafRow) TableName() string { return "leaves" }

type suppressionRow struct {
	Request    string `gorm:"primaryKey"`
	Tenant     string
	Name       string `gorm:"primaryKey"`
	KeyID      string
	Commitment string   `gorm:"primaryKey"`
	Systems    []string `gorm:"serializer:json"`
	ErasedAt   time.Time
	Expires    time.Time
}

func (suppressionRow) TableName() string { return "suppressions" }

const saltSize = 16

func (t *tx) AppendLeaves(ls ...ledger.Leaf) error {
	rows := make([]leafRow, len(ls))
	for i, l := range ls {
		l.At = stamp(l.At)
		leaf, err := canonical(l)
		if err != nil {
			return typed(err)
		}
		salt := make([]byte, saltSize)
		if _, err := rand.Read(salt); err != nil {
			return typed(err)
		}
		rows[i] = leafRow{At: l.At, Leaf: leaf, Salt: salt}
	}
	return create(t, rows)
}

// canonical is JSON whose keys have one order and whose text is not escaped for HTML.
func canonical(l ledger.Leaf) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(l)
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), err
}

// AddSuppressions ignores those whose (Request, Name, Commitment) is there already.
func (t *tx) AddSuppressions(ss ...engine.Suppression) error {
	rows := make([]suppressionRow, len(ss))
	for i, s := range ss {
		rows[i] = suppressionRow{
			Request: s.Request, Tenant: s.Tenant, Name: s.Name, KeyID: s.KeyID, Commitment: s.Commitment,
			Systems: s.Systems, ErasedAt: stamp(s.ErasedAt), Expires: stamp(s.Expires),
		}
	}
	return create(t, rows, clause.OnConflict{DoNothing: true})
}

// CommitmentKeysInUse returns the ids of the keys that a suppression or an identifier of a Request or a Hold was
// committed under; none of them may be retired.
func (s *Store) CommitmentKeysInUse(ctx context.Context) ([]string, error) {
	var ids []string
	err := s.inTx(ctx, func(t *tx) error {
		return typed(t.scan(&ids, `SELECT key_id FROM suppressions UNION SELECT key_id FROM identifiers
			UNION SELECT key_id FROM hold_identifiers WHERE key_id <> '' ORDER BY 1`))
	})
	return ids, err
}
