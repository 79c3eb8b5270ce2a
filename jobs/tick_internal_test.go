package jobs

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// A Tick that is asked for in steps that do not add up to its period runs later than it says.
func TestTicksAreAskedForWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	for name, period := range (&engine.Engine{}).Ticks() {
		require.Zero(t, period%min(period, asking), name)
	}
}
