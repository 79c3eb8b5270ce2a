//go:build unix

package app

import (
	"errors"
	"os"
	"syscall"

	"github.com/lethe-gdpr/lethe/dsr"
)

// lock holds a file for this process until unlock is called; the system lets go of it when the process dies.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = &dsr.Error{
				Code: dsr.CodeConflict, Msg: "another process works with " + path + " already",
				Hint: "the embedded database belongs to one process; stop the other one, or use PostgreSQL",
			}
		}
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		// Closing alone would not do while a child process, just forked, still has the file.
		return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
	}, nil
}
