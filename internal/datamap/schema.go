package datamap

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
)

//go:embed schema.json
var schemaText []byte

// JSONSchema returns the JSON Schema (draft 2020-12) of the data map, with the keys of these connectors. It knows the form;
// Load also holds the map together: names that refer to each other, paths to a subject, masks that leave personal data.
func JSONSchema(kinds []connectors.Kind) ([]byte, error) {
	var s map[string]any
	if err := json.Unmarshal(schemaText, &s); err != nil {
		return nil, fmt.Errorf("embedded schema: %w", err)
	}
	defs := object(s, "$defs")
	var names, choices []any
	for _, k := range kinds {
		system, entity := clone(object(defs, "system")), clone(object(defs, "entity"))
		settings(system, k.SystemKeys)
		settings(entity, k.EntityKeys)
		kindOf(entity, k)
		object(object(system, "properties"), "connector")["const"] = k.Name
		object(object(system, "properties"), "entities")["additionalProperties"] = ref("entity_" + k.Name)
		defs["system_"+k.Name], defs["entity_"+k.Name] = system, entity
		names = append(names, k.Name)
		is := map[string]any{
			"properties": map[string]any{"connector": map[string]any{"const": k.Name}}, "required": []any{"connector"},
		}
		choices = append(choices, map[string]any{"if": is, "then": ref("system_" + k.Name)})
	}
	delete(defs, "system")
	delete(defs, "entity")
	system := object(object(object(s, "properties"), "systems"), "additionalProperties")
	object(object(system, "properties"), "connector")["enum"] = names
	system["allOf"] = choices
	return json.MarshalIndent(s, "", "  ")
}

// kindOf leaves out what entities of a kind cannot have, and adds what only they can.
func kindOf(entity map[string]any, k connectors.Kind) {
	properties := object(entity, "properties")
	rule := object(object(object(properties, "retention"), "items"), "properties")
	if k.Flat {
		for _, tie := range ties {
			delete(properties, tie)
		}
		rule["start"] = map[string]any{
			"$ref":        "#/$defs/field_start",
			"description": "What starts the period: object_age, when it was stored; event_time, of a log event; or a field.",
		}
	}
	if k.Expires {
		for _, one := range []map[string]any{object(properties, "erase"), object(rule, "action")} {
			one["enum"] = append(slices.Clone(one["enum"].([]any)), "expire")
		}
	}
}

func object(in map[string]any, key string) map[string]any { return in[key].(map[string]any) }

func ref(name string) map[string]any { return map[string]any{"$ref": "#/$defs/" + name} }

// clone copies maps; lists are shared, they are only replaced.
func clone(in map[string]any) map[string]any {
	out := maps.Clone(in)
	for k, v := range out {
		if m, ok := v.(map[string]any); ok {
			out[k] = clone(m)
		}
	}
	return out
}

// settings adds a connector's own keys. A value may come from the environment whatever its type is.
func settings(to map[string]any, declared []connectors.Setting) {
	required, _ := to["required"].([]any)
	required = append([]any(nil), required...)
	for _, d := range declared {
		doc := d.Doc
		if d.Secret {
			doc += " A secret: write ${VARIABLE}, and set VARIABLE or VARIABLE_FILE in Lethe's environment."
		}
		one := map[string]any{"description": doc}
		switch d.Type {
		case "integer":
			one["type"], one["pattern"] = []any{"integer", "string"}, `\$\{|^[+-]?[0-9]+$`
		case "boolean":
			one["type"], one["pattern"] = []any{"boolean", "string", "integer"}, `\$\{|^([tTfF01]|true|True|TRUE|false|False|FALSE)$`
			one["minimum"], one["maximum"] = 0, 1
		case "duration":
			one["type"], one["pattern"] = []any{"string", "integer"}, `\$\{|^[+-]?(0|([0-9]*\.?[0-9]*(ns|us|µs|μs|ms|s|m|h))+)$`
			one["minimum"], one["maximum"] = 0, 0
		default:
			one["type"], one["minLength"] = []any{"string", "number", "boolean"}, 1
		}
		object(to, "properties")[d.Name] = one
		if d.Required {
			required = append(required, d.Name)
		}
	}
	if len(required) > 0 {
		to["required"] = required
	}
}
