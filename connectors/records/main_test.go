package records_test

import (
	"testing"

	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }
