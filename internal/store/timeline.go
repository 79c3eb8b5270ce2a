package store

import (
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

type eventRow struct {
	ID        int64  `gorm:"->;autoIncrement:false"`
	Request   string `gorm:"primaryKey"`
	At        time.Time
	Actor     string
	Type      string
	FromState dsr.State
	ToState   dsr.State
	Detail    map[string]string `gorm:"serializer:json"`
}

func (eventRow) TableName() string { return "events" }

func (t *tx) AddEvents(es ...dsr.Event) error {
	rows := make([]eventRow, len(es))
	for i, e := range es {
		rows[i] = eventRow{
			Request: e.Request, At: stamp(e.At), Actor: e.Actor, Type: e.Type, FromState: e.From, ToState: e.To,
			Detail: e.Detail,
		}
	}
	return create(t, rows)
}

func (t *tx) Events(request string, after int64, limit int) ([]dsr.Event, error) {
	rows, err := find[eventRow](t, t.db.Where("request = ? AND id > ?", request, after).Order("id").Limit(limit))
	es := make([]dsr.Event, len(rows))
	for i, w := range rows {
		es[i] = dsr.Event{
			ID: w.ID, Request: w.Request, At: utc(w.At), Actor: w.Actor, Type: w.Type, From: w.FromState, To: w.ToState,
			Detail: w.Detail,
		}
	}
	return es, err
}
