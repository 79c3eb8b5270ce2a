package jobs_test

import (
	"testing"

	"go.uber.org/goleak"
)

// A Runner that has stopped leaves nothing running.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
