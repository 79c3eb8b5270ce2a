//go:build !linux

package logfiles

import (
	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// open refuses: exchanging two files in one step, and telling who writes to one, is done by calls of Linux.
func open(*connectors.System, connectors.Options) (connectors.Connector, error) {
	return nil, &dsr.Error{
		Code: dsr.CodeInvalid, Msg: "log files can be worked on Linux only", Hint: "run a worker on the machine that has the folder",
	}
}
