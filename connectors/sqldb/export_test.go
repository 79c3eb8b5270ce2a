package sqldb

import (
	"context"
	"strconv"
	"strings"
)

// Split makes transactions small, so that a few rows take the paths of many.
func (d *DB) Split(rows, subjects int) { d.txRows, d.perTx = rows, subjects }

// CountPages makes partitions be counted in smaller parts.
func (d *DB) CountPages(n int64) { d.countPages = n }

// SplitFamilies sets how many rows a sweep decides together.
func (d *DB) SplitFamilies(rows int) { d.familyRows = rows }

// Run runs statements in one session, in a transaction that is committed or outside any, and returns the first column of
// what each reads, or how many rows it affected.
func (d *DB) Run(ctx context.Context, inTx bool, texts ...string) ([]string, error) {
	var out []string
	var calls []*call
	var counts []func()
	for i, text := range texts {
		c := &call{text: text}
		out = append(out, "")
		if strings.HasPrefix(text, "SELECT") {
			c.row = func(v [][]byte) error { out[i] += string(v[0]); return nil }
		} else {
			counts = append(counts, func() { out[i] = strconv.FormatInt(c.affected, 10) })
		}
		calls = append(calls, c)
	}
	s, end, err := d.sessionOf(ctx, inTx)
	if err != nil {
		return nil, err
	}
	err = s.run(ctx, calls...)
	for _, fn := range counts {
		fn()
	}
	return out, end(err)
}

func (d *DB) sessionOf(ctx context.Context, inTx bool) (session, func(error) error, error) {
	if !inTx {
		s, release, err := d.reader(ctx)
		return s, func(err error) error { release(); return err }, err
	}
	tx, err := d.begin(ctx)
	return tx, func(err error) error {
		defer tx.rollback()
		if err != nil {
			return err
		}
		return tx.commit(ctx)
	}, err
}
