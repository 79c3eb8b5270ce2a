// Package api is the HTTP edge: it checks that a call is what openapi.yaml says, who makes it and whether they may,
// hands it to a use case of the engine, and turns the outcome into an answer. One file per resource holds the
// handlers. Errors become problem documents here and nowhere else (problem.go). Nothing that was sent is repeated in
// an answer or written to the log.
package api
