package accesspackage

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// unavailable wraps a fault of the file system. Paths hold ids and names of the data map, but their own text is left
// out all the same: the number of the error is what an operator needs.
func unavailable(err error) error {
	var e *dsr.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	out := &dsr.Error{
		Code: dsr.CodeUnavailable, Msg: "the package store cannot be read or written",
		Hint: "see whether its folder exists, belongs to Lethe and has space left",
	}
	var errno syscall.Errno
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		out.Msg, out.Hint = "the package store has no space left", "free some space"
	case errors.Is(err, fs.ErrPermission):
		out.Msg, out.Hint = "Lethe may not write to the package store", "give its folder to the user that Lethe runs as"
	}
	if errors.As(err, &errno) {
		out.Err = errno
	}
	return out
}

// damaged is a part or a package that does not open.
func damaged() error {
	return connectors.Permanent(
		"package-damaged", "what was staged for the package does not open",
		"its files were changed, or Lethe runs with other keys; retry the request to export it again", nil,
	)
}
