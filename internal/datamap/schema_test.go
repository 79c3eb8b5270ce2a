package datamap_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/lethe-gdpr/lethe/internal/datamap"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := datamap.JSONSchema(kinds)
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("lethe.schema.json", doc))
	s, err := c.Compile("lethe.schema.json")
	require.NoError(t, err)
	return s
}

// allows reports whether the schema allows a map; ok is false when the text has no JSON form.
func allows(s *jsonschema.Schema, text []byte) (allowed, ok bool) {
	var v any
	if yaml.Unmarshal(text, &v) != nil {
		return false, false
	}
	b, err := json.Marshal(v)
	if err != nil {
		return false, false
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return false, false
	}
	return s.Validate(doc) == nil, true
}

// beyondForm are the bad maps that a schema cannot see: they are about names that refer to each other, about the text
// rather than its content, or about what the environment has.
var beyondForm = map[string]bool{
	"alias": true, "anchor_leaves_identifier": true, "keep_unknown_class": true, "keep_without_anchor": true,
	"keyed_mask_on_erasure": true, "mask_leaves_identifier": true, "mask_undeclared_field": true,
	"missing_variable": true, "no_subject": true, "on_owner_erased_elsewhere": true, "personal_and_not": true,
	"subject_without_identifier": true, "tenant_without_tenants": true, "tenants_unsaid": true, "time_zone": true,
	"two_documents": true, "unknown_target": true, "unowned": true,
	"flat_unowned": true, "minimum_above_period_alone": true, "rule_due_before_minimum": true, "rule_mask_undeclared": true,
	"rule_minimum_beside": true, "rule_next_is_last": true, "rule_related": true, "rule_same_name": true, "rule_start_unsaid": true,
	"rule_unknown_class": true, "setting_identifier_left": true, "setting_names_unknown_identifier": true,
}

func TestSchemaAndLoaderAgree(t *testing.T) {
	t.Parallel()
	s := schema(t)
	files, err := filepath.Glob("testdata/*/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 25)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		allowed, ok := allows(s, text)
		if !ok {
			continue // not YAML, or a duplicate key: the parser refuses it
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		good := filepath.Base(filepath.Dir(file)) == "good" || beyondForm[name]
		require.Equal(t, good, allowed, name)
	}
}

// formal are faults of form: a map with one of them must not pass the schema either.
var formal = regexp.MustCompile(`unknown key|needs the key|must be a (mapping|list|single value)|must be text|must be true or false|` +
	`must be a whole number|must be a duration|must be a share|must be of type|is not an ISO 8601 period|is not a connector|` +
	`is not a kind|is not a starting point|more than one starting point|is not what a rule can do|must be never|must be keep|must be a number|must be an entity and|names no mask|have no ties|` +
	`must name one mask|listed twice|looks like several columns|declares nothing|does not say what`)

// TestSchemaAndLoaderAgreeOnMutants changes every node of a good map in every way and compares the two readers: the
// schema allows what the loader takes, and refuses what has a fault of form.
func TestSchemaAndLoaderAgreeOnMutants(t *testing.T) {
	t.Parallel()
	s := schema(t)
	for file, least := range map[string][3]int{"shop": {1000, 50, 500}, "lake": {500, 50, 250}} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("testdata/good/" + file + ".yaml")
			require.NoError(t, err)
			var doc yaml.Node
			require.NoError(t, yaml.Unmarshal(text, &doc))
			mutants, taken, formalFaults := mutate(t, s, &doc)
			t.Logf("%d mutants, %d taken, %d with faults of form", mutants, taken, formalFaults)
			require.Greater(t, mutants, least[0])
			require.Greater(t, taken, least[1])
			require.Greater(t, formalFaults, least[2])
		})
	}
}

func mutate(t *testing.T, s *jsonschema.Schema, doc *yaml.Node) (mutants, taken, formalFaults int) {
	t.Helper()
	try := func(what string) {
		mutant, err := yaml.Marshal(doc)
		require.NoError(t, err)
		allowed, ok := allows(s, mutant)
		if !ok {
			return
		}
		mutants++
		_, err = datamap.Load(mutant, env, kinds)
		var faults datamap.Faults
		errors.As(err, &faults)
		switch {
		case err == nil:
			taken++
			if !allowed {
				t.Errorf("%s: the loader takes it, the schema does not", what)
			}
		case allowed && formal.MatchString(err.Error()):
			t.Errorf("%s: the schema allows it, the loader says: %v", what, err)
		case formal.MatchString(err.Error()):
			formalFaults++
		}
	}
	values := []string{"null", "true", "7", "0", "-1.5", `"7"`, `""`, "text", "a, b", "P1Y", "5%", "3s", "[]", "[x, x]", "[7]", "{}", "{x: y}", "${SHOP_DSN}"}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		for i := range n.Content {
			at := fmt.Sprintf("%s/%d", path, i)
			was := n.Content[i]
			if n.Kind == yaml.MappingNode && i%2 == 0 {
				at = path + "/" + was.Value + " (key)"
				n.Content[i] = &yaml.Node{Kind: yaml.ScalarNode, Value: was.Value + "x"}
				try(at + " renamed")
				n.Content[i] = was
				all := n.Content
				n.Content = append(append([]*yaml.Node{}, all[:i]...), all[i+2:]...)
				try(at + " removed")
				n.Content = all
				continue
			}
			if n.Kind == yaml.MappingNode {
				at = path + "/" + n.Content[i-1].Value
			}
			for _, v := range values {
				var other yaml.Node
				require.NoError(t, yaml.Unmarshal([]byte(v), &other))
				n.Content[i] = other.Content[0]
				if n.Kind != yaml.DocumentNode {
					try(at + " = " + v)
				}
			}
			n.Content[i] = was
			walk(was, at)
		}
	}
	walk(doc, "")
	return mutants, taken, formalFaults
}
