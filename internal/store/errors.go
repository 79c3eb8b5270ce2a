package store

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	sqlite "github.com/glebarez/go-sqlite"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Fault is what survives of a driver's error: the database's own code and our constraint, never its message, which
// may repeat a value.
type Fault struct {
	Code       string // SQLSTATE, "SQLITE_" and a number, or the type of another error
	Constraint string // or column, of a violation on PostgreSQL
	retry      bool
}

func (f *Fault) Error() string {
	if f.Constraint != "" {
		return f.Code + " on " + f.Constraint
	}
	return f.Code
}

// typed replaces a driver's error. Our own errors and those of the context pass.
func typed(err error) error {
	var own *dsr.Error
	switch {
	case err == nil, errors.As(err, &own), errors.Is(err, connectors.ErrFenced):
		return err
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, gorm.ErrRecordNotFound), errors.Is(err, sql.ErrNoRows):
		return &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such row"}
	}
	f := faultOf(err)
	switch {
	case f.duplicate():
		return &dsr.Error{Code: dsr.CodeConflict, Msg: "exists already", Err: f}
	case f.retry:
		return &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the control database had a conflict", Hint: "try again", Err: f}
	case f.full():
		return &dsr.Error{
			Code: dsr.CodeUnavailable, Msg: "the control database is out of space",
			Hint: "free space on its disk; work goes on by itself", Err: f,
		}
	}
	return &dsr.Error{
		Code: dsr.CodeUnavailable, Msg: "the control database failed",
		Hint: "see whether it is running and reachable, and whether `lethe migrate` has been run", Err: f,
	}
}

func faultOf(err error) *Fault {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return &Fault{
			Code: pg.Code, Constraint: cmp.Or(pg.ConstraintName, pg.ColumnName),
			// Serialisation failures, deadlocks; a lock that timed out.
			retry: strings.HasPrefix(pg.Code, "40") || pg.Code == "55P03",
		}
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		primary := lite.Code() & 0xff
		const busy, locked = 5, 6
		return &Fault{Code: fmt.Sprintf("SQLITE_%d", lite.Code()), retry: primary == busy || primary == locked}
	}
	switch { // what GORM translated itself
	case errors.Is(err, gorm.ErrDuplicatedKey):
		return &Fault{Code: duplicateKey}
	case errors.Is(err, gorm.ErrForeignKeyViolated):
		return &Fault{Code: "foreign key violated"}
	}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno): // "connection refused", "no space left on device"
		return &Fault{Code: errno.Error()}
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &Fault{Code: "connection lost"}
	}
	return &Fault{Code: fmt.Sprintf("%T", err)}
}

const duplicateKey = "duplicate key"

func (f *Fault) duplicate() bool {
	switch f.Code {
	case "23505", "SQLITE_1555", "SQLITE_2067", duplicateKey:
		return true
	}
	return false
}

func (f *Fault) full() bool { return f.Code == "53100" || f.Code == "SQLITE_13" }

func retryable(err error) bool {
	var f *Fault
	return errors.As(err, &f) && f.retry
}
