package logfiles

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// owners are the subjects of a batch whom the placeholders of a path name, in the batch's order. A value may stand in a
// path as it is, or percent-encoded.
func (f *Folder) owners(e *entity, values []string, batch connectors.Batch) []string {
	var refs []string
	names := e.files.Identifiers()
	for _, s := range batch {
		if !f.reaches(e, values, s) {
			continue
		}
		for i, name := range names {
			if i == e.tenant {
				continue
			}
			kind := f.sys.Identifiers[name]
			if slices.ContainsFunc(s.Identifiers, func(id dsr.Identifier) bool {
				return id.Name == name && records.SameValue(kind, id.Value.Reveal(), values[i])
			}) {
				refs = append(refs, s.Ref)
				break
			}
		}
	}
	return refs
}

// reaches reports whether work for a subject may touch a file at all: its Plan has the entity, and the path is not of
// another tenant.
func (f *Folder) reaches(e *entity, values []string, s connectors.Subject) bool {
	if s.Entities != nil && !s.Entities[e.Name] {
		return false
	}
	return e.tenant < 0 || records.SameValue(f.sys.Identifiers[f.sys.TenantName], s.Tenant, values[e.tenant])
}

// part is what of a batch may be in a file, as the file's tenant has it.
func (f *Folder) part(e *entity, values []string, batch connectors.Batch) connectors.Batch {
	if e.tenant < 0 {
		return batch
	}
	return slices.DeleteFunc(slices.Clone(batch), func(s connectors.Subject) bool { return !f.reaches(e, values, s) })
}

// where names a file in an error or a finding, which ends up in a log and on a page. A path may hold personal data: it
// is given only where the pattern has no placeholder, no identifier of the batch stands in it, and it has no @, no %
// and no number longer than a date. Any other file is named by its inode, by which find(1) finds it.
func (e *entity) where(name string, inode string, batch connectors.Batch) string {
	if len(e.files.Identifiers()) == 0 && !records.MayName(name) && isShown(name) && !names(name, batch) {
		return name
	}
	return e.files.String() + " with inode " + inode
}

// isShown reports whether a log shows a name as it is: a line feed in it would begin another line there.
func isShown(name string) bool {
	return utf8.ValidString(name) && strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

func names(name string, batch connectors.Batch) bool {
	name = strings.ToLower(name)
	for _, s := range batch {
		for _, id := range s.Identifiers {
			if v := strings.ToLower(id.Value.Reveal()); v != "" && strings.Contains(name, v) {
				return true
			}
		}
	}
	return false
}
