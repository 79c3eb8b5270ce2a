//go:build unix

package accesspackage

import (
	"os"
	"syscall"
)

// lock keeps a second worker out of a part until the first has closed it or died.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// unlock frees it at once. Closing alone would not while a child process, just forked, still has the file.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
