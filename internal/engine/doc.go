// Package engine holds the use cases: it takes requests in and carries them to their verified end. It knows no
// database, no queue and no HTTP; what it needs of them it declares in ports.go.
//
// One file is one step: intake.go, discover.go, plan.go and review.go, execute.go, verify.go, close.go and assemble.go;
// manual.go is for the rights that people carry out, decide.go for what people decide on the way, tick.go for upkeep.
// flow.go says which step follows when the last Task of one is done. claim.go, run.go and outcome.go work batches of
// Tasks as fenced Runs with a journal (journal.go); changes.go writes what one transaction changes, with its events,
// leaves and the work that follows, in a few statements for all of them.
package engine
