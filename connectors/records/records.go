// Package records reads, matches and rewrites records inside objects and files: JSON Lines, CSV and text, plain, gzip
// or zstd, as streams in bounded memory. It is the one place for formats and compression; a format is one file of this
// package. The connectors of buckets and log files differ in how they list, lock and replace; what is in a record they
// leave to this package.
//
// A record belongs to whom its identifier fields name. Which bytes are a value is the format's business ([format]); what
// they mean is decided here, once for all formats: value.go compares identifiers, mentions.go looks into free text,
// find.go and due.go decide, masks.go changes. pass.go runs an object through it on several cores.
package records

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

const (
	// MaxRecord is the longest record, in bytes with its end of line. A longer one is a permanent error: it could not be
	// held in memory beside its rewritten form.
	MaxRecord = 16 << 20
	// blockSize is about how much is matched, and compressed into one member, at a time.
	blockSize = 1 << 20
)

// Layout is how the records of one Entity look: its format, compression, fields, mentions and masks, compiled from the
// data map. It is immutable.
type Layout struct {
	sys         *connectors.System
	e           *connectors.Entity
	o           connectors.Options
	format      format
	compression compression
	times       timeFormat
	time        string // name of the field that Hit.Time and Totals.Latest read; empty when none
	block       int
}

// Settings are the keys of an Entity that every connector of records takes.
func Settings() []connectors.Setting {
	return []connectors.Setting{
		{Name: "format", Type: "string", Doc: "How records are written: " + strings.Join(formatNames(), ", ") + ".", Parse: oneOf(formatNames()...)},
		{
			Name: "compression", Type: "string",
			Doc:   "none, gzip or zstd; auto, the default, goes by the content, and by the name's ending where that says more.",
			Parse: oneOf(compressions...),
		},
		{
			Name: "pattern", Type: "string",
			Doc:   "Of text: combined, syslog, or a regular expression (RE2) whose named groups are the fields of a line.",
			Parse: func(v string) ([]string, error) { _, err := compilePattern(v); return nil, err },
		},
		{
			Name: "unmatched", Type: "string",
			Doc:   "Of text: what a line that does not match is: error, the default, or text, in which identifiers are redacted.",
			Parse: oneOf("error", "text"),
		},
		{Name: "delimiter", Type: "string", Doc: "Of csv: what separates fields; a comma when absent.", Parse: parseDelimiter},
		{
			Name: "columns", Type: "string",
			Doc: "Of csv without a header line: the names of the columns, with commas between.",
		},
		{Name: "time", Type: "string", Doc: "The field that says when a record was made."},
		{
			Name: "time_format", Type: "string",
			Doc: "How times are written: auto, unix, unix_ms, or directives as in %d/%b/%Y:%H:%M:%S %z.",
			Parse: func(v string) ([]string, error) {
				_, err := compileTime(v)
				return nil, err
			},
		},
	}
}

func oneOf(values ...string) func(string) ([]string, error) {
	return func(v string) ([]string, error) {
		if slices.Contains(values, v) {
			return nil, nil
		}
		return nil, invalid("is not one of "+strings.Join(values, ", "), "")
	}
}

func invalid(msg, hint string) error { return &dsr.Error{Code: dsr.CodeInvalid, Msg: msg, Hint: hint} }

// NewLayout compiles an Entity. Its error is a *dsr.Error with CodeInvalid that names the key.
func NewLayout(sys *connectors.System, e *connectors.Entity, o connectors.Options) (*Layout, error) {
	l := &Layout{sys: sys, e: e, o: o, block: blockSize}
	at := func(key string, err error) error {
		de := &dsr.Error{Code: dsr.CodeInvalid, Msg: "cannot be used"}
		errors.As(err, &de)
		return &dsr.Error{Code: dsr.CodeInvalid, Field: "entities." + e.Name + "." + key, Msg: de.Msg, Hint: de.Hint}
	}
	name := l.setting("format")
	make, ok := formats[name]
	if !ok {
		return nil, at("format", invalid("is not one of "+strings.Join(formatNames(), ", "), "write for example format: jsonl"))
	}
	var err error
	if l.compression, err = parseCompression(l.setting("compression")); err != nil {
		return nil, at("compression", err)
	}
	if l.format, err = make(l); err != nil {
		return nil, at("format", err)
	}
	written := l.setting("time_format")
	if written == "" {
		written = l.format.timeFormat()
	}
	if l.times, err = compileTime(written); err != nil {
		return nil, at("time_format", err)
	}
	if l.times.now = o.Now; o.Now == nil {
		l.times.now = time.Now
	}
	l.time = l.setting("time")
	if l.time == "" {
		for _, r := range e.Rules {
			if r.Start.Field != "" {
				l.time = r.Start.Field
				break
			}
		}
	}
	for _, name := range l.names() {
		if err := l.format.checkField(name); err != nil {
			return nil, at(name, err)
		}
	}
	return l, nil
}

// setting returns one of the Entity's own keys; empty when absent.
func (l *Layout) setting(name string) string {
	v, _ := l.e.Settings[name].(string)
	return v
}

// names are the fields that the map names, sorted.
func (l *Layout) names() []string {
	names := slices.Concat(l.e.Mentions, l.e.NotPersonal)
	add := func(masks map[string]mask.Spec) {
		for name := range masks {
			names = append(names, name)
		}
	}
	for _, f := range l.e.Fields {
		names = append(names, f.Name)
	}
	add(l.e.Masks)
	add(l.e.ExportMask)
	for _, r := range l.e.Rules {
		add(r.Masks)
		names = append(names, ruleFields(r)...)
	}
	if l.e.Tenant != "" {
		names = append(names, l.e.Tenant)
	}
	if l.time != "" {
		names = append(names, l.time)
	}
	if l.setting("unmatched") == "text" {
		names = append(names, unmatchedLine)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ruleFields are the fields of a record that a rule reads.
func ruleFields(r connectors.Rule) []string {
	var names []string
	for _, name := range []string{r.Start.Field, r.Start.NullField} {
		if name != "" {
			names = append(names, name)
		}
	}
	for _, c := range r.When {
		names = append(names, c.Field)
	}
	return names
}

// Totals are what one pass over one object did, or would do. Tallies are by subject, entity and method; a record that
// several share is credited to the first.
type Totals struct {
	Records int64 // all that were read
	Bytes   int64 // uncompressed
	Changed bool  // the rewritten object differs
	Left    int64 // records that remain
	Tallies []connectors.Tally
	Latest  time.Time // latest time of any record, by the Entity's time field
	// Unread are records that a rule leaves because their start is there and is not a time; UnreadAt is the first one's
	// offset.
	Unread   int64
	UnreadAt int64
	// Unsearched names fields with text that the map does not declare, sorted, at most a hundred. What looks like a value
	// and not a name is written as *.
	Unsearched []string
}
