package store

import (
	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/dsr"
)

type planRow struct {
	Request string `gorm:"primaryKey"`
	Hash    string
	Plan    *dsr.Plan `gorm:"serializer:json"`
}

func (planRow) TableName() string { return "plans" }

func (t *tx) PutPlan(hash string, p *dsr.Plan) error {
	c := clause.OnConflict{
		Columns:   []clause.Column{{Name: "request"}},
		DoUpdates: clause.AssignmentColumns([]string{"hash", "plan"}),
	}
	return create(t.db.Clauses(c), []planRow{{Request: p.Request, Hash: hash, Plan: p}})
}

func (t *tx) PlanOf(request string) (string, *dsr.Plan, error) {
	row, err := take[planRow](t.db.Where("request = ?", request), "plan")
	if err != nil {
		return "", nil, err
	}
	return row.Hash, row.Plan, nil
}
