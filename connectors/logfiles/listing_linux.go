package logfiles

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// A folder is listed again until a listing shows nothing new, because rotation moves files while a pass goes over them:
// app.log.9 becomes app.log.10, which stands before app.log.2, and a compressed file is another file. A listing after the
// first looks at what changed its name or came into being since the listing before began, which the status's time of
// change tells, and leaves out what this Run has worked already.

// progress is how far a Run is with its listings. It is part of a checkpoint.
type progress struct {
	Began  time.Time `json:"began"`           // when this listing began
	Before time.Time `json:"before,omitzero"` // when the one before began; zero in the first
	Round  int       `json:"round,omitempty"`
	After  string    `json:"after,omitempty"` // names before it are done in this listing
	Fresh  bool      `json:"fresh,omitempty"` // this listing has shown something new
	// Done are files that later listings would take for new, as hashes, sorted.
	Done []uint64 `json:"done,omitempty"`
}

const (
	maxListings = 10
	// clocks of file servers differ, and a kernel's own ticks
	clockSlack = time.Minute
)

// listing hands out the files of entities, each once.
type listing struct {
	*disk
	entities []*entity
	at       *progress
	// changing tells apart what a file was before and after it was written to; without, a file is one as long as it lives.
	changing bool
	missed   bool // a file of this listing had moved when it was to be read
}

// match is a file of an entity.
type match struct {
	*file
	e      *entity
	values []string // of the pattern's placeholders
	live   bool     // by its name; reading it may show that it is
}

func (m *match) key(changing bool) uint64 {
	id := fmt.Sprint(m.e.Name, m.inode)
	if changing && !m.live {
		id += fmt.Sprint(" ", m.Size, m.Mtime)
	}
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:])
}

// each calls fn for every file of the entities. When fn returns errMoved the file is looked for again. skip is called
// instead for names that match and cannot be worked. It is an error that may pass when files moved away in every listing
// before they could be read: what is in them would seem to have been seen.
func (l *listing) each(ctx context.Context, fn func(*match) error, skip func(*match) error) error {
	for l.at.Round < maxListings {
		if l.at.Began.IsZero() {
			l.at.Began = time.Now() // the file system's time, not the engine's
		}
		l.missed = false
		err := l.walk(ctx, false, l.below, func(f *file) error { return l.file(f, fn, skip) })
		if err != nil {
			return err
		}
		first := l.at.Before.IsZero()
		*l.at = progress{Before: l.at.Began, Round: l.at.Round + 1, Fresh: l.at.Fresh, Done: l.at.Done}
		if !first && !l.at.Fresh {
			l.at.Round = maxListings
		}
		l.at.Fresh = false
	}
	if l.missed {
		return &dsr.Error{
			Code: dsr.CodeUnavailable, Msg: "log files moved or changed whenever they were to be read",
			Hint: "Something rotates or rewrites them all the time; Lethe tries again.",
		}
	}
	return nil
}

func (l *listing) below(folder string) bool {
	return slices.ContainsFunc(l.entities, func(e *entity) bool { return e.files.Below(folder) })
}

func (l *listing) file(f *file, fn, skip func(*match) error) error {
	if l.at.After != "" && order(f.name, l.at.After) <= 0 {
		return nil
	}
	if !l.at.Before.IsZero() && f.ctime.Before(l.at.Before.Add(-clockSlack)) {
		return nil
	}
	worked := false
	for _, e := range l.entities {
		values, ok := e.files.Match(f.name)
		m := &match{file: f, e: e, values: values}
		work := fn
		switch {
		case f.problem != "" && (ok || f.folder && e.files.Below(f.name)), ok && f.nlinks > 1 && !l.follow:
			work = skip
		case !ok || f.problem != "":
			continue
		default:
			m.live = e.isLive(f.name)
		}
		if l.at.isDone(m.key(l.changing)) {
			continue
		}
		worked, l.at.Fresh = true, true
		err := work(m)
		if errors.Is(err, errMoved) {
			l.missed = true
			continue
		} else if err != nil {
			return err
		}
		if !m.ctime.Before(l.at.Began.Add(-clockSlack)) {
			l.at.done(m.key(l.changing))
		}
	}
	if worked {
		l.at.After = f.name
	}
	return nil
}

// done notes a file that the next listing would take for new.
func (p *progress) done(key uint64) {
	if i, ok := slices.BinarySearch(p.Done, key); !ok {
		p.Done = slices.Insert(p.Done, i, key)
	}
}

func (p *progress) isDone(key uint64) bool {
	_, ok := slices.BinarySearch(p.Done, key)
	return ok
}

// order compares names as a walk meets them: folder by folder.
func order(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}
