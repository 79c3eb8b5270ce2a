package drift_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap/drift"
)

func text(name string) connectors.Column {
	return connectors.Column{Name: name, Type: "text", Class: connectors.ClassText, Nullable: true, HasText: true}
}

func number(name string) connectors.Column {
	return connectors.Column{Name: name, Type: "integer", Class: connectors.ClassInteger}
}

// setup returns a map and a schema that fit each other.
func setup() (*connectors.System, connectors.Schema) {
	s := &connectors.System{
		Name: "shop", Ignored: map[string]string{"rates": "prices only"},
		Entities: []connectors.Entity{
			{Name: "customers", Source: "public.customers", Subject: true, Fields: []connectors.Field{{Name: "email", Identifier: "email"}}},
			{
				Name: "orders", OwnedBy: []connectors.Owner{{Columns: []string{"customer_id"}, Entity: "customers"}},
				NotPersonal: []string{"status"}, Mentions: []string{"note"}, Erase: dsr.Delete,
			},
		},
	}
	key := []string{"id"}
	return s, connectors.Schema{Entities: []connectors.EntitySchema{
		{Name: "customers", PrimaryKey: key, Columns: []connectors.Column{number("id"), text("email")}},
		{
			Name: "orders", PrimaryKey: key, Columns: []connectors.Column{number("id"), number("customer_id"), text("status"), text("note")},
			References: []connectors.Reference{{Columns: []string{"customer_id"}, Entity: "customers", References: key}},
		},
		{Name: "products", PrimaryKey: key, Columns: []connectors.Column{number("id"), number("price")}},
		{Name: "rates", PrimaryKey: key, Columns: []connectors.Column{number("id")}},
		{Name: "recent", View: true, Columns: []connectors.Column{text("email")}},
	}}
}

func TestNoDrift(t *testing.T) {
	t.Parallel()
	s, schema := setup()
	require.Empty(t, drift.Compare(s, schema, &schema))
}

func TestDrift(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(s *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema
		want   connectors.Finding
	}{
		"new table by reference": {
			func(_ *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				return append(e, connectors.EntitySchema{
					Name: "wishes", Columns: []connectors.Column{number("c")},
					References: []connectors.Reference{{Columns: []string{"c"}, Entity: "customers"}},
				})
			}, connectors.Finding{Code: drift.NewTable, Severity: connectors.Error, Entity: "wishes"},
		},
		"new table by name": {
			func(_ *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				return append(e, connectors.EntitySchema{Name: "mails", Columns: []connectors.Column{text("to_email")}})
			}, connectors.Finding{Code: drift.NewTable, Severity: connectors.Error, Entity: "mails"},
		},
		"new column": {
			func(_ *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				e[0].Columns = append(e[0].Columns, text("phone"))
				return e
			}, connectors.Finding{Code: drift.NewColumn, Severity: connectors.Error, Entity: "customers", Field: "phone"},
		},
		"new reference": {
			func(_ *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				e[1].References = append(e[1].References, connectors.Reference{Columns: []string{"status"}, Entity: "customers"})
				return e
			}, connectors.Finding{Code: drift.NewReference, Severity: connectors.Error, Entity: "orders", Field: "status"},
		},
		"vanished column": {
			func(_ *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				e[1].Columns = e[1].Columns[:3]
				return e
			}, connectors.Finding{Code: drift.VanishedColumn, Severity: connectors.Error, Entity: "orders", Field: "note"},
		},
		"vanished table": {
			func(s *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				s.Entities = append(s.Entities, connectors.Entity{Name: "gone"})
				return e
			}, connectors.Finding{Code: drift.VanishedTable, Severity: connectors.Error, Entity: "gone"},
		},
		"vanished ignored table": {
			func(s *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				s.Ignored["gone"] = "why"
				return e
			}, connectors.Finding{Code: drift.VanishedTable, Severity: connectors.Warning, Entity: "gone"},
		},
		"changed type": {
			func(_ *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				e[0].Columns[1] = number("email")
				return e
			}, connectors.Finding{Code: drift.ChangedType, Severity: connectors.Error, Entity: "customers", Field: "email"},
		},
		"now nullable": {
			func(_ *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				e[1].Columns[1].Nullable = true
				return e
			}, connectors.Finding{Code: drift.ChangedType, Severity: connectors.Warning, Entity: "orders", Field: "customer_id"},
		},
		"changed key": {
			func(_ *connectors.System, e []connectors.EntitySchema) []connectors.EntitySchema {
				e[1].PrimaryKey = []string{"id", "customer_id"}
				return e
			}, connectors.Finding{Code: drift.ChangedKey, Severity: connectors.Error, Entity: "orders"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, now := setup()
			_, baseline := setup()
			now.Entities = c.change(s, now.Entities)
			found := drift.Compare(s, now, &baseline)
			require.Len(t, found, 1)
			require.NotEmpty(t, found[0].Message)
			require.NotEmpty(t, found[0].Hint)
			require.Equal(t, c.want.Severity == connectors.Error, drift.Failed(found))
			found[0].Message, found[0].Hint = "", ""
			require.Equal(t, c.want, found[0])
		})
	}
}

func TestSARIF(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := drift.SARIF(&out, "1.2.3", "maps/lethe.yaml", []drift.Located{
		{Finding: connectors.Finding{Code: drift.NewColumn, Severity: connectors.Error, Entity: "orders", Field: "phone", Message: "m.", Hint: "h."}, System: "shop", Line: 7},
		{Finding: connectors.Finding{Code: "unindexed-reference", Severity: connectors.Warning, Message: "m."}, System: "shop"},
	})
	require.NoError(t, err)
	require.JSONEq(t, `{
  "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
  "runs": [{
    "tool": {"driver": {"name": "lethe", "version": "1.2.3", "informationUri": "https://github.com/lethe-gdpr/lethe", "rules": [
      {"id": "new-column", "shortDescription": {"text": "A column of a mapped table is not in the data map."}},
      {"id": "unindexed-reference", "shortDescription": {"text": "The data map and the system do not fit: unindexed-reference."}}
    ]}},
    "results": [
      {"ruleId": "new-column", "ruleIndex": 0, "level": "error", "message": {"text": "shop.orders.phone: m. h."},
       "locations": [{"physicalLocation": {"artifactLocation": {"uri": "maps/lethe.yaml"}, "region": {"startLine": 7}},
         "logicalLocations": [{"fullyQualifiedName": "shop.orders.phone", "kind": "member"}]}],
       "partialFingerprints": {"lethe/v1": "new-column/shop.orders.phone"}},
      {"ruleId": "unindexed-reference", "ruleIndex": 1, "level": "warning", "message": {"text": "shop: m."},
       "locations": [{"physicalLocation": {"artifactLocation": {"uri": "maps/lethe.yaml"}, "region": {"startLine": 1}},
         "logicalLocations": [{"fullyQualifiedName": "shop", "kind": "member"}]}],
       "partialFingerprints": {"lethe/v1": "unindexed-reference/shop"}}
    ]
  }]
}`, out.String())
}

func TestSARIFWithoutFindingsIsAnEmptyRun(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, drift.SARIF(&out, "", "lethe.yaml", nil))
	var log struct {
		Runs []struct{ Results []any }
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &log))
	require.Len(t, log.Runs, 1)
	require.NotNil(t, log.Runs[0].Results)
}
