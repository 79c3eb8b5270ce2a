package store

import (
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

type mapRow struct {
	Version int `gorm:"primaryKey;autoIncrement:false"`
	Hash    string
	YAML    []byte `gorm:"column:yaml"`
	At      time.Time
}

func (mapRow) TableName() string { return "data_maps" }

func (w *mapRow) stored() *engine.StoredMap {
	return &engine.StoredMap{Version: w.Version, Hash: w.Hash, YAML: w.YAML, At: utc(w.At)}
}

func (t *tx) PutMap(hash string, yaml []byte, at time.Time) (int, error) {
	if t.postgres {
		// Two processes that start with the same new map must agree on its version.
		if _, err := t.exec("LOCK TABLE data_maps IN EXCLUSIVE MODE"); err != nil {
			return 0, err
		}
	}
	latest, err := t.LatestMap()
	switch {
	case err == nil && latest.Hash == hash:
		return latest.Version, nil
	case dsr.CodeOf(err) == dsr.CodeNotFound:
		latest = &engine.StoredMap{}
	case err != nil:
		return 0, err
	}
	version := latest.Version + 1
	return version, create(t, []mapRow{{Version: version, Hash: hash, YAML: yaml, At: stamp(at)}})
}

func (t *tx) Map(version int) (*engine.StoredMap, error) {
	row, err := take[mapRow](t, t.db.Where("version = ?", version), "data map")
	if err != nil {
		return nil, err
	}
	return row.stored(), nil
}

func (t *tx) LatestMap() (*engine.StoredMap, error) {
	row, err := take[mapRow](t, t.db.Order("version DESC"), "data map")
	if err != nil {
		return nil, err
	}
	return row.stored(), nil
}
