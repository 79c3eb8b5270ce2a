package sqldb

import (
	"context"
	"errors"

	"github.com/lethe-gdpr/lethe/connectors"
)

const defaultTxRows = 5000

func open(context.Context, *connectors.System, connectors.Options) (connectors.Connector, error) {
	return nil, errors.New("not yet")
}
