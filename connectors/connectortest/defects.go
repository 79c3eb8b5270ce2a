package connectortest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// Defect is a connector that is wrong on purpose, and the case of the suite that must find it.
type Defect struct {
	Name  string
	Found string
	Fresh func(t *testing.T) Backend // as Run takes it
}

const defectVariable = "LETHE_TEST_DEFECT"

// FindsDefects holds the suite to what it promises: one that a wrong connector passes proves nothing of a right one. A case
// that fails fails its process, so the test that calls this is run once more for each defect, and there runs the suite.
func FindsDefects(t *testing.T, defects []Defect) {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(os.Getenv(defectVariable), &n); err == nil {
		Run(t, defects[n].Fresh)
		return
	}
	for n, d := range defects {
		name := t.Name()
		t.Run(d.Name+"/"+d.Found, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+name+"$/^"+d.Found+"$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", defectVariable, n))
			out, err := cmd.CombinedOutput()
			var failed *exec.ExitError
			require.ErrorAs(t, err, &failed, "the suite did not find it")
			require.Contains(t, string(out), "--- FAIL: "+name+"/"+d.Found)
			require.NotContains(t, string(out), "panic:")
		})
	}
}
