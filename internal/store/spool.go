package store

type spoolRow struct {
	ID     int64 `gorm:"->;autoIncrement:false;primaryKey"`
	Task   string
	Entity string
	Page   []byte
}

func (spoolRow) TableName() string { return "spool" }

func (t *tx) AppendSpool(task, entity string, page []byte) error {
	_, err := t.exec("INSERT INTO spool (task, entity, page) VALUES (?, ?, ?)", task, entity, page)
	return err
}

// pagesAtOnce bounds how many pages of keys are in memory.
const pagesAtOnce = 32

func (t *tx) EachSpool(tasks []string, entity string, fn func(task string, page []byte) error) error {
	if len(tasks) == 0 {
		return nil
	}
	// The ids first, then the pages in groups: fn may use the transaction, so no cursor can stay open.
	var ids []int64
	err := t.db.Model(&spoolRow{}).Where("task IN ? AND entity = ?", tasks, entity).Order("id").Pluck("id", &ids).Error
	if err != nil {
		return typed(err)
	}
	for len(ids) > 0 {
		n := min(len(ids), pagesAtOnce)
		rows, err := find[spoolRow](t.db.Where("id IN ?", ids[:n]).Order("id"))
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
	_, err := t.exec("DELETE FROM spool WHERE task IN ?", tasks)
	return err
}
