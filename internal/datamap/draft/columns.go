package draft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// harmless are words that end the name of a text column of codes, states and addresses of things.
var harmless = strings.Fields(`status state type kind code currency locale slug format mime mimetype sku version color colour icon role
	category priority channel method provider gateway mode level scope uuid guid checksum etag unit size extension class model table
	entity key path file filename storage bucket timezone tz language lang sorted visibility severity plan tier brand
	currencycode typ art waehrung einheit stufe number nummer reference`)

// proseLength is the length from which a text column without a telling name is searched for identifiers.
const proseLength = 200

// describe decides about every column of every mapped table, and explains why the other tables are left out.
func (d *drafter) describe() {
	for _, t := range d.tables {
		if !t.mapped {
			t.explain()
			continue
		}
		for _, c := range t.order {
			d.describeColumn(t, c)
		}
		if t.subject {
			d.identify(t)
		}
	}
}

// explain says why a table is left out. One with personal columns is not declared harmless: a person must decide.
func (t *table) explain() {
	if t.ignored != "" {
		return
	}
	var personal []string
	for _, c := range t.order {
		if c.guessed && !c.guess.Weak {
			personal = append(personal, c.Name)
		}
	}
	if len(personal) > 0 {
		t.decide = fmt.Sprintf("%s is left out although %s looks personal: nothing leads from it to anybody. Map it, or ignore it with a reason.",
			t.Name, strings.Join(personal, ", "))
		return
	}
	t.ignored = "no column looks personal"
	for _, r := range t.refs {
		if r.by == "" && r.to.mapped {
			t.ignored = fmt.Sprintf("no column looks personal; %s names who works with a row", r.column())
		}
	}
}

func (d *drafter) describeColumn(t *table, c *column) {
	if c.refers || c.Generated || slices.Contains(t.PrimaryKey, c.Name) && !(c.guessed && !c.guess.Weak) {
		if c.Generated {
			c.why = "generated from other columns"
		}
		return
	}
	words := connectors.Words(c.Name)
	switch {
	case c.guessed && d.plausible(t, c):
		c.field, c.category = true, c.guess.Category
		c.why = fmt.Sprintf("by the word %q", c.guess.Word)
		if c.guess.Weak && !t.subject && c.category == "user.name" {
			c.category = "user.content" // the name or title of a thing that somebody wrote
		}
		c.mention = c.HasText && c.Enum == nil && c.category == "user.content"
		switch {
		case c.guess.Weak: // not enough to look a person up by
		case c.guess.Identifier == dsr.KindEmail && c.Class == connectors.ClassText:
			c.identifier = "email"
		case c.guess.Identifier == dsr.KindPhone && c.Class == connectors.ClassText:
			c.identifier = "phone"
		}
		if c.identifier != "" {
			d.identifiers[c.identifier] = c.guess.Identifier
		}
	case c.Class == connectors.ClassJSON:
		c.mention, c.why = true, "a document may hold anything"
		c.decide = "which personal data is in this document?"
	case c.Class == connectors.ClassText && c.HasText && c.Enum == nil && !tellsNothing(words):
		long := c.MaxLen == 0 || c.MaxLen >= proseLength
		if t.aboutPerson() {
			c.field, c.category, c.mention, c.why = true, "user", long, "text in a row about a person, by no word that is known"
		} else if long {
			c.mention, c.why = true, "long text without a telling name"
		}
	case c.HasText && c.Class == connectors.ClassArray:
		c.decide = "may the list hold names or addresses?"
	}
}

// aboutPerson reports whether each row is a person or belongs to one directly.
func (t *table) aboutPerson() bool {
	return t.subject || t.detail || slices.ContainsFunc(t.owned, func(r *reference) bool { return r.by == "" && r.to.subject })
}

// times end the names of columns that say when; SQLite has no other type for them than text.
var times = strings.Fields(`at on date time timestamp day month year am le el datum until since zeit uhrzeit expires expiry`)

// tellsNothing reports whether a text column is named like one for codes, times or machine values.
func tellsNothing(words []string) bool {
	if len(words) == 0 {
		return true
	}
	last := words[len(words)-1]
	return slices.Contains(harmless, last) || slices.Contains(times, last) ||
		slices.ContainsFunc(words, func(w string) bool { return w == "hash" || w == "checksum" || w == "uuid" })
}

