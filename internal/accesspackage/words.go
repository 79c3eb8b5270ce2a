package accesspackage

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/text/language"

	"github.com/lethe-gdpr/lethe/retention"
)

// Words are the texts of a package in one language. Texts with verbs take them as fmt does.
type Words struct {
	Lang           string            `json:"lang"`
	Title          string            `json:"title"`
	Intro          string            `json:"intro"`
	Reference      string            `json:"reference"`
	Created        string            `json:"created"`
	Expires        string            `json:"expires"`
	Records        string            `json:"records"`
	Contents       string            `json:"contents"`
	System         string            `json:"system"`
	Kind           string            `json:"kind"`
	Count          string            `json:"count"`
	DataFiles      string            `json:"data_files"`
	Nothing        string            `json:"nothing"`
	Search         string            `json:"search"`
	SearchHint     string            `json:"search_hint"`
	Matches        string            `json:"matches"`
	FirstRecords   string            `json:"first_records"`
	AllRecords     string            `json:"all_records"`
	NoPreview      string            `json:"no_preview"`
	Files          string            `json:"files"`
	FirstFiles     string            `json:"first_files"`
	Art15Title     string            `json:"art15_title"`
	Art15Link      string            `json:"art15_link"`
	Art15Intro     string            `json:"art15_intro"`
	WithheldTitle  string            `json:"withheld_title"`
	WithheldLink   string            `json:"withheld_link"`
	WithheldNone   string            `json:"withheld_none"`
	Why            string            `json:"why"`
	Article        string            `json:"article"`
	Statute        string            `json:"statute"`
	Until          string            `json:"until"`
	UnknownEnd     string            `json:"unknown_end"`
	MaskedTitle    string            `json:"masked_title"`
	MaskedIntro    string            `json:"masked_intro"`
	MaskedFields   string            `json:"masked_fields"`
	NotApplicable  string            `json:"not_applicable"`
	Back           string            `json:"back"`
	Controller     string            `json:"controller"`
	Categories     string            `json:"categories"`
	PurposesOf     string            `json:"purposes_of"`
	RetentionTitle string            `json:"retention_title"`
	Period         string            `json:"period"`
	Clauses        map[string]string `json:"clauses"` // by key of art15
	Reasons        map[string]string `json:"reasons"` // by article
	Units          map[string]string `json:"units"`
	Starts         map[string]string `json:"starts"` // by starting point
	Readme         []string          `json:"readme"`
}

//go:embed words/*.json
var wordFiles embed.FS

// Languages are those that a package can be written in; the first is the default.
func Languages() []string { return []string{"en", "de", "es", "fr", "sv"} }

var matcher = sync.OnceValue(func() language.Matcher {
	var tags []language.Tag
	for _, l := range Languages() {
		tags = append(tags, language.MustParse(l))
	}
	return language.NewMatcher(tags)
})

// wordsFor returns the texts of the language closest to a BCP 47 tag.
func wordsFor(tag string) *Words {
	want, _ := language.Parse(tag) // an unknown one is und, which leads to the default
	_, i, _ := matcher().Match(want)
	w, err := loadWords(Languages()[i])
	if err != nil {
		panic(err) // the embedded files are tested
	}
	return w
}

func loadWords(lang string) (*Words, error) {
	b, err := wordFiles.ReadFile("words/" + lang + ".json")
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var w Words
	if err := dec.Decode(&w); err != nil {
		return nil, fmt.Errorf("words/%s.json: %w", lang, err)
	}
	return &w, nil
}

// rule says in words how long a deletion class keeps data.
func (w *Words) rule(c retention.Class) string {
	var parts []string
	for _, u := range []struct {
		n    int
		unit string
	}{{c.Period.Years, "year"}, {c.Period.Months, "month"}, {c.Period.Days, "day"}} {
		if u.n == 0 {
			continue
		}
		if u.n != 1 {
			u.unit += "s"
		}
		parts = append(parts, fmt.Sprintf(w.Units[u.unit], u.n))
	}
	return strings.Join(append(parts, w.Starts[string(c.Start)]), " ")
}

// Reason says in words why an article keeps data back; empty when the article speaks for itself.
func (w *Words) Reason(article string) string { return w.Reasons[article] }
