package store

import (
	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/dsr"
)

type planRow struct {
	Request string `gorm:"primaryKey"`
	Hash    string
	Plan    dsr.Plan `gorm:"serializer:json"`
}

func (planRow) TableName() string { return "plans" }

func (t *tx) PutPlan(hash string, p *dsr.Plan) error {
	return t.putPlans([]planRow{{Request: p.Request, Hash: hash, Plan: *p}})
}

func (t *tx) PutPlans(ps ...*dsr.Plan) error {
	rows := make([]planRow, len(ps))
	for i, p := range ps {
		rows[i] = planRow{Request: p.Request, Hash: p.Hash(), Plan: *p}
	}
	return t.putPlans(rows)
}

func (t *tx) putPlans(rows []planRow) error {
	c := clause.OnConflict{
		Columns:   []clause.Column{{Name: "request"}},
		DoUpdates: clause.AssignmentColumns([]string{"hash", "plan"}),
	}
	return create(t, rows, c)
}

func (t *tx) PlanOf(request string) (string, *dsr.Plan, error) {
	row, err := take[planRow](t, t.db.Where("request = ?", request), "plan")
	if err != nil {
		return "", nil, err
	}
	return row.Hash, &row.Plan, nil
}

func (t *tx) PlansOf(requests ...string) (map[string]*dsr.Plan, error) {
	plans := make(map[string]*dsr.Plan, len(requests))
	if len(requests) == 0 {
		return plans, nil
	}
	rows, err := find[planRow](t, t.db.Where(t.in("request", requests)))
	for i := range rows {
		plans[rows[i].Request] = &rows[i].Plan
	}
	return plans, err
}
