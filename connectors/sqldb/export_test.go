package sqldb

// Split makes transactions small, so that a few rows take the paths of many.
func (d *DB) Split(rows, subjects int) { d.txRows, d.perTx = rows, subjects }

// CountPages makes partitions be counted in smaller parts.
func (d *DB) CountPages(n int64) { d.countPages = n }

// SplitFamilies sets how many rows a sweep decides together.
func (d *DB) SplitFamilies(rows int) { d.familyRows = rows }
