// Package records reads, matches and rewrites records inside objects and files: JSON Lines, CSV and text, plain, gzip
// or zstd, as streams in bounded memory. It is the one place for formats and compression; a format is one file of this
// package. The connectors of buckets and log files differ in how they list, lock and replace; what is in a record they
// leave to this package.
package records

import (
	"context"
	"io"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Layout is how the records of one Entity look: its format, compression, fields, mentions and masks, compiled from the
// data map. It is immutable.
type Layout struct{}

// NewLayout compiles an Entity. Its error is a *dsr.Error with CodeInvalid that names the key.
func NewLayout(sys *connectors.System, e *connectors.Entity, o connectors.Options) (*Layout, error) {
	panic("not written yet")
}

// Settings are the keys of an Entity that every connector of records takes: format, compression, pattern, time_format.
func Settings() []connectors.Setting { panic("not written yet") }

// Finder is what one pass looks for: a batch of subjects, or what a rule makes due. It is immutable and safe for
// concurrent use.
type Finder struct{}

// Find looks for subjects. A record in which an identifier field names one of them is theirs and is deleted, masked or
// kept as the Entity says; in any other record identifiers in mentions are redacted. Records of held subjects stay as
// they are.
func (l *Layout) Find(b connectors.Batch, held connectors.Holds) *Finder { panic("not written yet") }

// Due looks for records that a rule makes due, minus what is held. stored is what StartObject means.
func (l *Layout) Due(rule connectors.Rule, cut connectors.Cut, held connectors.Holds) (*Finder, error) {
	panic("not written yet")
}

// Hit is one record that the Finder found. It is valid until the callback returns.
type Hit struct {
	Subjects []string   // Refs whose record it is, or who are mentioned; nil in a Sweep
	Method   dsr.Method // Delete, Mask, Keep, Redact; Held where a hold stops it
	Offset   int64      // of its first byte, uncompressed
	// Residue names the fields that still hold what the Plan removes; empty for a kept record whose masks hold.
	Residue []string
	Time    time.Time // by the Entity's time field; zero when it has none
	record  any
}

// Record returns the names and values of the record's fields, for an export; ExportMask is applied for a subject who is
// not its owner.
func (h *Hit) Record(subject string) (names []string, values []any, err error) {
	panic("not written yet")
}

// Learned returns the identifiers of a record that is wholly one subject's.
func (h *Hit) Learned() []dsr.Identifier { panic("not written yet") }

// Totals are what one pass over one object did, or would do. Tallies are by subject, entity and method; a record that
// several share is credited to the first.
type Totals struct {
	Records int64 // all that were read
	Bytes   int64 // uncompressed
	Changed bool  // the rewritten object differs
	Left    int64 // records that remain
	Tallies []connectors.Tally
	Latest  time.Time // latest time of any record, by the Entity's time field
}

// Scan reads one object and calls fn for every hit in order; fn may be nil. name chooses the compression when the map does not. A
// damaged object, or one of another format, is a permanent *dsr.Error that gives the offset and no content.
func (f *Finder) Scan(ctx context.Context, name string, r io.Reader, fn func(*Hit) error) (Totals, error) {
	panic("not written yet")
}

// Rewrite copies one object without what is deleted, and with what is masked or redacted. Bytes of untouched records are
// unchanged, and so is the compression's kind. Reading, matching and writing overlap. On an error what was written is
// not to be used.
func (f *Finder) Rewrite(ctx context.Context, name string, r io.Reader, w io.Writer) (Totals, error) {
	panic("not written yet")
}
