package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
)

// mariaSession sends statements together, as one text with semicolons: a round trip each would cost as much as a short
// statement does. Values never are part of a statement's text as this package writes it; the driver quotes them.
type mariaSession struct {
	d     *DB
	conn  *sql.Conn
	first string // sent before the next calls, in the same round trip
	used  bool   // something was sent
}

// Bounds of what is sent together. The server takes max_allowed_packet, which nobody sets below a megabyte, and holds the
// whole of it in memory.
const (
	maxTogether      = 64
	maxTogetherBytes = 128 << 10
)

func (s *mariaSession) run(ctx context.Context, calls ...*call) error {
	for len(calls) > 0 {
		n, size := 0, 0
		for n < len(calls) && n < maxTogether && (n == 0 || size+calls[n].size() <= maxTogetherBytes) {
			size += calls[n].size()
			n++
		}
		if err := s.together(ctx, calls[:n]); err != nil {
			return called(s.d.dialect, err)
		}
		calls = calls[n:]
	}
	return nil
}

// size is about how long a call is on its way.
func (c *call) size() int {
	n := len(c.text)
	for _, a := range c.args {
		switch v := a.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		default:
			n += 8
		}
	}
	return n
}

func (s *mariaSession) together(ctx context.Context, calls []*call) error {
	var text strings.Builder
	var args []any
	add := func(t string) {
		if text.Len() > 0 {
			text.WriteString(";\n")
		}
		text.WriteString(t)
	}
	if s.first != "" {
		add(s.first)
	}
	for _, c := range calls {
		if c.skipped {
			continue
		}
		add(c.text)
		args = append(args, c.args...)
		if c.row == nil {
			add("SELECT ROW_COUNT()") // the driver passes over what commands answer
		}
	}
	if text.Len() == 0 {
		return nil
	}
	s.used, s.first = true, ""
	rows, err := s.conn.QueryContext(ctx, text.String(), args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	more := true
	for _, c := range calls {
		if c.skipped {
			continue
		}
		if !more {
			return cmp.Or(rows.Err(), errAnswer)
		}
		if err := c.take(rows); err != nil {
			return err
		}
		more = rows.NextResultSet()
	}
	if more {
		return errAnswer
	}
	return rows.Err()
}

type mariaTx struct {
	mariaSession
}

func (t *mariaTx) commit(ctx context.Context) error {
	if !t.used { // nothing was run
		t.rollback()
		return nil
	}
	if _, err := t.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return classify(t.d.dialect, err)
	}
	t.used = false
	_ = t.conn.Close()
	return nil
}

// rollback has its own short deadline: the context that failed the transaction may be over. A connection that cannot roll
// back is closed.
func (t *mariaTx) rollback() {
	if t.used {
		ctx, cancel := context.WithTimeout(context.Background(), rollbackTime)
		defer cancel()
		if _, err := t.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
			_ = t.conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}
	t.used = false
	_ = t.conn.Close() // harmless when it is closed
}
