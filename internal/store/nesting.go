package store

import (
	"bytes"
	"runtime"
	"sync"

	"github.com/lethe-gdpr/lethe/dsr"
)

// nesting knows which goroutines are inside a transaction. A store call there would wait for the connection that the
// goroutine itself holds, for ever on SQLite, so it is an error at once on both databases. Only the goroutine's
// number tells such a call from that of a neighbour who may well wait; reading it costs about a microsecond.
type nesting struct{ inside sync.Map }

var errNested = &dsr.Error{
	Code: dsr.CodeWrongState, Msg: "a store call inside an open transaction",
	Hint: "use the transaction that is open; this is a defect in Lethe, please report it",
}

func (n *nesting) enter() (leave func(), err error) {
	id := goroutine()
	if _, open := n.inside.LoadOrStore(id, struct{}{}); open {
		return nil, errNested
	}
	return func() { n.inside.Delete(id) }, nil
}

// goroutine reads the number out of the first line of a stack trace: "goroutine 18 [running]:".
func goroutine() string {
	var buf [40]byte
	fields := bytes.Fields(buf[:runtime.Stack(buf[:], false)])
	return string(fields[1])
}
