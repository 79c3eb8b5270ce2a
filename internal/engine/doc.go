// Package engine holds the use cases: intake, identity, discover, review, run, verify, close. It knows no database,
// no queue and no HTTP; what it needs of them it declares in ports.go. docs/ARCHITECTURE.md shows the flow.
package engine
