package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Codes of the errors that a person must act on.
const (
	CodePermission dsr.Code = "database-permission"
	CodeSchema     dsr.Code = "database-schema"     // a table or column that the map names is not there
	CodeConstraint dsr.Code = "database-constraint" // a constraint or trigger refused the change
	CodeValue      dsr.Code = "database-value"      // a value does not fit its column
	CodeSignIn     dsr.Code = "database-sign-in"
	CodeDatabase   dsr.Code = "database" // anything else that trying again will not mend
)

// number is all that survives of a driver's error: the text may echo values.
type number struct{ system, code string }

func (n number) Error() string { return n.system + " " + n.code }

// classify replaces a driver's error by one of ours: transient ones have [dsr.CodeUnavailable], the others are
// permanent. Errors that are ours already, or the context's, pass.
func classify(d *dialect, err error) error {
	var ours *dsr.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours), errors.Is(err, connectors.ErrFenced), errors.Is(err, connectors.ErrYield):
		return err
	case errors.Is(err, context.Canceled):
		return context.Canceled
	}
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var lite interface{ Code() int }
	switch {
	case errors.As(err, &pg):
		return classifyPostgres(pg.Code)
	case errors.As(err, &my):
		return classifyMariaDB(my.Number)
	case d.name == sqlite && errors.As(err, &lite):
		return classifySQLite(lite.Code())
	}
	return classifyConnection(d, err)
}

func transient(msg string, cause error) error {
	return &dsr.Error{Code: dsr.CodeUnavailable, Msg: msg, Hint: "See whether it runs, is reachable and is not overloaded.", Err: cause}
}

func classifyConnection(d *dialect, err error) error {
	var netErr net.Error
	var connect *pgconn.ConnectError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return transient("the database took too long", nil)
	case errors.Is(err, sql.ErrTxDone), errors.Is(err, sql.ErrConnDone): // rolled back behind us when the work was cancelled
		return transient("the transaction had ended", nil)
	case errors.As(err, &connect), errors.As(err, &netErr), errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, net.ErrClosed),
		pgconn.SafeToRetry(err):
		return transient("the database cannot be reached", nil)
	}
	if text := err.Error(); strings.Contains(text, "conn closed") || strings.Contains(text, "closed network connection") ||
		strings.Contains(text, "broken pipe") || strings.Contains(text, "connection reset") || strings.Contains(text, "bad connection") {
		return transient("the connection to the database was lost", nil)
	}
	return connectors.Permanent(CodeDatabase, "the database driver failed", "",
		number{d.name, fmt.Sprintf("%T", err)})
}

func classifyPostgres(state string) error {
	n := number{"SQLSTATE", state}
	class := state
	if len(state) == 5 {
		class = state[:2]
	}
	switch state {
	case "40001", "40P01", "55P03", "55006":
		return transient("another transaction was in the way", n)
	case "57014":
		return transient("a statement took longer than its limit", n)
	case "57P01", "57P02", "57P03", "57P05", "25P03":
		return transient("the database is shutting down or starting", n)
	case "53300", "53400":
		return transient("the database has no free connection", n)
	case "0A000":
		return transient("a table changed while it was read", n)
	case "42501":
		return permission(n)
	case "28000", "28P01", "3D000":
		return signIn(n)
	case "25006":
		return transient("the database is read-only, a replica or in maintenance", n)
	case "P0001":
		return constraint(n)
	}
	switch class {
	case "08", "53", "58":
		return transient("the database cannot be reached or lacks resources", n)
	case "42", "3F":
		return schema(n)
	case "23", "27", "44":
		return constraint(n)
	case "22":
		return badValue(n)
	}
	return connectors.Permanent(CodeDatabase, "the database refused a statement", "Look the number up in its manual.", n)
}

func classifyMariaDB(num uint16) error {
	n := number{"error", strconv.Itoa(int(num))}
	switch num {
	case 1205, 1213, 1020, 3572:
		return transient("another transaction was in the way", n)
	case 1969, 3024, 1317:
		return transient("a statement took longer than its limit", n)
	case 1040, 1203, 1226:
		return transient("the database has no free connection", n)
	case 1053, 1077, 1079, 1290, 1836, 2006, 2013, 1927:
		return transient("the database is shutting down, starting or read-only", n)
	case 1021, 1037, 1038, 1041, 1114:
		return transient("the database lacks resources", n)
	case 1142, 1143, 1370, 1227, 1410:
		return permission(n)
	case 1045, 1044, 1049, 1698, 1820, 1862, 4151: // the last three: password expired, account locked
		return signIn(n)
	case 1054, 1146, 1051, 1064, 1109, 1305:
		return schema(n)
	case 1451, 1452, 1216, 1217, 1062, 1048, 4025, 3819, 1586, 1644, 1442, 1364:
		return constraint(n)
	case 1406, 1264, 1265, 1292, 1366, 1411, 1690:
		return badValue(n)
	}
	return connectors.Permanent(CodeDatabase, "the database refused a statement", "Look the number up in its manual.", n)
}

func classifySQLite(code int) error {
	n := number{"SQLite", strconv.Itoa(code)}
	switch code & 0xff {
	case 5, 6: // BUSY, LOCKED
		return transient("another transaction was in the way", n)
	case 9: // INTERRUPT
		return transient("a statement took longer than its limit", n)
	case 7, 10, 13, 15, 17: // NOMEM, IOERR, FULL, PROTOCOL, SCHEMA
		return transient("the database lacks resources", n)
	case 14: // CANTOPEN
		return transient("the database file cannot be opened", n)
	case 3, 8, 23: // PERM, READONLY, AUTH
		return permission(n)
	case 1: // ERROR: no such table or column
		return schema(n)
	case 19: // CONSTRAINT
		return constraint(n)
	case 18, 20, 25: // TOOBIG, MISMATCH, RANGE
		return badValue(n)
	}
	return connectors.Permanent(CodeDatabase, "the database refused a statement", "Look the number up in its manual.", n)
}

func permission(cause error) error {
	return connectors.Permanent(CodePermission, "Lethe's database user may not do this",
		"Run `lethe grants` and give the user what it prints.", cause)
}

func signIn(cause error) error {
	return connectors.Permanent(CodeSignIn, "the database did not accept Lethe's user",
		"Check user, password and database name in the system's dsn.", cause)
}

func schema(cause error) error {
	return connectors.Permanent(CodeSchema, "the database has not the tables or columns that the data map names",
		"Run `lethe check` and correct the map.", cause)
}

func constraint(cause error) error {
	return connectors.Permanent(CodeConstraint, "a constraint or a trigger of the database refused the change",
		"Run `lethe check`: a table that refers to the rows may be missing from the map, or a mask does not fit its column.", cause)
}

func badValue(cause error) error {
	return connectors.Permanent(CodeValue, "a value does not fit its column", "Run `lethe check` and correct the mask, or the value of a condition.", cause)
}
