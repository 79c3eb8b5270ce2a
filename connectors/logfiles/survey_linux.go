package logfiles

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// quietFor is how long nobody must have written to a file that a lease does not tell about before it counts as closed.
const quietFor = time.Hour

// reader is what every verb needs to look into files: who is looked for, and what went wrong.
type reader struct {
	*Folder
	disk   *disk
	batch  connectors.Batch
	held   connectors.Holds
	cache  map[string]*records.Finder
	last   map[string]time.Time
	faults faults
}

func (f *Folder) reader(batch connectors.Batch, held connectors.Holds) (*reader, error) {
	if f.sys.TenantName != "" && slices.ContainsFunc(batch, func(s connectors.Subject) bool { return s.Tenant == "" }) {
		return nil, connectors.Permanent(dsr.CodeInvalid, "a subject has no tenant", "File the request for a tenant.", nil)
	}
	d, err := f.disk()
	if err != nil {
		return nil, err
	}
	return &reader{Folder: f, disk: d, batch: batch, held: held, cache: map[string]*records.Finder{}, last: map[string]time.Time{}}, nil
}

// search changes who is looked for.
func (r *reader) search(batch connectors.Batch) {
	r.batch = batch
	clear(r.cache)
}

func (r *reader) close() { r.disk.close() }

// finder is what is looked for in a file; nil when its entity has no records, or nobody of the batch can be in it.
func (r *reader) finder(m *match) *records.Finder {
	if m.e.layout == nil {
		return nil
	}
	key := m.e.Name
	if m.e.tenant >= 0 {
		key += "\x00" + m.values[m.e.tenant]
	}
	if f, ok := r.cache[key]; ok {
		return f
	}
	part := r.part(m.e, m.values, r.batch)
	if len(part) == 0 {
		return nil
	}
	r.cache[key] = m.e.layout.Find(part, r.held)
	return r.cache[key]
}

// open opens a file and finds out whether it is live.
func (r *reader) open(m *match) (*os.File, error) {
	h, err := r.disk.open(m.file)
	if err != nil {
		return nil, r.fault(m, err)
	}
	if !m.live {
		w, release := lease(h)
		release()
		m.live = w == some || w == unknown && r.now().Sub(m.modified()) < quietFor
	}
	return h, nil
}

// waits says why and until when a live file stays as it is.
func (r *reader) waits(ctx context.Context, m *match) (*dsr.Exception, error) {
	out := &dsr.Exception{Cause: dsr.CauseLiveFile}
	if m.e.rotates == 0 {
		return out, nil
	}
	last, ok := r.last[m.e.Name]
	if !ok {
		err := r.disk.walk(ctx, false, m.e.files.Below, func(f *file) error {
			if _, is := m.e.files.Match(f.name); is && f.problem == "" && !m.e.isLive(f.name) && f.modified().After(last) {
				last = f.modified()
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		r.last[m.e.Name] = last
	}
	out.Ends = m.e.ends(r.now(), last)
	return out, nil
}

// content is a file as it is read: what was in it when it was opened, and of a live file's lines only whole ones.
func content(h *os.File, m *match) (io.Reader, error) {
	size := m.Size
	if m.live {
		head := make([]byte, 4)
		n, err := h.ReadAt(head, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if !isCompressed(head[:n]) {
			if size, err = wholeLines(h, size); err != nil {
				return nil, err
			}
		}
	}
	return io.NewSectionReader(h, 0, size), nil
}

func isCompressed(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0x1f, 0x8b}) || bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd})
}

// wholeLines is where the last line that has its end ends.
func wholeLines(h *os.File, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for size > 0 {
		n := min(size, int64(len(buf)))
		if _, err := h.ReadAt(buf[:n], size-n); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return size - n + int64(i) + 1, nil
		}
		size -= n
	}
	return 0, nil
}

// scan reads a file's records. What is damaged because it was being written, moved or compressed is read again later.
func (r *reader) scan(ctx context.Context, m *match, h *os.File, f *records.Finder, fn func(*records.Hit) error) (records.Totals, error) {
	src, err := content(h, m)
	if err != nil {
		return records.Totals{}, r.fault(m, err)
	}
	t, err := f.Scan(ctx, m.name, src, fn)
	return t, r.unread(m, h, err)
}

