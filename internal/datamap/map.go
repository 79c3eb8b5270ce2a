// Package datamap reads the data map: the YAML file that says which Systems and Entities exist, who owns a row, and
// what an erasure does to it. A map is read strictly and as a whole: every fault is reported with its line, its column
// and a hint, and nothing is used of a map that has one. docs/DATAMAP.md is its reference.
package datamap

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Map is a validated data map. It is immutable.
type Map struct {
	Controller  Controller
	Tenants     string // name of the identifier that names a tenant; empty where the map has none
	Instruction bool   // a processor whose Requests wait for the controller's instruction
	Identifiers map[string]dsr.IdentifierKind
	Systems     []*connectors.System // sorted by name
	Classes     map[string]retention.Class
	Art15       Art15
	// places are the settings that say where each System is, as the map has them: references to variables and not their
	// values, so that a new password changes no rule.
	places map[string]map[string]string
}

// Controller is who answers for the data (GDPR Art. 4(7)).
type Controller struct {
	Name    string
	Country string // ISO 3166; its public holidays move deadlines, its numbering plan reads national telephone numbers
	Zone    *time.Location
}

// Art15 is what a copy must say besides the data (GDPR Art. 15(1)(a)–(h), 15(2)). Categories come from the fields.
type Art15 struct {
	Purposes, Recipients, Period, Rights, Complaint, Source, AutomatedDecisions, Transfers Clause
}

// Clause is one statement of Art. 15: its paragraphs, or an explicit "not applicable".
type Clause struct {
	Text          []string
	NotApplicable bool
}

// Clauses returns the statements in the order of the article, by their key in the map.
func (a *Art15) Clauses() []NamedClause {
	return []NamedClause{
		{"purposes", &a.Purposes},
		{"recipients", &a.Recipients},
		{"period", &a.Period},
		{"rights", &a.Rights},
		{"complaint", &a.Complaint},
		{"source", &a.Source},
		{"automated_decisions", &a.AutomatedDecisions},
		{"transfers", &a.Transfers},
	}
}

// NamedClause is a Clause and its key.
type NamedClause struct {
	Name string
	*Clause
}

// Missing lists the clauses that are neither written nor marked as not applicable; an access request cannot close
// while there is one.
func (a *Art15) Missing() []string {
	var names []string
	for _, c := range a.Clauses() {
		if len(c.Text) == 0 && !c.NotApplicable {
			names = append(names, c.Name)
		}
	}
	return names
}

// FindArt15 is the code of a finding: the statement of Art. 15 has a gap, so no access request can close.
const FindArt15 = "art15-incomplete"

// Findings reports what would stop a request or keep data for ever, whatever the Systems hold.
func (m *Map) Findings() []connectors.Finding {
	var found []connectors.Finding
	if missing := m.Art15.Missing(); len(missing) > 0 {
		found = append(found, connectors.Finding{
			Code: FindArt15, Severity: connectors.Error, Field: "art15",
			Message: "the statement of Art. 15 does not say: " + strings.Join(missing, ", ") + "; no access request can close",
			Hint:    "Write each under art15, or {not_applicable: true}.",
		})
	}
	return append(found, m.keptForever()...)
}

// System returns the named System, or nil.
func (m *Map) System(name string) *connectors.System {
	i, ok := slices.BinarySearchFunc(m.Systems, name, func(s *connectors.System, n string) int { return cmp.Compare(s.Name, n) })
	if !ok {
		return nil
	}
	return m.Systems[i]
}

// Categories returns the data categories that the map declares, sorted.
func (m *Map) Categories() []string {
	var all []string
	for _, s := range m.Systems {
		for _, e := range s.Entities {
			for _, f := range e.Fields {
				if f.Category != "" {
					all = append(all, f.Category)
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Hash returns the SHA-256, in hex, of a map's text.
func Hash(yaml []byte) string {
	sum := sha256.Sum256(yaml)
	return hex.EncodeToString(sum[:])
}

// Fault is one thing that is wrong with a map. It repeats no value of a setting, only names.
type Fault struct {
	Line, Column int    // 1-based
	Path         string // "systems.shop.entities.orders"
	Msg          string
	Hint         string
}

func (f Fault) Error() string {
	s := fmt.Sprintf("line %d, column %d: %s: %s", f.Line, f.Column, f.Path, f.Msg)
	if f.Path == "" {
		s = fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, f.Msg)
	}
	if f.Hint != "" {
		s += " (" + f.Hint + ")"
	}
	return s
}

// Faults is every fault of a map in the order of its lines.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}
