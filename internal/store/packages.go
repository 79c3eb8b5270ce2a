package store

import (
	"time"

	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

type packageRow struct {
	Request   string `gorm:"primaryKey"`
	Path      string
	Size      int64
	Records   int64
	SHA256    string `gorm:"column:sha256"`
	DataKey   []byte
	CreatedAt time.Time `gorm:"autoCreateTime:false"`
	Expires   time.Time
	RemovedAt *time.Time
}

func (packageRow) TableName() string { return "packages" }

func (w *packageRow) pack() *engine.Package {
	return &engine.Package{
		Request: w.Request, Path: w.Path, Size: w.Size, Records: w.Records, SHA256: w.SHA256, DataKey: w.DataKey,
		CreatedAt: utc(w.CreatedAt), Expires: utc(w.Expires), RemovedAt: utcPtr(w.RemovedAt),
	}
}

type linkRow struct {
	TokenHash string `gorm:"primaryKey"`
	Request   string
	Expires   time.Time
	UsedAt    *time.Time
}

func (linkRow) TableName() string { return "links" }

// PutPackage replaces the Request's package. One that was removed loses its wrapped key: nothing opens a copy of the
// file that somebody kept.
func (t *tx) PutPackage(p *engine.Package) error {
	row := packageRow{
		Request: p.Request, Path: p.Path, Size: p.Size, Records: p.Records, SHA256: p.SHA256, DataKey: p.DataKey,
		CreatedAt: stamp(p.CreatedAt), Expires: stamp(p.Expires), RemovedAt: stampPtr(p.RemovedAt),
	}
	if row.RemovedAt != nil || row.DataKey == nil {
		row.DataKey = []byte{}
	}
	c := clause.OnConflict{Columns: []clause.Column{{Name: "request"}}, UpdateAll: true}
	return create(t, []packageRow{row}, c)
}

func (t *tx) PackageOf(request string) (*engine.Package, error) {
	row, err := take[packageRow](t, t.db.Where("request = ?", request), "package")
	if err != nil {
		return nil, err
	}
	return row.pack(), nil
}

func (t *tx) PutLink(request, tokenHash string, expires time.Time) error {
	return create(t, []linkRow{{TokenHash: tokenHash, Request: request, Expires: stamp(expires)}})
}

func (t *tx) TakeLink(tokenHash string, now time.Time) (string, error) {
	var requests []string
	err := t.scan(&requests, `UPDATE links SET used_at = ? WHERE token_hash = ? AND used_at IS NULL AND expires > ?
		RETURNING request`, stamp(now), tokenHash, stamp(now))
	if err != nil {
		return "", err
	}
	if len(requests) == 0 {
		return "", notFound("link")
	}
	return requests[0], nil
}

func (t *tx) ExpiredPackages(now time.Time, limit int) ([]*engine.Package, error) {
	due := t.db.Where("removed_at IS NULL AND expires <= ?", stamp(now)).Order("expires").Limit(limit)
	rows, err := find[packageRow](t, due)
	ps := make([]*engine.Package, len(rows))
	for i := range rows {
		ps[i] = rows[i].pack()
	}
	return ps, err
}