// unread types what a pass over a file failed with.
func (r *reader) unread(m *match, h *os.File, err error) error {
	if err == nil || !connectors.IsPermanent(err) {
		return r.fault(m, err)
	}
	if now, serr := statOpen(h); serr != nil || now.Size < m.Size || !m.live && !now.same(&m.status) {
		return errMoved
	}
	if m.live {
		head := make([]byte, 4)
		n, _ := h.ReadAt(head, 0)
		if isCompressed(head[:n]) {
			return &dsr.Error{
				Code: dsr.CodeUnavailable, Msg: r.where(m) + " is still being compressed", Hint: "It is read again when that has ended.",
			}
		}
	}
	var de *dsr.Error
	errors.As(err, &de)
	return connectors.Permanent(de.Code, r.where(m)+": "+de.Msg, de.Hint, de.Err)
}

func (r *reader) where(m *match) string {
	return m.e.where(m.name, strconv.FormatUint(m.Ino, 10), r.batch)
}

// fault takes the path out of the system's errors, which may hold personal data, and tells what may pass from what does
// not.
func (r *reader) fault(m *match, err error) error {
	no := bare(err)
	if err == nil || no == nil || errors.Is(err, errMoved) || dsr.CodeOf(err) != "" {
		return err
	}
	msg := r.where(m) + " cannot be read or replaced"
	if isRefusal(no) {
		return connectors.Permanent(CodeFile, msg+": "+no.Error(), "Give Lethe the file's owner or the privileges that `lethe grants` prints.", no)
	}
	return &dsr.Error{Code: dsr.CodeUnavailable, Msg: msg, Hint: "See whether the disk is full or failing.", Err: no}
}

// held tells whether a hold keeps a file that is somebody's as a whole: it names a held subject, its entity is frozen,
// or a record in it is held.
func (r *reader) isHeld(ctx context.Context, m *match, h *os.File) (bool, error) {
	if len(r.owners(m.e, m.values, everything(r.held.Subjects))) > 0 {
		return true, nil
	}
	for _, frozen := range r.held.Entities {
		if frozen.Entity == m.e.Name {
			return true, nil // a condition is of records: what in the file meets it cannot go with the rest
		}
	}
	people := r.part(m.e, m.values, everything(r.held.Subjects))
	if m.e.layout == nil || len(people) == 0 {
		return false, nil
	}
	found := false
	_, err := r.scan(ctx, m, h, m.e.layout.Find(people, connectors.Holds{}), func(*records.Hit) error { found = true; return errEnough })
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, err
}

// errEnough ends a scan early.
var errEnough = errors.New("enough was read")

// everything are held subjects as they are held: in every entity.
func everything(b connectors.Batch) connectors.Batch {
	out := make(connectors.Batch, len(b))
	for i, s := range b {
		s.Entities = nil
		out[i] = s
	}
	return out
}

// sight is one record, or one file as a whole, of one subject.
type sight struct {
	*match
	subject string
	method  dsr.Method
	residue []string       // fields in which something is left; one empty name for a file
	waits   *dsr.Exception // it cannot go yet
	hit     *records.Hit   // nil for a file
}

// survey calls fn for everything that the files of some entities hold of the batch, in a stable order.
func (r *reader) survey(ctx context.Context, entities []*entity, fn func(sight) error) (map[string]*records.Totals, error) {
	totals := map[string]*records.Totals{}
	l := &listing{disk: r.disk, entities: entities, at: &progress{}}
	err := l.each(ctx, func(m *match) error {
		t, err := r.look(ctx, m, fn)
		if sum := totals[m.e.Name]; sum == nil {
			totals[m.e.Name] = &t
		} else {
			sum.Records += t.Records
			sum.Unsearched = append(sum.Unsearched, t.Unsearched...)
		}
		return r.faults.note(m.e, err)
	}, r.refuse)
	return totals, err
}

