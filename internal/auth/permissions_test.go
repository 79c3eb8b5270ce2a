package auth_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/auth"
)

// The table and what openapi.yaml tells its readers are the same, operation by operation.
func TestTableIsTheContracts(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../openapi.yaml")
	require.NoError(t, err)
	type operation struct {
		ID          string            `yaml:"operationId"`
		Tags        []string          `yaml:"tags"`
		Roles       []string          `yaml:"x-roles"`
		PersonsOnly bool              `yaml:"x-persons-only"`
		Security    *[]map[string]any `yaml:"security"`
	}
	var spec struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	require.NoError(t, yaml.Unmarshal(raw, &spec))
	contract := map[string]auth.Permission{}
	for _, item := range spec.Paths {
		for method, v := range item {
			if method == "parameters" {
				continue
			}
			again, err := yaml.Marshal(v)
			require.NoError(t, err)
			var op operation
			require.NoError(t, yaml.Unmarshal(again, &op))
			require.NotEmpty(t, op.ID)
			if op.Tags[0] == "operations" {
				continue // health and metrics have no key
			}
			p := auth.Permission{Operation: op.ID, PersonsOnly: op.PersonsOnly, Open: op.Security != nil}
			if len(op.Roles) > 0 {
				p.Roles = op.Roles
			}
			contract[op.ID] = p
		}
	}
	table := map[string]auth.Permission{}
	for _, p := range auth.Permissions() {
		require.NotContains(t, table, p.Operation)
		table[p.Operation] = p
	}
	require.Empty(t, cmp.Diff(contract, table))
}

func TestAllow(t *testing.T) {
	t.Parallel()
	for _, p := range auth.Permissions() {
		for _, role := range auth.Roles() {
			for _, system := range []bool{false, true} {
				err := p.Allow(dsr.Actor{ID: "x", Roles: []string{role}, System: system})
				may := p.Open
				for _, r := range p.Roles {
					may = may || r == role && !(p.PersonsOnly && system)
				}
				if may {
					require.NoError(t, err, "%s as %s", p.Operation, role)
				} else {
					require.Equal(t, dsr.CodeForbidden, dsr.CodeOf(err), "%s as %s", p.Operation, role)
				}
			}
		}
		if !p.Open {
			require.Equal(t, dsr.CodeForbidden, dsr.CodeOf(p.Allow(dsr.Actor{ID: "nobody"})))
		}
	}
}
