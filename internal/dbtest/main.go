package dbtest

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// Main runs a package's tests with a fixed seed of rapid where everything must pass: a failure there is the change's
// own, and can be repeated. `make properties` draws new worlds. Call it from TestMain.
func Main(m *testing.M) {
	flag.Parse()
	seed := flag.Lookup("rapid.seed")
	if required() && seed != nil && seed.Value.String() == seed.DefValue && os.Getenv("LETHE_TEST_RANDOM") == "" {
		if err := flag.Set("rapid.seed", "1"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}

// required reports whether nothing may be skipped.
func required() bool { return os.Getenv("CI") != "" || os.Getenv("LETHE_TEST_REQUIRE") != "" }
