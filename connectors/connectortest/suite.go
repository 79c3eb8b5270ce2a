// Package connectortest is the conformance suite of connectors. Every connector passes it against a real backend:
//
//	func TestConformance(t *testing.T) {
//		connectortest.Run(t, func(t *testing.T) connectortest.Backend { … })
//	}
//
// The suite loads rows into the backend, drives the connector as the engine does (rounds of Locate, Export, Erase,
// Verify, with interruptions), reads every row back without the connector, and compares with what an independent
// computation of ownership expects. Its [Journal] and [Sinks] are exported for connectors' own tests.
//
// To have a connector tested:
//
//  1. Make an empty, real store for the test and return a [Backend] of it: Load, Dump and Put, and Open.
//  2. A database takes Load, Dump and Put from [SQL]; a store of named contents, such as a bucket or a folder, from [Blobs].
//  3. Set Flat where entities have no ties: cases of ownership are not run and the others run on flat data.
//  4. Set Expires where nothing is deleted singly: every entity is mapped with erase: expire, and what is left must wait.
//  5. Open sets Connector and Settings of the system, and what the kind needs in the Settings of its entities; an entity
//     of the suite is called after its table.
//  6. Columns are text, integer or JSON. A name with dots, as user.email, is a nested field of a record; NULL may be left out.
//  7. Dump returns what anybody could still read, in every version and spelling of a place that the store has.
//  8. Exported turns a record of Export back into the row, where it is not one value a column.
//  9. Stands says where a row is, as an exported record must: every one says in columns called from_ where it came from.
//  10. Sabotage names other places where a row can come back, and Damage spoils a content; Verify and Erase must notice.
//  11. What a connector implements decides which cases run: there is nothing to switch off.
package connectortest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Backend is one empty, real store and the way to open a connector on it.
type Backend struct {
	// Open opens a connector for the system, which is the callee's to change: it fills in Connector and Settings. Chunk,
	// when above zero, is how many rows, records or contents one transaction or checkpoint should cover, so that small data
	// is worked in many steps.
	Open func(t *testing.T, sys *connectors.System, o connectors.Options, chunk int) connectors.Connector
	// Load replaces everything in the store by the dataset.
	Load func(t *testing.T, d Dataset)
	// Dump reads every row of the loaded tables without the connector.
	Dump func(t *testing.T) map[string][]Row
	// Put adds a row, or replaces the one with the same primary key, without the connector.
	Put func(t *testing.T, table string, r Row)
	// References: the store refuses a row that refers to nothing, so orphans cannot be made.
	References bool
	// Flat: entities have no ties, and a record belongs to whom its identifier fields name (see [connectors.Kind]).
	Flat bool
	// Expires: nothing is deleted singly; what is there goes with the store's own retention.
	Expires bool
	// LocalTimes: the store keeps times without a zone.
	LocalTimes bool
	// Exported turns an exported record into the row that it was loaded from; nil takes its names as columns.
	Exported func(r Record) Row
	// Stands returns the from_ columns with which Export must say where a row stands; it is nil for a database, whose
	// records are named by their keys.
	Stands func(t *testing.T, table string, r Row) map[string]string
	// Sabotage puts a row back in a place of the store's own, by that place's name: "noncurrent version", "rotated file".
	Sabotage map[string]func(t *testing.T, table string, r Row)
	// Damage adds a content of the table that cannot be read to its end, with the row in it, which Dump leaves out; intact
	// tells whether it is still as it was. It is nil where there is no such thing.
	Damage func(t *testing.T, table string, r Row) (intact func(t *testing.T) bool)
	// Blind: the store does not say whether a delete found anything, so two workers that do not know of each other may both
	// count what one of them deleted. Leases keep workers apart; the state is the same either way.
	Blind bool
	// Interruptions bounds at how many of its steps each kind of interruption is tried; 0 is 40.
	Interruptions int
	// Graphs bounds how many random graphs are drawn; 0 leaves it to rapid's flags.
	Graphs int
}

// needs is what a case asks of a store.
type needs int

const (
	ties    needs = 1 << iota // entities that refer to each other
	flat                      // entities that do not
	removal                   // rows can be deleted singly
	expiry                    // rows cannot be
	damage                    // contents can be spoiled
	places                    // rows stand in contents
)

func (n needs) met(b Backend) bool {
	has := map[needs]bool{ties: !b.Flat, flat: b.Flat, removal: !b.Expires, expiry: b.Expires, damage: b.Damage != nil, places: b.Stands != nil}
	for need, ok := range has {
		if n&need != 0 && !ok {
			return false
		}
	}
	return true
}

