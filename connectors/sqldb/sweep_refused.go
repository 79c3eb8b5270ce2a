package sqldb

import (
	"fmt"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// One row that a trigger or a constraint does not let go must not keep all others, every night again. Its chunk is halved
// until the row is alone; it is counted as failed, and once everything else is gone the Sweep fails for it.

// mostRefused is how many rows may be refused before the fault is taken for one of the table.
const mostRefused = 100

// refused reports whether the database did not accept what was done to some row.
func refused(err error) bool {
	code := dsr.CodeOf(err)
	return connectors.IsPermanent(err) && (code == CodeConstraint || code == CodeValue)
}

// refuse takes a chunk of which some row was refused.
func (s *sweep) refuse(c *chunk, err error) error {
	if len(c.rows) > 1 {
		s.halve(c)
		return nil
	}
	s.cp.Open = slices.DeleteFunc(s.cp.Open, func(o *span) bool { return o == c.span })
	s.done = append(s.done, connectors.Tally{Entity: s.u.e.Name, Method: dsr.Failed, Rows: 1})
	s.cp.Refused++
	s.dirty = true
	if s.cp.Refused >= mostRefused {
		return err
	}
	return nil
}

// allWent fails when a row was refused.
func (s *sweep) allWent() error {
	if s.cp.Refused == 0 {
		return nil
	}
	return connectors.Permanent(CodeConstraint,
		fmt.Sprintf("%s: a constraint or a trigger of the database refused %d rows; they stay", s.u.e.Name, s.cp.Refused),
		"Everything else that was due is gone. Run `lethe check`: a table that refers to the rows may be missing from the map, or a mask does not fit its column.", nil)
}
