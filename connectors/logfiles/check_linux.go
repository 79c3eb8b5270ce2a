package logfiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Check compares the map with the folder. See [connectors.Connector].
func (f *Folder) Check(ctx context.Context) ([]connectors.Finding, error) {
	d, err := f.disk()
	if err != nil {
		var de *dsr.Error
		errors.As(err, &de)
		return []connectors.Finding{{Code: connectors.FindUnreachable, Severity: connectors.Error, Message: de.Msg, Hint: de.Hint}}, nil
	}
	defer d.close()
	c := checker{Folder: f, disk: d, seen: map[string]*census{}, strangers: map[string]int{}}
	for _, e := range f.entities {
		c.seen[e.Name] = &census{}
	}
	err = d.walk(ctx, false, func(string) bool { return true }, c.file)
	if err != nil {
		if dsr.CodeOf(err) != CodeFolder {
			return nil, err
		}
		c.add("unreadable", connectors.Error, "", "a folder below the root cannot be read", "Give Lethe the right to read and search it.")
	}
	c.conclude()
	slices.SortStableFunc(c.found, func(a, b connectors.Finding) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	return c.found, nil
}

// census is what was seen of one entity.
type census struct {
	files, live int
	bytes       int64
	noted       map[string]int // files, by what is wrong with them
}

type checker struct {
	*Folder
	disk      *disk
	seen      map[string]*census
	strangers map[string]int // files that no entity covers, by the shape of their names
	found     []connectors.Finding
	folder    string // whose rights were looked at last
	rights    string // what is wrong with it
}

func (c *checker) add(code string, s connectors.Severity, entity, msg, hint string) {
	c.found = append(c.found, connectors.Finding{Code: code, Severity: s, Entity: entity, Message: msg, Hint: hint})
}

// kinds of findings about files, which are counted and not listed: names may be personal.
var wrongs = map[string]struct {
	severity  connectors.Severity
	msg, hint string
}{
	string(symlink): {connectors.Error, "symbolic links are refused", "Write links: follow, or a pattern that leaves them out."},
	string(escape): {
		connectors.Error, "symbolic links lead out of the root",
		"Give what they lead to a system of its own, and leave the links out of the pattern.",
	},
	string(special):            {connectors.Error, "names are devices, pipes or sockets", "Write a pattern that leaves them out."},
	"hard-link":                {connectors.Error, "files have several names (hard links), which are refused", "Write links: follow, or remove the other names."},
	"read-only":                {connectors.Error, "files are in folders on a file system that is read-only", "Mount it for writing where Lethe runs."},
	"not-writable":             {connectors.Error, "files are in folders in which Lethe may not make files", "See `lethe grants`."},
	"not-readable":             {connectors.Error, "files cannot be read by Lethe", "See `lethe grants`."},
	"foreign-owner":            {connectors.Error, "files belong to another user, whom Lethe's own user could not leave them to", "See `lethe grants`."},
	connectors.FindTwoEntities: {connectors.Error, "files belong to another entity too", "Write patterns that do not overlap."},
}

func (c *checker) file(f *file) error {
	owners := 0
	for _, e := range c.entities {
		_, ok := e.files.Match(f.name)
		if !ok && !(f.problem != "" && f.folder && e.files.Below(f.name)) {
			continue
		}
		owners++
		s := c.seen[e.Name]
		wrong := func(code string) {
			if s.noted == nil {
				s.noted = map[string]int{}
			}
			s.noted[code]++
		}
		if f.problem != "" {
			wrong(string(f.problem))
			continue
		}
		s.files++
		s.bytes += f.Size
		if e.isLive(f.name) {
			s.live++
		}
		if f.nlinks > 1 && !c.follow {
			wrong("hard-link")
		}
		if owners > 1 {
			wrong(connectors.FindTwoEntities)
		}
		if code := c.right(f); code != "" {
			wrong(code)
		}
	}
	if owners == 0 && !slices.ContainsFunc(c.ignored, func(g *records.Glob) bool {
		_, ok := g.Match(f.name)
		return ok
	}) {
		c.strangers[shape(f.name)]++
	}
	return nil
}

// right is what Lethe lacks to replace a file; empty when nothing.
func (c *checker) right(f *file) string {
	if folder := path.Dir(f.real); folder != c.folder {
		c.folder, c.rights = folder, ""
		dir, err := c.disk.root.Open(folder)
		if err != nil {
			return "not-readable"
		}
		defer dir.Close()
		err = unix.Faccessat(int(dir.Fd()), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
		switch {
		case errors.Is(err, unix.EROFS):
			c.rights = "read-only"
		case err != nil:
			c.rights = "not-writable"
		}
	}
	if c.rights != "" {
		return c.rights
	}
	if int(f.uid) != os.Geteuid() && !capable(unix.CAP_CHOWN) {
		return "foreign-owner"
	}
	h, err := c.disk.open(f)
	if err != nil && !errors.Is(err, errMoved) {
		return "not-readable"
	}
	if err == nil {
		_ = h.Close()
	}
	return ""
}

func capable(capability int) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&head, &data[0]) != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

var (
	hexes  = regexp.MustCompile(`[0-9a-fA-F]*[0-9][0-9a-fA-F]{7,}|[0-9]+`)
	people = regexp.MustCompile(`[^/]*[@%][^/]*`)
)

// shape is a name with what varies, and what may be personal, as *: app/*.log.* stands for app/2.log.1.
func shape(name string) string {
	return hexes.ReplaceAllString(people.ReplaceAllString(name, "*"), "*")
}

// maxStrangers bounds how many shapes of uncovered files are listed.
const maxStrangers = 20

// conclude turns what was counted into findings.
func (c *checker) conclude() {
	for _, e := range c.entities {
		s := c.seen[e.Name]
		for code, n := range s.noted {
			w := wrongs[code]
			c.add(code, w.severity, e.Name, fmt.Sprintf("%d %s", n, w.msg), w.hint)
		}
		switch {
		case s.files == 0:
			c.add("no-files", connectors.Warning, e.Name, "no file matches "+e.files.String(), "Correct the pattern, if there should be files.")
		case s.live > 0 && s.live == s.files && !e.whole:
			c.add("never-rotated", connectors.Warning, e.Name, "every file is still written to: an erasure would wait for a rotation that was never seen",
				"Rotate the files, or say with live which of them are written to.")
		case s.live > 0 && e.rotates == 0:
			c.add("rotation-unknown", connectors.Warning, e.Name, "the map does not say how often the live file is rotated, so nobody can be told until when an erasure waits",
				"Write for example rotates: daily.")
		}
	}
	shapes := slices.Sorted(maps.Keys(c.strangers))
	for i, name := range shapes {
		if i == maxStrangers {
			c.add("unmapped-file", connectors.Error, "", fmt.Sprintf("files of %d more kinds are in no entity", len(shapes)-i), "Map them, or ignore them with a reason.")
			break
		}
		c.add("unmapped-file", connectors.Error, name, fmt.Sprintf("%d files like %s are in no entity", c.strangers[name], name),
			"Map them, or put a pattern under ignore with the reason.")
	}
}

// Describe returns an entity of the map for each kind of file that the map knows, with the fields that it names, and one
// for each shape of names that it does not.
func (f *Folder) Describe(ctx context.Context) (connectors.Schema, error) {
	d, err := f.disk()
	if err != nil {
		return connectors.Schema{}, err
	}
	defer d.close()
	c := checker{Folder: f, disk: d, seen: map[string]*census{}, strangers: map[string]int{}}
	var out connectors.Schema
	for _, e := range f.entities {
		c.seen[e.Name] = &census{}
	}
	if err := d.walk(ctx, false, func(string) bool { return true }, c.file); err != nil {
		return connectors.Schema{}, err
	}
	for _, e := range f.entities {
		s := connectors.EntitySchema{Name: e.From(), Bytes: c.seen[e.Name].bytes}
		for _, name := range spoken(e) {
			s.Columns = append(s.Columns, connectors.Column{Name: name, Type: "field", Class: connectors.ClassText, Nullable: true})
		}
		out.Entities = append(out.Entities, s)
	}
	for name := range c.strangers {
		out.Entities = append(out.Entities, connectors.EntitySchema{Name: name})
	}
	slices.SortFunc(out.Entities, func(a, b connectors.EntitySchema) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// spoken are the fields that the map names, sorted.
func spoken(e *entity) []string {
	names := slices.Concat(e.Mentions, e.NotPersonal)
	for _, f := range e.Fields {
		names = append(names, f.Name)
	}
	if e.Tenant != "" {
		names = append(names, e.Tenant)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Grants says which rights a user needs in the folder. See [connectors.Granter].
func (f *Folder) Grants(_ context.Context, principal string) (string, error) {
	if principal == "" || strings.ContainsAny(principal, "\x00\r\n") {
		return "", &dsr.Error{Code: dsr.CodeInvalid, Field: "principal", Msg: "is not the name of a user", Hint: "name the user that Lethe runs as"}
	}
	folders := map[string]bool{}
	for _, e := range f.entities {
		folders[path.Join(f.root, e.files.Prefix()[:strings.LastIndexByte(e.files.Prefix(), '/')+1])] = true
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, "# What %s needs for the log files of %s, and no more.\n", principal, f.sys.Name)
	sb.WriteString("# A file is replaced by a new one beside it, which keeps the owner, mode and times of the old one.\n")
	fmt.Fprintf(&sb, "# Search the folder %s and those below it that patterns reach.\n", f.root)
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		fmt.Fprintf(&sb, "setfacl -R -m u:%s:rwX -- %q    # read files; make, rename and remove files\n", principal, folder)
		fmt.Fprintf(&sb, "find %q -type d -exec setfacl -m d:u:%s:rX -- {} +    # and those that rotations make later\n", folder, principal)
	}
	sb.WriteString("# Where files belong to other users, the process needs these capabilities besides:\n")
	sb.WriteString("#   CAP_CHOWN   to give a new file to the owner of the old one\n")
	sb.WriteString("#   CAP_FOWNER  to give it the old one's mode, access lists and times\n")
	sb.WriteString("#   CAP_LEASE   to see at once whether somebody writes to it; without, a file must be quiet for an hour\n")
	return sb.String(), nil
}
