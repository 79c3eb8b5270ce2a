package dsr

import (
	"errors"
	"fmt"
)

// Code is a stable, documented name of an error; it becomes the `type` of a problem document.
type Code string

// Error is an error a caller may act on. It never contains an identifier: Field names where, Hint says what to do.
type Error struct {
	Code  Code
	Field string // path of the offending input: "identifiers[1].value"; empty when none
	Msg   string // one sentence for a person
	Hint  string
	Err   error // cause, for the log only; must be free of personal data
}

func (e *Error) Error() string {
	s := e.Msg
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Err != nil {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Is matches by Code, so that errors.Is(err, &Error{Code: CodeNotFound}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Codes used across packages.
const (
	CodeInvalid      Code = "invalid"            // bad input: 400 or 422
	CodeNotFound     Code = "not-found"          // 404
	CodeForbidden    Code = "forbidden"          // 403
	CodeConflict     Code = "conflict"           // another version: 412
	CodeWrongState   Code = "wrong-state"        // the action is not possible in this state: 409
	CodeDuplicate    Code = "duplicate"          // an open Request of this subject exists: 409
	CodeFourEyes     Code = "four-eyes"          // approver is the requester: 403
	CodeOverCap      Code = "blast-radius"       // above a cap; nothing was changed
	CodeHashMismatch Code = "plan-hash-mismatch" // approval of another Plan: 412
	CodeRuleMismatch Code = "rule-hash-mismatch" // approval of another deletion rule: 412
	CodeDueMismatch  Code = "due-mismatch"       // approval of another count than a Sweep has: 412
	CodeUnreadable   Code = "unreadable-content" // an object, file or event that is damaged or not as the map says: 422
	CodeUnavailable  Code = "unavailable"        // transient: try again
)

// CodeOf returns the Code of the first *Error in err's chain, or "" when there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
