//go:build !unix

package app

// lock holds nothing: SQLite's own locks keep the file whole, and nobody runs production on these systems.
func lock(string) (unlock func() error, err error) { return func() error { return nil }, nil }
