package store

import "github.com/lethe-gdpr/lethe/internal/engine"

type spoolRow struct {
	ID     int64 `gorm:"->;autoIncrement:false;primaryKey"`
	Task   string
	Entity string
	Page   []byte
}

func (spoolRow) TableName() string { return "spool" }

func (t *tx) AppendSpool(task, entity string, page []byte) error {
	return t.AppendSpools(engine.SpoolPage{Task: task, Entity: entity, Page: page})
}

func (t *tx) AppendSpools(pages ...engine.SpoolPage) error {
	rows := make([]spoolRow, len(pages))
	for i, p := range pages {
		rows[i] = spoolRow{Task: p.Task, Entity: p.Entity, Page: p.Page}
	}
	return create(t, rows)
}

// pagesAtOnce bounds how many pages of keys are in memory.
const pagesAtOnce = 32

func (t *tx) EachSpool(tasks []string, entity string, fn func(task string, page []byte) error) error {
	if len(tasks) == 0 {
		return nil
	}
	// The ids first, then the pages in groups: fn may use the transaction, so no cursor can stay open.
	var ids []int64
	err := t.scan(&ids, "SELECT id FROM spool WHERE ? AND entity = ? ORDER BY id", t.in("task", tasks), entity)
	if err != nil {
		return err
	}
	for len(ids) > 0 {
		n := min(len(ids), pagesAtOnce)
		rows, err := find[spoolRow](t, t.db.Where("id IN ?", ids[:n]).Order("id"))
		if err != nil {
			return err
		}
		for _, w := range rows {
			if err := fn(w.Task, w.Page); err != nil {
				return err
			}
		}
		ids = ids[n:]
	}
	return nil
}

func (t *tx) DropSpool(tasks ...string) error {
	if len(tasks) == 0 {
		return nil
	}
	return t.write(nil, "DELETE FROM spool WHERE ?", t.in("task", tasks))
}
