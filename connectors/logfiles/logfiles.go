// Package logfiles is the connector of folders of log files that are rotated by somebody else: logrotate, a logging
// library, a shipper. Records inside the files are JSON Lines, CSV or text, plain or compressed (package records); files
// that belong to one person as a whole are named by {placeholders} in the pattern.
//
// What it keeps:
//
//   - Nothing outside the configured root is read or touched: every path is opened beneath the root, link or not.
//   - A file is rewritten beside itself and exchanged with the original in one step. Whoever opens it sees the old file or
//     the new one, whole, whenever a process is killed; mode, owner, access lists and times are the old one's.
//   - A file that was rotated, compressed or appended to meanwhile is noticed by its inode, size and time, before and
//     after the exchange, put back if it was not the one that was read, and read again.
//   - A file that is still written to is never changed: it waits for its rotation. A file is live by its name (see
//     [entity.isLive]), and any file is while a process has it open for writing, which a read lease tells (fcntl(2)).
//     That covers writers that reopen and copytruncate alike.
//
// One worker at a time changes files below a root; it holds a lock on the root folder itself.
package logfiles

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Stable codes of errors.
const (
	CodeFolder     dsr.Code = "log-folder"     // the root or a folder in it cannot be read or changed
	CodeLink       dsr.Code = "log-link"       // a symbolic or hard link that is refused
	CodeFile       dsr.Code = "log-file"       // a file that cannot be replaced as it is
	CodeCheckpoint dsr.Code = "log-checkpoint" // the checkpoint was written by another version
)

// Kinds returns the connector as the registry knows it.
func Kinds() []connectors.Kind {
	return []connectors.Kind{{
		Name: "logfiles",
		SystemKeys: []connectors.Setting{
			{
				Name: "root", Type: "string", Required: true, Parse: parseRoot,
				Doc: "Absolute path of the folder; nothing outside of it is read or changed.",
			},
			{
				Name: "links", Type: "string", Parse: parseLinks,
				Doc: "refuse (the default) or follow: what symbolic and hard links inside the root mean. Links that lead out are always refused.",
			},
		},
		EntityKeys: append([]connectors.Setting{
			{
				Name: "files", Type: "string", Required: true, Parse: parseFiles,
				Doc: "Pattern of paths below the root: * is any text without a slash, ** any folders, {identifier} a value whose file it is.",
			},
			{
				Name: "live", Type: "string", Parse: parseLive,
				Doc: "Pattern of the files that are still written to; a pattern without a slash is of names in any folder.",
			},
			{
				Name: "rotates", Type: "string", Parse: parseRotates,
				Doc: "How often the live file is rotated: hourly, daily, weekly, monthly, or a duration such as 24h.",
			},
		}, records.Settings()...),
		Flat: true,
		Open: func(_ context.Context, s *connectors.System, o connectors.Options) (connectors.Connector, error) {
			return open(s, o)
		},
	}}
}

func parseRoot(v string) ([]string, error) {
	if !filepath.IsAbs(v) {
		return nil, invalid("is not an absolute path", "write for example /var/log/app")
	}
	return nil, nil
}

func parseLinks(v string) ([]string, error) {
	if v != "refuse" && v != "follow" {
		return nil, invalid("is not refuse or follow", "")
	}
	return nil, nil
}

// filePattern reads which files an entity has. One person's must not be taken for another's.
func filePattern(v string) (*records.Glob, error) {
	g, err := records.ParseGlob(v)
	if err == nil {
		err = g.OneReading()
	}
	return g, err
}

func parseFiles(v string) ([]string, error) {
	g, err := filePattern(v)
	if err != nil {
		return nil, err
	}
	return g.Identifiers(), nil
}

func parseLive(v string) ([]string, error) {
	g, err := records.ParseGlob(v)
	if err == nil && len(g.Identifiers()) > 0 {
		err = invalid("has a placeholder", "write * in its place")
	}
	return nil, err
}

func parseRotates(v string) ([]string, error) {
	_, err := rotation(v)
	return nil, err
}

