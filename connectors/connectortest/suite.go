// Package connectortest is the conformance suite of connectors. Every connector passes it against a real backend:
//
//	func TestConformance(t *testing.T) {
//		connectortest.Run(t, func(t *testing.T) connectortest.Backend { … })
//	}
//
// The suite loads rows into the backend, drives the connector as the engine does (rounds of Locate, Export, Erase,
// Verify, with interruptions), reads every row back without the connector, and compares with what an independent
// computation of ownership expects. Its [Journal] and [Sinks] are exported for connectors' own tests.
package connectortest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Backend is one empty, real store and the way to open a connector on it.
type Backend struct {
	// Open opens a connector for the system; it fills in Connector and Settings itself. Chunk, when above zero, is how
	// many rows one transaction or checkpoint should cover, so that small data is worked in many steps.
	Open func(t *testing.T, sys *connectors.System, o connectors.Options, chunk int) connectors.Connector
	// Load replaces everything in the store by the dataset.
	Load func(t *testing.T, d Dataset)
	// Dump reads every row of the loaded tables without the connector.
	Dump func(t *testing.T) map[string][]Row
	// Put adds a row, or replaces the one with the same primary key, without the connector.
	Put func(t *testing.T, table string, r Row)
	// References: the store refuses a row that refers to nothing, so orphans cannot be made.
	References bool
	// Interruptions bounds at how many of its steps each kind of interruption is tried; 0 is 40.
	Interruptions int
	// Graphs bounds how many random graphs are drawn; 0 leaves it to rapid's flags.
	Graphs int
}

// Run runs the suite; fresh returns an empty store for one case.
func Run(t *testing.T, fresh func(t *testing.T) Backend) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Backend)
	}{
		{"Capabilities", testCapabilities},
		{"Describe", testDescribe},
		{"Check", testCheck},
		{"LocateReadsOnly", testLocateReadsOnly},
		{"LocateTeaching", testTeaching},
		{"LocateAmbiguity", testAmbiguity},
		{"LocateUnsearched", testUnsearched},
		{"LocateExport", testLocateExport},
		{"IdentifierSpellings", testSpellings},
		{"Absent", testAbsent},
		{"Erase", testErase},
		{"EraseEveryone", testEraseEveryone},
		{"EraseTwice", testEraseTwice},
		{"EraseScope", testScope},
		{"SharedOwners", testSharedOwners},
		{"MessageToOneself", testMessageToOneself},
		{"Accessors", testAccessors},
		{"Memberships", testMemberships},
		{"Polymorphic", testPolymorphic},
		{"Tree", testTree},
		{"Circle", testCircle},
		{"CompositeKeys", testCompositeKeys},
		{"MaskedRows", testMaskedRows},
		{"Held", testHeld},
		{"Tenants", testTenants},
		{"Limits", testLimits},
		{"BatchSizes", testBatchSizes},
		{"Slices", testSlices},
		{"InterruptedErase", testInterruptedErase},
		{"JournalFails", testJournalFails},
		{"Fenced", testFenced},
		{"Cancelled", testCancelled},
		{"Concurrent", testConcurrent},
		{"Export", testExport},
		{"InterruptedExport", testInterruptedExport},
		{"SinkFails", testSinkFails},
		{"Saboteur", testSaboteur},
		{"Orphan", testOrphan},
		{"LateRow", testLateRow},
		{"ErrorsNameNobody", testErrorsNameNobody},
		{"RandomGraphs", testRandomGraphs},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, fresh(t))
		})
	}
}

// world is a backend with a dataset, and the map under which it is worked.
type world struct {
	Backend
	sys   *connectors.System
	data  Dataset
	chunk int
}

// setup loads a dataset.
func setup(t *testing.T, b Backend, sys *connectors.System, d Dataset) *world {
	t.Helper()
	b.Load(t, d)
	return &world{Backend: b, sys: sys, data: d}
}

// open opens the connector. It is closed when the test ends.
func (w *world) open(t *testing.T) connectors.Connector {
	t.Helper()
	sys := *w.sys
	c := w.Open(t, &sys, connectors.Options{Pseudonyms: keyring{}, Now: time.Now}, w.chunk)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) dump(t *testing.T) Tables {
	t.Helper()
	return w.data.canonical(w.Dump(t))
}

// subject is a person who is known by one e-mail address, as in most requests.
func subject(ref, email string) connectors.Subject {
	return connectors.Subject{Ref: ref, Identifiers: []dsr.Identifier{
		{Name: "email", Value: dsr.NewSecret(email), Origin: dsr.Known},
	}}
}

// discover does the engine's rounds: it asks what teaches until nothing new is learned.
func discover(t *testing.T, c connectors.Connector, b connectors.Batch) connectors.Batch {
	t.Helper()
	out := make(connectors.Batch, len(b))
	copy(out, b)
	for range 5 {
		found, err := c.Locate(context.Background(), connectors.Query{Batch: out, Teaching: true})
		require.NoError(t, err)
		if len(found.Learned) == 0 {
			return out
		}
		for _, l := range found.Learned {
			for i := range out {
				if out[i].Ref == l.Subject {
					out[i].Identifiers = append(out[i].Identifiers[:len(out[i].Identifiers):len(out[i].Identifiers)], l.Identifier)
				}
			}
		}
	}
	t.Fatal("the connector still learns in the fifth round")
	return nil
}

// eraser returns the connector as an Eraser, or skips: not every system can erase.
func eraser(t *testing.T, c connectors.Connector) connectors.Eraser {
	t.Helper()
	e, ok := c.(connectors.Eraser)
	if !ok {
		t.Skip("the connector cannot erase")
	}
	return e
}

func exporter(t *testing.T, c connectors.Connector) connectors.Exporter {
	t.Helper()
	e, ok := c.(connectors.Exporter)
	if !ok {
		t.Skip("the connector cannot export")
	}
	return e
}

// erase carries an erasure out to its end.
func erase(t *testing.T, c connectors.Connector, b connectors.Batch) *Journal {
	t.Helper()
	j := NewJournal()
	require.NoError(t, eraser(t, c).Erase(context.Background(), connectors.Job{Batch: b, Journal: j}))
	return j
}

// export carries an export out to its end.
func export(t *testing.T, c connectors.Connector, b connectors.Batch) *Sinks {
	t.Helper()
	j := NewJournal()
	s := NewSinks(j)
	require.NoError(t, exporter(t, c).Export(context.Background(), connectors.Job{Batch: b, Journal: j}, s.For))
	return s
}

// noResidue verifies.
func noResidue(t *testing.T, c connectors.Connector, b connectors.Batch, j *Journal) {
	t.Helper()
	left, err := c.Verify(context.Background(), connectors.Search{Batch: b, Keys: j})
	require.NoError(t, err)
	require.Empty(t, left, "residue")
}

// maxSlices bounds how often a verb may yield.
const maxSlices = 10_000