// look finds out what one file holds of the batch.
func (r *reader) look(ctx context.Context, m *match, fn func(sight) error) (records.Totals, error) {
	owners := r.owners(m.e, m.values, r.batch)
	finder := r.finder(m)
	if finder == nil && len(owners) == 0 {
		return records.Totals{}, nil
	}
	h, err := r.open(m)
	if err != nil {
		return records.Totals{}, err
	}
	defer h.Close()
	t := records.Totals{}
	if len(owners) > 0 {
		s := sight{match: m, method: m.e.method()}
		if s.method == dsr.Delete {
			s.residue = []string{""}
			if s.waits, err = r.hindrance(ctx, m, h); err != nil {
				return t, err
			}
		}
		for _, s.subject = range owners {
			if err := fn(s); err != nil {
				return t, err
			}
		}
		t.Records = 1
	}
	if finder == nil {
		return t, nil
	}
	var live *dsr.Exception
	if m.live {
		if live, err = r.waits(ctx, m); err != nil {
			return t, err
		}
	}
	read, err := r.scan(ctx, m, h, finder, func(hit *records.Hit) error {
		for _, ref := range hit.Subjects {
			s := sight{match: m, subject: ref, method: hit.Method, residue: hit.Residue, hit: hit}
			switch {
			case slices.Contains(owners, ref):
				continue // it goes, or stays, with the file
			case hit.Method == dsr.Held:
				s.waits = &dsr.Exception{Cause: dsr.CauseHold}
			case len(hit.Residue) > 0:
				s.waits = live
			}
			if err := fn(s); err != nil {
				return err
			}
		}
		return nil
	})
	read.Records += t.Records
	return read, err
}

// hindrance is what keeps a file that is to go as a whole; nil when nothing does.
func (r *reader) hindrance(ctx context.Context, m *match, h *os.File) (*dsr.Exception, error) {
	held, err := r.isHeld(ctx, m, h)
	switch {
	case err != nil:
		return nil, err
	case held:
		return &dsr.Exception{Cause: dsr.CauseHold}, nil
	case m.live:
		return r.waits(ctx, m)
	}
	return nil, nil
}

// refuse notes a name that matches and cannot be worked.
func (r *reader) refuse(m *match) error { return r.faults.note(m.e, r.refused(m)) }

// refused says why a name that matches cannot be worked.
func (r *reader) refused(m *match) error {
	msg, hint := r.where(m)+" has several names (hard links)", "Write links: follow, or remove the other names."
	switch m.problem {
	case symlink:
		msg, hint = r.where(m)+" is a symbolic link", "Write links: follow, or a pattern that leaves it out."
	case escape:
		msg, hint = r.where(m)+" is a symbolic link that leads out of the root", "Give what it leads to a system of its own; write a pattern that leaves the link out."
	case special:
		msg, hint = r.where(m)+" is not a file", "Write a pattern that leaves it out."
	}
	return connectors.Permanent(CodeLink, msg, hint, nil)
}

// faults are what went wrong for good, one of each entity; the others go on.
type faults []fault

type fault struct {
	Entity string   `json:"entity,omitempty"`
	Ref    string   `json:"subject,omitempty"` // of one subject; empty is of everybody
	Code   dsr.Code `json:"code"`
	Msg    string   `json:"msg"`
	Hint   string   `json:"hint,omitempty"`
}

// note records a permanent fault of an entity, and returns any other error.
func (l *faults) note(e *entity, err error) error {
	var de *dsr.Error
	if !connectors.IsPermanent(err) || !errors.As(err, &de) {
		return err
	}
	for _, f := range *l {
		if f.Entity == e.Name {
			return nil
		}
	}
	*l = append(*l, fault{Entity: e.Name, Code: de.Code, Msg: de.Msg, Hint: de.Hint})
	return nil
}

// errors are the faults as every subject whom they concern has them.
func (l faults) errors(batch connectors.Batch) error {
	var errs []error
	for _, f := range l {
		err := connectors.Permanent(f.Code, f.Msg, f.Hint, nil)
		for _, s := range batch {
			if f.Ref == s.Ref || f.Ref == "" && (s.Entities == nil || s.Entities[f.Entity]) {
				errs = append(errs, &connectors.SubjectError{Subject: s.Ref, Entity: f.Entity, Err: err})
			}
		}
	}
	return errors.Join(errs...)
}
