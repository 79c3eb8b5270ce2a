package drift

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
)

// rules describes each code in one sentence for the viewers of SARIF files. Codes of Check that are missing here are
// described by their name.
var rules = map[string]string{
	NewTable:       "A table that may hold personal data is not in the data map.",
	NewColumn:      "A column of a mapped table is not in the data map.",
	NewReference:   "A foreign key between mapped tables is not in the data map.",
	VanishedTable:  "The data map names a table that does not exist.",
	VanishedColumn: "The data map names a column that does not exist.",
	ChangedType:    "A mapped column changed its type since the last review.",
	ChangedKey:     "A mapped table changed its primary key since the last review.",
}

// Located is a finding and where in the map it belongs.
type Located struct {
	connectors.Finding
	System string
	Line   int // 1-based line of the map; 0 when unknown
}

// SARIF writes findings as one run of SARIF 2.1.0 (OASIS), which code hosts show beside the changed lines. File is the
// map's path relative to the repository, with slashes. The result is the same for the same findings.
func SARIF(w io.Writer, version, file string, found []Located) error {
	seen := make(map[string]int)
	for _, f := range found {
		seen[f.Code] = 0
	}
	codes := slices.Sorted(maps.Keys(seen))
	out := sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0",
		Runs: []sarifRun{{Results: []sarifResult{}}},
	}
	run := &out.Runs[0]
	run.Tool.Driver = sarifDriver{Name: "lethe", Version: version, InformationURI: "https://github.com/lethe-gdpr/lethe"}
	run.Tool.Driver.Rules = make([]sarifRule, len(codes))
	for i, code := range codes {
		seen[code] = i
		run.Tool.Driver.Rules[i] = sarifRule{
			ID: code, Short: sarifText{cmp.Or(rules[code], "The data map and the system do not fit: "+code+".")},
		}
	}
	for _, f := range found {
		place := f.System
		for _, part := range []string{f.Entity, f.Field} {
			if part != "" {
				place += "." + part
			}
		}
		text := fmt.Sprintf("%s: %s", place, f.Message)
		if f.Hint != "" {
			text += " " + f.Hint
		}
		level := "warning"
		if f.Severity == connectors.Error {
			level = "error"
		}
		location := sarifLocation{Physical: sarifPhysical{Artifact: sarifArtifact{URI: file}, Region: &sarifRegion{max(f.Line, 1)}}}
		location.Logical = []sarifLogical{{Name: place, Kind: "member"}}
		run.Results = append(run.Results, sarifResult{
			Rule: f.Code, Index: seen[f.Code], Level: level, Message: sarifText{text}, Locations: []sarifLocation{location},
			Fingerprints: map[string]string{"lethe/v1": f.Code + "/" + place},
		})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver sarifDriver `json:"driver"`
	} `json:"tool"`
	Results []sarifResult `json:"results"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	Version        string      `json:"version,omitempty"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID    string    `json:"id"`
	Short sarifText `json:"shortDescription"`
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifResult struct {
	Rule         string            `json:"ruleId"`
	Index        int               `json:"ruleIndex"`
	Level        string            `json:"level"`
	Message      sarifText         `json:"message"`
	Locations    []sarifLocation   `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
}

type sarifLocation struct {
	Physical sarifPhysical  `json:"physicalLocation"`
	Logical  []sarifLogical `json:"logicalLocations"`
}

type sarifPhysical struct {
	Artifact sarifArtifact `json:"artifactLocation"`
	Region   *sarifRegion  `json:"region,omitempty"`
}

type sarifArtifact struct {
	URI string `json:"uri"`
}

type sarifRegion struct {
	StartLine int `json:"startLine"`
}

type sarifLogical struct {
	Name string `json:"fullyQualifiedName"`
	Kind string `json:"kind"`
}
