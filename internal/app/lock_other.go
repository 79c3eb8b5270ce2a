//go:build !unix

package app

import "os"

// lock holds nothing: SQLite's own locks keep the file whole, and nobody runs production on these systems.
func lock(path string) (*os.File, error) { return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) }
