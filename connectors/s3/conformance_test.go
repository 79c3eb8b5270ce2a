package s3_test

import (
	"testing"

	"github.com/lethe-gdpr/lethe/connectors/connectortest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, func(t *testing.T) connectortest.Backend { return newStore(t, true).backend() })
}

func TestConformanceWithoutVersions(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, func(t *testing.T) connectortest.Backend { return newStore(t, false).backend() })
}
