package logfiles_test

import (
	"os"
	"testing"

	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(killRoot); root != "" {
		os.Exit(worker(root))
	}
	dbtest.Main(m)
}