// plausible weighs a guess against the table that the column is in.
func (d *drafter) plausible(t *table, c *column) bool {
	if !c.guess.Weak {
		return true
	}
	switch {
	case c.Enum != nil, c.Class == connectors.ClassBool:
		return false
	case c.guess.Category == "user.name" && c.Class == connectors.ClassText:
		return true
	case c.guess.Category == "user.content":
		return c.Class == connectors.ClassText || c.Class == connectors.ClassJSON || c.Class == connectors.ClassBinary
	case c.guess.Category == "user.financial":
		return c.Class == connectors.ClassNumber || c.Class == connectors.ClassInteger
	case c.guess.Category == "user.authorization.credentials":
		return c.Class == connectors.ClassText || c.Class == connectors.ClassBinary
	}
	return t.subject || t.strong("user.contact") != nil || t.strong("user.name") != nil
}

// identify gives a subject's row the identifiers by which it is found and which other systems may use.
func (d *drafter) identify(t *table) {
	// A row that stays keeps its key, which a search would then find for ever.
	if key := t.key(); key != nil && !key.refers && !t.watched && !t.anchor && key.identifier == "" {
		name := singular(t.words) + "_id"
		kind := dsr.KindOpaque
		if key.Class == connectors.ClassUUID {
			kind = dsr.KindUUID
		}
		if have, ok := d.identifiers[name]; !ok || have == kind {
			d.identifiers[name] = kind
			key.field, key.identifier, key.why = true, name, "the key that other tables and systems refer to"
		}
	}
	for _, c := range t.order {
		if c.identifier != "" || !c.field {
			continue
		}
		switch {
		case c.category == "user.account.username" && c.Class == connectors.ClassText:
			c.identifier = "username"
			d.identifiers["username"] = dsr.KindOpaque
		case c.category == "user.device.ip_address" && t.decide != "" && c.Class != connectors.ClassInteger:
			c.identifier = "ip"
			d.identifiers["ip"] = dsr.KindIP
		case strings.HasPrefix(c.category, "user.device") && c.category != "user.device.ip_address" && c.Class == connectors.ClassText &&
			t.identifying() == c:
			c.identifier = "device_id"
			d.identifiers["device_id"] = dsr.KindOpaque
		case c.category == "user.government_id" && t.unique(c.Name) && c.Class == connectors.ClassText:
			c.identifier = "national_id"
			d.identifiers["national_id"] = dsr.KindOpaque
		}
	}
}

// maskFor chooses a mask that holds in the column, as YAML. It is not ok when none does.
func (t *table) maskFor(c *column) (text string, ok bool) {
	unique := slices.ContainsFunc(t.Unique, func(u []string) bool { return slices.Contains(u, c.Name) })
	const shortest, longest = 12, 22 // of a random word and a random e-mail address
	need := shortest
	if c.identifier == "email" || c.identifier == "phone" || strings.HasPrefix(c.category, "user.contact.") {
		need = longest
	}
	random := c.Class == connectors.ClassInteger || c.Class == connectors.ClassUUID || c.Class == connectors.ClassNumber ||
		c.Class == connectors.ClassText && c.Enum == nil && (c.MaxLen == 0 || c.MaxLen >= need)
	switch {
	case c.Nullable && !(unique && random && c.identifier == "email"):
		return "null", true
	case (unique || c.identifier != "") && random:
		return "random", true
	case unique:
		return "", false
	case c.Enum != nil:
		return quote(c.Enum[0]), true
	}
	switch c.Class {
	case connectors.ClassText:
		const erased = "erased"
		if c.MaxLen > 0 && c.MaxLen < len(erased) {
			return `"-"`, true
		}
		return erased, true
	case connectors.ClassInteger, connectors.ClassNumber:
		return "0", true
	case connectors.ClassBool:
		return `"false"`, true
	case connectors.ClassDate, connectors.ClassTime:
		return `"1900-01-01"`, true
	case connectors.ClassUUID:
		return "random", true
	case connectors.ClassIP:
		return `"0.0.0.0"`, true
	case connectors.ClassJSON:
		return `"{}"`, true
	}
	return "", false
}
