package connectors

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Failures are what a Sweep leaves because it cannot be worked, by code: how much, and what is wrong with the first. They
// are few however much fails, so they may be kept in a checkpoint. Msg and Hint hold no personal data.
type Failures []Failure

// Failure is one of them.
type Failure struct {
	Code  dsr.Code `json:"code"`
	Count int64    `json:"count"`
	Msg   string   `json:"msg"`
	Hint  string   `json:"hint,omitempty"`
}

// Add counts what is given.
func (f *Failures) Add(more ...Failure) {
	for _, m := range more {
		known := false
		for i := range *f {
			if have := &(*f)[i]; have.Code == m.Code {
				have.Count += m.Count
				known = true
			}
		}
		if !known {
			*f = append(*f, m)
		}
	}
}

// Note counts the fault of one content, when it is permanent, and returns any other error.
func (f *Failures) Note(err error) error {
	var de *dsr.Error
	if !IsPermanent(err) || !errors.As(err, &de) {
		return err
	}
	f.Add(Failure{Code: de.Code, Count: 1, Msg: de.Msg, Hint: de.Hint})
	return nil
}

// Counts are how much there is of each code; nil when there is nothing.
func (f Failures) Counts() map[dsr.Code]int64 {
	if len(f) == 0 {
		return nil
	}
	out := make(map[dsr.Code]int64, len(f))
	for _, x := range f {
		out[x.Code] = x.Count
	}
	return out
}

// Err is the error of a Sweep that has done all else, nil when there is nothing. Its code is the first one's.
func (f Failures) Err(entity string) error {
	if len(f) == 0 {
		return nil
	}
	what, hints := make([]string, len(f)), make([]string, 0, len(f))
	for i, x := range f {
		what[i] = fmt.Sprintf("%d %s (%s)", x.Count, x.Code, x.Msg)
		if x.Hint != "" {
			hints = append(hints, x.Hint)
		}
	}
	return Permanent(f[0].Code, entity+": not all that is due, or may be, is gone: "+strings.Join(what, "; "),
		strings.Join(append([]string{"Everything else that was due is gone."}, hints...), " "), nil)
}

// Taken are the rows of tallies that were deleted or masked.
func Taken(all []Tally) (rows int64) {
	for _, t := range all {
		if t.Method == dsr.Delete || t.Method == dsr.Mask {
			rows += t.Rows
		}
	}
	return rows
}

// OverMost is the error of a Sweep that would take more than its job's Most.
func OverMost(entity string) error {
	return Permanent(dsr.CodeOverCap, entity+": more is due by now than was counted, and than a cap lets go; some of it could not be read then, perhaps",
		"What was counted may be gone in part. The next sweep counts again, and asks for an approval where it has to.", nil)
}
