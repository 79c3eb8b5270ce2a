package sqldb_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/mask"
)

// Whoever was referred by a person is in the copy of that person, but only as far as the map lets others be seen.
func TestExportMasksOtherPersonsRowsOnly(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE customers (id BIGINT PRIMARY KEY, email VARCHAR(200), name VARCHAR(100), referred_by BIGINT);
INSERT INTO customers VALUES (1, 'anna@example.com', 'Anna', NULL), (2, 'bo@example.com', 'Bo', 1);
`)
		db := f.open(connectors.Entity{
			Name: "customers", Subject: true, Fields: []connectors.Field{idField("email", "email"), {Name: "name"}},
			AccessedBy: []connectors.Owner{owner("referred_by", "customers")},
			ExportMask: map[string]mask.Spec{"email": {Kind: mask.Null}, "name": constant("withheld")},
		})
		got := fmt.Sprint(f.export(db, subject("a", "email", "anna@example.com")))
		require.Contains(t, got, "Anna")
		require.Contains(t, got, "anna@example.com")
		require.Contains(t, got, "withheld")
		require.NotContains(t, got, "bo@example.com")
		require.NotContains(t, got, "Bo")
	})
}
