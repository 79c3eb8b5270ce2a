package accesspackage

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

const (
	sealedSuffix = ".zip.sealed"
	noteSuffix   = ".json"
	temporary    = ".tmp"
)

// CodeArt15Incomplete is the error of a copy whose statement of Art. 15(1) the data map does not fill.
const CodeArt15Incomplete dsr.Code = "art15-incomplete"

// Assemble implements [engine.Packager]. It may be called again after any interruption: until the package is whole on
// disk the parts stay, and afterwards the same package is returned. An access package needs every statement of
// Art. 15 in the data map, or an explicit not_applicable; otherwise the error is permanent, with CodeArt15Incomplete.
func (s *Store) Assemble(ctx context.Context, spec engine.PackageSpec) (*engine.Package, error) {
	out := &engine.Package{
		Request: spec.Request.ID, Path: filepath.Join(packageDir, fileName(spec.Request.ID)+sealedSuffix),
		DataKey: spec.Wrapped, CreatedAt: spec.Now, Expires: spec.Expires,
	}
	a := &assembly{ctx: ctx, spec: spec}
	defer a.close()
	for _, system := range spec.Systems {
		st, err := s.openStaged(spec.Request.ID, system, spec.Key)
		if err != nil {
			return nil, err
		}
		if st != nil {
			a.staged = append(a.staged, st)
		}
	}
	// parts go all at once, so where there is something staged nothing of it is missing
	if !slices.ContainsFunc(a.staged, func(st *staged) bool { return len(st.entities) > 0 }) {
		if done, err := s.finished(out, spec.Key); done || err != nil {
			return out, err
		}
	}
	m, err := s.read(spec.Map.YAML)
	if err != nil {
		return nil, connectors.Permanent(
			"map-unreadable", "the data map of this request cannot be read any more",
			"give Lethe the environment that the map's ${VARIABLES} need", nil,
		)
	}
	if missing := m.Art15.Missing(); spec.Request.Kind == dsr.Access && len(missing) > 0 {
		return nil, connectors.Permanent(
			CodeArt15Incomplete, "the data map does not say what Art. 15 asks for: "+strings.Join(missing, ", "),
			"fill art15 in the data map, or write {not_applicable: true} under each, and retry", nil,
		)
	}
	a.m = m
	if err := s.write(out, a); err != nil {
		return nil, err
	}
	return out, s.Discard(spec.Request.ID)
}

// note is what is kept beside a package, so that Assemble can be repeated after its parts are gone.
type note struct {
	Size    int64     `json:"size"`
	Records int64     `json:"records"`
	SHA256  string    `json:"sha256"`
	Created time.Time `json:"created"`
}

// finished reports whether an earlier call built the package; it then fills out and removes what is left of the parts.
func (s *Store) finished(out *engine.Package, key engine.DataKey) (bool, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, out.Path+noteSuffix))
	if err != nil {
		if os.IsNotExist(err) {
			return false, nil
		}
		return false, unavailable(err)
	}
	var n note
	if json.Unmarshal(b, &n) != nil {
		return false, nil
	}
	r, err := s.Open(out, key)
	if err != nil {
		return false, nil // the zip is gone, or is another key's: build it again
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 4)); err != nil {
		return false, nil
	}
	out.Size, out.Records, out.SHA256, out.CreatedAt = n.Size, n.Records, n.SHA256, n.Created
	return true, s.Discard(out.Request)
}

// write builds the zip in a temporary file and puts it, then its note, into place.
func (s *Store) write(out *engine.Package, a *assembly) error {
	final := filepath.Join(s.dir, out.Path)
	if err := removeAll(filepath.Dir(final), filepath.Base(final)+".", temporary); err != nil { // of a worker that died
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(final), filepath.Base(final)+".*"+temporary)
	if err != nil {
		return unavailable(err)
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	defer f.Close()
	size := &summing{w: f, sum: sha256.New()}
	buffered := bufio.NewWriterSize(size, 256<<10)
	sealed, err := a.spec.Key.SealStream(buffered, sealedAs(out.Request))
	if err != nil {
		return unavailable(err)
	}
	zipped := &summing{w: sealed, sum: sha256.New()}
	out.Records, err = a.build(zipped)
	if err == nil {
		err = sealed.Close()
	}
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		if a.ctx.Err() != nil || connectors.IsPermanent(err) {
			return err
		}
		return unavailable(err)
	}
	out.Size, out.SHA256 = size.size, hex.EncodeToString(zipped.sum.Sum(nil))
	b, err := json.Marshal(note{out.Size, out.Records, out.SHA256, out.CreatedAt})
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), final); err != nil {
		return unavailable(err)
	}
	return unavailable(writeFile(final+noteSuffix, b))
}

// writeFile writes a file that is either whole or not there, and makes its folder's entries durable.
func writeFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*"+temporary)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// assembly is the work on one package.
type assembly struct {
	ctx    context.Context
	spec   engine.PackageSpec
	m      *datamap.Map
	staged []*staged
}

func (a *assembly) close() {
	for _, st := range a.staged {
		st.close()
	}
}