// Run runs the suite; fresh returns an empty store for one case.
func Run(t *testing.T, fresh func(t *testing.T) Backend) {
	kind := fresh(t) // asked what it is, and not used
	for _, c := range []struct {
		name  string
		needs needs
		run   func(*testing.T, Backend)
	}{
		{"Capabilities", 0, testCapabilities},
		{"Describe", 0, testDescribe},
		{"Check", ties, testCheck},
		{"CheckFlat", flat, testCheckFlat},
		{"LocateReadsOnly", 0, testLocateReadsOnly},
		{"LocateTeaching", 0, testTeaching},
		{"LocateAmbiguity", 0, testAmbiguity},
		{"LocateUnsearched", 0, testUnsearched},
		{"LocateExport", 0, testLocateExport},
		{"IdentifierSpellings", 0, testSpellings},
		{"Absent", 0, testAbsent},
		{"Erase", removal, testErase},
		{"EraseEveryone", removal, testEraseEveryone},
		{"EraseTwice", removal, testEraseTwice},
		{"EraseScope", removal, testScope},
		{"Expire", expiry, testExpire},
		{"SharedOwners", ties, testSharedOwners},
		{"SharedRecords", flat | removal, testSharedRecords},
		{"MessageToOneself", ties, testMessageToOneself},
		{"Accessors", ties, testAccessors},
		{"Memberships", ties, testMemberships},
		{"Polymorphic", ties, testPolymorphic},
		{"Tree", ties, testTree},
		{"Circle", ties, testCircle},
		{"CompositeKeys", ties, testCompositeKeys},
		{"MaskedRows", removal, testMaskedRows},
		{"AnchoredTogether", ties, testAnchoredTogether},
		{"AnchoredInTurn", ties, testAnchoredInTurn},
		{"AnchoredHeld", ties, testAnchoredHeld},
		{"Held", removal, testHeld},
		{"HeldEntity", removal, testHeldEntity},
		{"HeldKeeps", ties, testHeldKeeps},
		{"HeldTenants", removal, testHeldTenants},
		{"HeldMeanwhile", removal, testHeldMeanwhile},
		{"HeldExpires", expiry, testHeldExpires},
		{"Minimum", ties, testMinimum},
		{"Tenants", removal, testTenants},
		{"Limits", removal, testLimits},
		{"BatchSizes", removal, testBatchSizes},
		{"Slices", removal, testSlices},
		{"InterruptedErase", removal, testInterruptedErase},
		{"JournalFails", removal, testJournalFails},
		{"Fenced", removal, testFenced},
		{"Cancelled", 0, testCancelled},
		{"Concurrent", removal, testConcurrent},
		{"Export", 0, testExport},
		{"ExportSaysWhere", flat | places, testExportSaysWhere},
		{"InterruptedExport", 0, testInterruptedExport},
		{"SinkFails", 0, testSinkFails},
		{"Saboteur", removal, testSaboteur},
		{"NothingErased", removal, testNothingErased},
		{"Orphan", ties, testOrphan},
		{"LateRow", removal, testLateRow},
		{"Damaged", flat | damage, testDamaged},
		{"ErrorsNameNobody", removal, testErrorsNameNobody},
		{"RandomGraphs", ties, testRandomGraphs},
		{"Due", removal, testDue},
		{"Sweep", removal, testSweep},
		{"SweepUnreadStart", removal, testSweepUnreadStart},
		{"SweepDamaged", flat | removal | damage, testSweepDamaged},
		{"SweepDamagedByAge", flat | removal | damage, testSweepDamagedByAge},
		{"SweepMost", flat | removal | damage, testSweepMost},
		{"SweepFamily", ties, testSweepFamily},
		{"SweepShared", ties, testSweepShared},
		{"SweepHeld", removal, testSweepHeld},
		{"SweepTenants", removal, testSweepTenants},
		{"SweepHeldMeanwhile", removal, testSweepHeldMeanwhile},
		{"SweepSlices", removal, testSweepSlices},
		{"SweepStop", removal, testSweepStop},
		{"InterruptedSweep", removal, testInterruptedSweep},
		{"SweepJournalFails", removal, testSweepJournalFails},
		{"SweepFenced", removal, testSweepFenced},
		{"ConcurrentSweeps", removal, testConcurrentSweeps},
		{"CancelledSweep", removal, testCancelledSweep},
		{"SweepErrorsNameNobody", removal, testSweepErrorsNameNobody},
		{"RandomSweeps", removal, testRandomSweeps},
		{"RandomRecords", flat | removal, testRandomRecords},
	} {
		if !c.needs.met(kind) {
			continue
		}
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

// sample is the map and the rows that a case works on which does not care: the shop, or the lake where entities have no
// ties.
func (b Backend) sample() (*connectors.System, Dataset) {
	if !b.Flat {
		return shop(), shopData()
	}
	sys := lake()
	if b.Expires {
		for i := range sys.Entities {
			e := &sys.Entities[i]
			e.Erase, e.Keep, e.Masks = dsr.Expire, nil, nil
		}
	}
	return sys, lakeData()
}

// setupCrowd loads the sample with n more rows of Dora among a total of others'.
func setupCrowd(t *testing.T, b Backend, n, total int) *world {
	t.Helper()
	sys, d := b.sample()
	if b.Flat {
		return setup(t, b, sys, d.crowd(n, total))
	}
	return setup(t, b, sys, d.many(n, total))
}

// setupSample loads the sample.
func setupSample(t *testing.T, b Backend) *world {
	t.Helper()
	sys, d := b.sample()
	return setup(t, b, sys, d)
}

// open opens the connector. It is closed when the test ends.
func (w *world) open(t *testing.T) connectors.Connector {
	t.Helper()
	c := w.Open(t, private(w.sys), connectors.Options{Pseudonyms: keyring{}, Now: time.Now}, w.chunk)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// private is a copy of the map for a connector to complete.
func private(sys *connectors.System) *connectors.System {
	out := *sys
	out.Entities = slices.Clone(sys.Entities)
	return &out
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
