package accesspackage

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"iter"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
)

// What index.html shows at most. The files of the package hold everything.
const (
	previewRecords = 100  // of one entity
	previewTotal   = 5000 // of all entities
	previewRunes   = 300  // of one value
)

//go:embed page
var pageFiles embed.FS

// pages is what the pages of a package are made of.
type pages struct {
	T          *Words
	Request    *dsr.Request
	Controller string
	Created    time.Time
	Expires    time.Time
	Records    int64
	Sections   []*section
	Withheld   []withheldLine
	Masked     []maskedLine

	m     *datamap.Map
	ctx   context.Context
	shown int64 // records of index.html so far
}

// section is one entity of index.html.
type section struct {
	System, Entity string
	Records        int64
	JSON, CSV      fileEntry   // empty for an entity of files
	Files          []fileEntry // the first of them

	st  *staged
	e   *stagedEntity
	ctx context.Context
	err error // of reading the preview
}

// Columns are the names of the records' fields.
func (s *section) Columns() []string { return s.e.Columns }

// Rows yields the first n records as a person reads them. A cell that is too long ends in an ellipsis.
func (s *section) Rows(n int64) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		row := make([]string, len(s.e.Columns))
		if n == 0 {
			return
		}
		for cells, err := range s.st.records(s.ctx, s.e) {
			if err != nil {
				s.err = err
				return
			}
			for i, c := range cells {
				text, _ := plain(c)
				row[i] = clip(text)
			}
			if n--; !yield(row) || n == 0 {
				return
			}
		}
	}
}

func clip(s string) string {
	if utf8.RuneCountInString(s) <= previewRunes {
		return s
	}
	n := 0
	for i := range s {
		if n == previewRunes {
			return s[:i] + "…"
		}
		n++
	}
	return s
}

// Preview decides how many records of a section are shown.
func (p *pages) Preview(s *section) int64 {
	n := min(s.Records, previewRecords, previewTotal-p.shown)
	p.shown += n
	return n
}

// CSS is the style of every page.
func (p *pages) CSS() template.CSS { return template.CSS(embedded("page.css")) } //nolint:gosec // our own file

// Script is the search of index.html.
func (p *pages) Script() template.JS { return template.JS(embedded("search.js")) } //nolint:gosec // our own file

// CSP allows nothing but the style and the script of this package, by their hashes.
func (p *pages) CSP() string {
	return "default-src 'none'; script-src " + hashSource(embedded("search.js")) + "; style-src " +
		hashSource(embedded("page.css")) + "; base-uri 'none'; form-action 'none'"
}

func hashSource(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func embedded(name string) string {
	b, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		panic(err) // a name of this file
	}
	return string(b)
}

func (p *pages) render(w io.Writer, name, title string) error {
	t, err := template.New(name).Funcs(template.FuncMap{
		"date": func(t time.Time) string { return t.Format(time.DateOnly) },
		"size": size,
		"base": path.Base,
		"link": func(s string) template.URL {
			parts := strings.Split(s, "/")
			for i := range parts {
				parts[i] = url.PathEscape(parts[i])
			}
			return template.URL(strings.Join(parts, "/")) //nolint:gosec // every part is escaped
		},
	}).ParseFS(pageFiles, "page/"+name, "page/head.html")
	if err != nil {
		return err
	}
	return t.Execute(w, struct {
		P     *pages
		Title string
	}{p, title})
}

func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.0f kB", float64(n)/1000)
	case n < 1000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

func (p *pages) index(w io.Writer) error {
	if err := p.render(w, "index.html", p.T.Title); err != nil {
		return err
	}
	for _, s := range p.Sections {
		if s.err != nil {
			return s.err
		}
	}
	return nil
}

func (p *pages) withheld(w io.Writer) error { return p.render(w, "withheld.html", p.T.WithheldTitle) }

func (p *pages) art15(w io.Writer) error { return p.render(w, "art15.html", p.T.Art15Title) }

func (p *pages) readme(w io.Writer) error {
	lines := []string{
		p.T.Title, strings.Repeat("=", utf8.RuneCountInString(p.T.Title)), "",
		fmt.Sprintf(p.T.Intro, p.Controller), "",
		p.T.Reference + ": " + p.Request.ID,
		p.T.Created + ": " + p.Created.Format(time.DateOnly), "",
	}
	for _, l := range p.T.Readme {
		lines = append(lines, "- "+l)
	}
	_, err := io.WriteString(w, strings.Join(lines, "\r\n")+"\r\n")
	return err
}

// clause is one statement of Art. 15 with its title.
type clause struct {
	datamap.NamedClause
	Title string
}

// Clauses are the statements of Art. 15(1)(a)–(h) and 15(2).
func (p *pages) Clauses() []clause {
	var out []clause
	for _, c := range p.m.Art15.Clauses() {
		out = append(out, clause{c, p.T.Clauses[c.Name]})
	}
	return out
}

// describedLine says which categories of data an entity holds and what for.
type describedLine struct {
	System, Entity       string
	Categories, Purposes []string
}

// Described are the categories of the data that is in the package (Art. 15(1)(b)).
func (p *pages) Described() []describedLine {
	var out []describedLine
	for _, s := range p.Sections {
		system := p.m.System(s.System)
		if system == nil {
			continue
		}
		e := system.Entity(s.Entity)
		if e == nil {
			continue
		}
		l := describedLine{System: s.System, Entity: s.Entity, Purposes: e.Purposes}
		for _, f := range e.Fields {
			if f.Category != "" {
				l.Categories = append(l.Categories, spoken(f.Category))
			}
		}
		slices.Sort(l.Categories)
		l.Categories = slices.Compact(l.Categories)
		if len(l.Categories) > 0 || len(l.Purposes) > 0 {
			out = append(out, l)
		}
	}
	return out
}

// spoken makes a category of Fideslang readable: user.contact.email is "contact: email".
func spoken(category string) string {
	c := strings.TrimPrefix(category, "user.")
	return strings.ReplaceAll(strings.ReplaceAll(c, ".", ": "), "_", " ")
}

// Recipients are those that the map names at its copies and not in its statement.
func (p *pages) Recipients() []string {
	var out []string
	for _, s := range p.m.Systems {
		for _, c := range s.Copies {
			if c.Recipient != "" && !slices.Contains(out, c.Recipient) && !slices.Contains(p.m.Art15.Recipients.Text, c.Recipient) {
				out = append(out, c.Recipient)
			}
		}
	}
	return out
}

// keptLine says how long an entity's data is kept by law.
type keptLine struct {
	System, Entity, Rule, Article, Statute string
}

// Kept lists the entities of the package that a law keeps (Art. 15(1)(d)).
func (p *pages) Kept() []keptLine {
	var out []keptLine
	for _, s := range p.Sections {
		system := p.m.System(s.System)
		if system == nil {
			continue
		}
		e := system.Entity(s.Entity)
		if e == nil || e.Keep == nil {
			continue
		}
		l := keptLine{System: s.System, Entity: s.Entity, Article: e.Keep.Article, Statute: e.Keep.Statute}
		if c, ok := p.m.Classes[e.Keep.Class]; ok {
			l.Rule = p.T.rule(c)
		}
		out = append(out, l)
	}
	return out
}