// build writes the whole zip and returns how many records and files of the subject are in it.
func (a *assembly) build(w io.Writer) (int64, error) {
	z := newArchive(w, a.spec.Now)
	words := wordsFor(a.spec.Language)
	p := &pages{
		T: words, Request: a.spec.Request, Controller: a.m.Controller.Name, Created: a.spec.Now, Expires: a.spec.Expires,
		m: a.m, ctx: a.ctx,
	}
	for _, st := range a.staged {
		for _, e := range st.entities {
			if e.records == 0 {
				continue
			}
			section, err := a.entity(z, st, e)
			if err != nil {
				return 0, err
			}
			p.Records += e.records
			p.Sections = append(p.Sections, section)
		}
	}
	p.Withheld = a.withheld(words)
	p.Masked = a.masked()
	for _, page := range []struct {
		name string
		fill func(io.Writer) error
	}{
		{"index.html", p.index},
		{"withheld.html", p.withheld},
		{"art15.html", p.art15},
		{"README." + words.Lang + ".txt", p.readme},
	} {
		if _, err := z.add(page.name, func(w io.Writer) (int64, error) { return 0, page.fill(w) }); err != nil {
			return 0, err
		}
	}
	return p.Records, z.close(manifest{
		Request: a.spec.Request.ID, Controller: a.m.Controller.Name, MapHash: a.spec.Map.Hash, Records: p.Records,
	})
}

// entity writes one entity's files and describes them for the index.
func (a *assembly) entity(z *archive, st *staged, e *stagedEntity) (*section, error) {
	s := &section{System: st.system, Entity: e.title(), Records: e.records, st: st, e: e, ctx: a.ctx}
	if e.Columns == nil {
		return s, a.files(z, st, e, s)
	}
	base := path.Join("data", safeName(st.system), safeName(e.title()))
	var err error
	if s.JSON, err = z.add(base+".json", func(w io.Writer) (int64, error) { return st.writeJSON(a.ctx, e, w) }); err != nil {
		return nil, err
	}
	s.CSV, err = z.add(base+".csv", func(w io.Writer) (int64, error) { return st.writeCSV(a.ctx, e, w) })
	return s, err
}

// files copies an entity's files. A file that was cut off by a crash has no end and is left out: the connector wrote
// it again after it.
func (a *assembly) files(z *archive, st *staged, e *stagedEntity, s *section) error {
	folder := path.Join("files", safeName(st.system), safeName(e.title()))
	for at := 0; at < len(e.blocks); {
		end := at + 1
		for end < len(e.blocks) && e.blocks[end].kind == blockContent {
			end++
		}
		if e.blocks[at].kind != blockFile || end == len(e.blocks) || e.blocks[end].kind != blockFileEnd {
			at = end
			continue
		}
		name, _, err := e.blocks[at].open(st.part.f, st.part.place, st.part.key, nil)
		if err != nil {
			return err
		}
		whole := &stagedEntity{entityInfo: e.entityInfo, blocks: e.blocks[at+1 : end]}
		entry, err := z.add(path.Join(folder, safePath(string(name))), func(w io.Writer) (int64, error) {
			for p, err := range st.payloads(a.ctx, whole) {
				if err != nil {
					return 0, err
				}
				if _, err := w.Write(p.plain); err != nil {
					return 0, err
				}
			}
			return 1, nil
		})
		if err != nil {
			return err
		}
		z.files[len(z.files)-1].From = string(name)
		if len(s.Files) < previewRecords {
			s.Files = append(s.Files, entry)
		}
		at = end + 1
	}
	return nil
}

// withheldLine is what stays out of the copy, or stays with the controller, and why.
type withheldLine struct {
	System, Entity string
	Count          int64
	Why            dsr.Exception
	Rule           string // of the deletion class that ends it
}

// withheld joins what connectors noted while they exported with what the Plan says. A connector's own count is the
// truer one.
func (a *assembly) withheld(words *Words) []withheldLine {
	type key struct{ system, entity, article, statute, class string }
	lines := map[key]*withheldLine{}
	add := func(system, entity string, count int64, why dsr.Exception, sum bool) {
		k := key{system, entity, why.Article, why.Statute, why.Class}
		if l := lines[k]; l != nil {
			if sum {
				l.Count += count
			}
			if why.Ends != nil && (l.Why.Ends == nil || l.Why.Ends.Before(*why.Ends)) {
				l.Why.Ends = why.Ends
			}
			return
		}
		l := &withheldLine{System: system, Entity: entity, Count: count, Why: why}
		if c, ok := a.m.Classes[why.Class]; ok {
			l.Rule = words.rule(c)
		}
		lines[k] = l
	}
	for _, st := range a.staged {
		for _, n := range st.withheld {
			add(st.system, n.entity, n.Count, n.Why, true)
		}
	}
	for _, l := range a.spec.Withheld {
		if l.Exception != nil {
			add(l.System, l.Entity, l.Count, *l.Exception, false)
		}
	}
	out := make([]withheldLine, 0, len(lines))
	for _, l := range lines {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(x, y withheldLine) int {
		return cmp.Or(cmp.Compare(x.System, y.System), cmp.Compare(x.Entity, y.Entity), cmp.Compare(x.Why.Article, y.Why.Article),
			cmp.Compare(x.Why.Statute, y.Why.Statute), cmp.Compare(x.Why.Class, y.Why.Class))
	})
	return out
}

// maskedLine names the fields of other people that are masked in the copy (Art. 15(4)).
type maskedLine struct {
	System, Entity string
	Fields         []string
}

func (a *assembly) masked() []maskedLine {
	var out []maskedLine
	for _, st := range a.staged {
		system := a.m.System(st.system)
		if system == nil {
			continue
		}
		for _, e := range st.entities {
			declared := system.Entity(e.title())
			if declared == nil || e.records == 0 || len(declared.ExportMask) == 0 {
				continue
			}
			l := maskedLine{System: st.system, Entity: e.title()}
			for f := range declared.ExportMask {
				l.Fields = append(l.Fields, f)
			}
			slices.Sort(l.Fields)
			out = append(out, l)
		}
	}
	return out
}
