// Package migrations holds the versioned SQL of the control plane's database, one folder per dialect. README.md says
// how to add one.
package migrations

import "embed"

// Postgres and SQLite hold the files of one dialect each, under the folder of the same name. River's own tables come
// from its own migrations.
var (
	//go:embed postgres/*.sql
	Postgres embed.FS
	//go:embed sqlite/*.sql
	SQLite embed.FS
)
