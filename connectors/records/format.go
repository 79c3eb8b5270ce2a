package records

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
)

// format is one way of writing records, compiled from the settings of a Layout. It is immutable. To add one, write a
// file with a type that implements this and list it in formats.
type format interface {
	// whole returns how many bytes of b, which begins with a record, are whole records: those whose end of line is in b.
	whole(b []byte) int
	// next returns the length of b's first record with its end of line, or of b when it has none.
	next(b []byte) int
	// blank reports whether a record without its end of line is an empty line: kept as it is, and counted nowhere.
	blank(body []byte) bool
	// ends says what the end of a block of whole records guarantees to a later reader.
	ends() ending
	// open reads what stands before the first record of an object: its length, and a maker of parsers, one for each
	// goroutine. head is the first block. The error is a *fault.
	open(head []byte) (preamble int, s shape, err error)
	// checkField refuses a name that no record can have; its error is a *dsr.Error.
	checkField(name string) error
	// timeFormat is the time_format of an Entity that gives none.
	timeFormat() string
}

// shape is a format as one object has it. It is immutable.
type shape interface {
	parser(p *paths) (parser, error)
}

// maxValues is how many values of wanted fields a record may have: a line of a few megabytes may hold millions, which
// would take a hundred times its size.
const maxValues = 1 << 18

// parser takes records apart. It is used by one goroutine.
type parser interface {
	// parse appends the values of the fields that are wanted to out; all of paths when all. body is a record without its
	// end of line. It checks the whole record. The error is a *fault with the offset in body.
	parse(body []byte, out []value, all bool) ([]value, error)
	// text returns a value without the format's quotes and escapes. It is valid until the next call.
	text(body []byte, v value) []byte
	// encode returns what stands in place of v when it becomes a new one: nil, a string, or a literal.
	encode(body []byte, v value, to any) ([]byte, error)
	// check reports, as a *fault, a changed record that would not be read as what was written.
	check(body []byte) error
	// export returns a whole record as the names and values of its fields.
	export(body []byte) (names []string, values []any)
	// unsearched returns the names of fields with text that paths does not have and that were seen by parse.
	unsearched() []string
}

// literal is written without quotes where the format can: a number, true, false, or a whole JSON value.
type literal string

// kind is what a value is to the format.
type kind byte

const (
	null kind = iota
	boolean
	number
	text
	composite // a JSON object, or an array that a mention or an export takes as a whole
)

// value is one occurrence of a field in a record.
type value struct {
	field    int // index in paths
	from, to int // its bytes, quotes included
	kind     kind
	escaped  bool // text that differs from its bytes
	listed   bool // an element of an array: others' values may stand beside it
}

// ending is what is known about the end of a block.
type ending byte

const (
	endsAnywhere ending = iota
	endsLine            // after a line feed
	endsCSV             // after a line feed outside of quotes
)

// fault is what is wrong with an object, and where. It never holds content.
type fault struct {
	at  int
	msg string
}

func (f *fault) Error() string { return fmt.Sprintf("%s at byte %d of the record", f.msg, f.at) }

// paths are the fields that one pass looks for.
type paths struct {
	names []string // by index
	hot   []bool   // wanted in every record; the others only in records that are looked into
	index map[string]int
	tree  *node // for formats that nest
}

func newPaths(names []string, hot func(i int) bool) *paths {
	p := &paths{names: names, index: map[string]int{}, tree: newTree(names)}
	for i, name := range names {
		p.index[name] = i
		p.hot = append(p.hot, hot(i))
	}
	return p
}

// formats makes a format from a Layout's settings, by its name in the map.
var formats = map[string]func(*Layout) (format, error){
	"jsonl": newJSONL,
	"csv":   newCSV,
	"text":  newText,
}

func formatNames() []string { return slices.Sorted(maps.Keys(formats)) }

// lines are the ends of records that are one line each. A run of zeros where a line should begin is one of its own, and
// blank: a file that was cut (copytruncate) while its writer went on where it was has as many as it had bytes.
type lines struct{}

func (lines) whole(b []byte) int {
	n := bytes.LastIndexByte(b, '\n') + 1
	return n + zeros(b[n:])
}

func (lines) next(b []byte) int {
	if n := zeros(b); n > 0 {
		return n
	}
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

// zeros is how many zeros b begins with.
func zeros(b []byte) int {
	n := 0
	for n < len(b) && b[n] == 0 {
		n++
	}
	return n
}

func (lines) ends() ending { return endsLine }

// body returns a record without its end of line.
func body(rec []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(rec, []byte{'\n'}), []byte{'\r'})
}

var bom = []byte("\ufeff")

// bomLength returns how long the byte order mark at the beginning of an object is; 0 when it has none.
func bomLength(head []byte) int {
	if bytes.HasPrefix(head, bom) {
		return len(bom)
	}
	return 0
}

// maxUnsearched bounds the undeclared fields that are reported.
const maxUnsearched = 100

// fieldName returns a name of a field as it may be reported: keys of some documents are values, such as the e-mail
// address of a person.
func fieldName(name string) string {
	digits := 0
	for i := range len(name) {
		switch c := name[i]; {
		case '0' <= c && c <= '9':
			digits++
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_', c == '-', c == '.', c == '$', c == ' ':
		default:
			return "*"
		}
	}
	if digits > 3 || len(name) > 64 || name == "" {
		return "*"
	}
	return name
}