// rotation reads how often a live file is rotated.
func rotation(v string) (time.Duration, error) {
	switch v {
	case "hourly":
		return time.Hour, nil
	case "daily":
		return 24 * time.Hour, nil
	case "weekly":
		return 7 * 24 * time.Hour, nil
	case "monthly":
		return 31 * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Second {
		return 0, invalid("is not a time between rotations", "write hourly, daily, weekly, monthly, or a duration such as 12h")
	}
	return d, nil
}

func invalid(msg, hint string) error { return &dsr.Error{Code: dsr.CodeInvalid, Msg: msg, Hint: hint} }

// Folder is the connector of one root under one map. It is safe for concurrent use.
type Folder struct {
	sys      *connectors.System
	root     string
	follow   bool
	entities []*entity
	ignored  []*records.Glob
	o        connectors.Options
	now      func() time.Time
}

// entity is one kind of file.
type entity struct {
	*connectors.Entity
	files   *records.Glob
	live    *records.Glob   // nil: by the rule of isLive
	rotates time.Duration   // 0 is unknown
	layout  *records.Layout // nil: files are somebody's as a whole, or nobody's
	whole   bool            // placeholders tell whose a file is
	tenant  int             // which placeholder is the tenant; -1 when none
}

func text(settings map[string]any, key string) string {
	v, _ := settings[key].(string)
	return v
}

// newFolder compiles a System. Its error is a *dsr.Error with CodeInvalid.
func newFolder(s *connectors.System, o connectors.Options) (*Folder, error) {
	f := &Folder{sys: s, root: filepath.Clean(text(s.Settings, "root")), follow: text(s.Settings, "links") == "follow", o: o, now: o.Now}
	if f.now == nil {
		f.now = time.Now
	}
	if _, err := parseRoot(f.root); err != nil {
		return nil, at("root", err)
	}
	for i := range s.Entities {
		e, err := newEntity(s, &s.Entities[i], o)
		if err != nil {
			return nil, err
		}
		f.entities = append(f.entities, e)
	}
	for pattern := range s.Ignored {
		g, err := records.ParseGlob(pattern)
		if err != nil {
			return nil, at("ignore", err)
		}
		f.ignored = append(f.ignored, g)
	}
	return f, nil
}

// at says which key of the map an error is about.
func at(key string, err error) error {
	var de *dsr.Error
	if errors.As(err, &de) {
		return &dsr.Error{Code: dsr.CodeInvalid, Field: key, Msg: de.Msg, Hint: de.Hint}
	}
	return err
}

func newEntity(s *connectors.System, in *connectors.Entity, o connectors.Options) (*entity, error) {
	e := &entity{Entity: in, tenant: -1}
	key := func(name string) string { return "entities." + in.Name + "." + name }
	var err error
	if e.files, err = filePattern(text(in.Settings, "files")); err != nil {
		return nil, at(key("files"), err)
	}
	if v := text(in.Settings, "live"); v != "" {
		if e.live, err = records.ParseGlob(v); err != nil {
			return nil, at(key("live"), err)
		}
	}
	if v := text(in.Settings, "rotates"); v != "" {
		if e.rotates, err = rotation(v); err != nil {
			return nil, at(key("rotates"), err)
		}
	}
	named := e.files.Identifiers()
	e.tenant = slices.Index(named, s.TenantName)
	e.whole = len(named) > 1 || len(named) == 1 && e.tenant < 0
	switch {
	case in.Erase == dsr.Expire:
		return nil, at(key("erase"), invalid("cannot be expire: log files have no retention of their own", "write erase: delete"))
	case e.whole && (in.Erase == dsr.Mask || len(in.Masks) > 0):
		return nil, at(key("files"), invalid("names whole files by whose they are, which cannot be masked",
			"write erase: delete, or a pattern without placeholders"))
	case text(in.Settings, "format") != "" || !e.whole:
		if e.layout, err = records.NewLayout(s, in, o); err != nil {
			return nil, err
		}
	}
	for _, r := range in.Rules {
		if err := e.canSweep(r); err != nil {
			return nil, at(key("retention"), err)
		}
	}
	return e, nil
}

// canSweep refuses rules that files cannot follow.
func (e *entity) canSweep(r connectors.Rule) error {
	switch {
	case r.Action == retention.Expire:
		return invalid("has a rule that expires: log files have no retention of their own", "write action: delete")
	case r.Start.Kind == retention.StartEvent && text(e.Settings, "time") == "":
		return invalid("has a rule that starts with the event's time, and the map does not say where that is", "write time: FIELD")
	case e.layout == nil && (r.Action == retention.Pseudonymise || r.Start.Kind != retention.StartObject || len(r.When) > 0):
		return invalid("has a rule that reads records, in files of which the map says no format",
			"write format, or a rule that starts with the object's age, deletes, and has no condition")
	}
	return nil
}

// method is what an erasure does to a file that is somebody's as a whole.
func (e *entity) method() dsr.Method {
	if e.Keep != nil {
		return dsr.Keep
	}
	return dsr.Delete
}

// isLive reports whether a name is of a file that is still written to. Where the map says live, that decides. Else a
// file is live unless its name shows a rotation, or the pattern has placeholders, whose files come and go as a whole.
func (e *entity) isLive(name string) bool {
	if e.live != nil {
		if _, ok := e.live.Match(name); ok {
			return true
		}
		_, ok := e.live.Match(path.Base(name))
		return ok
	}
	return !e.whole && !rotated(path.Base(name))
}

// ends is when a live file has been rotated at the latest as far as the map tells; nil when nobody knows. last is when
// the newest rotated file was written to last; zero when there is none.
func (e *entity) ends(now, last time.Time) *time.Time {
	if e.rotates == 0 {
		return nil
	}
	next := last.Add(e.rotates)
	if !next.After(now) {
		next = now.Truncate(e.rotates).Add(e.rotates)
	}
	next = next.UTC()
	return &next
}

func (f *Folder) entity(name string) (*entity, error) {
	for _, e := range f.entities {
		if e.Name == name {
			return e, nil
		}
	}
	return nil, connectors.Permanent(dsr.CodeInvalid, fmt.Sprintf("the map has no entity %s", name), "", nil)
}

// Close does nothing: a verb closes what it opens.
func (f *Folder) Close() error { return nil }
