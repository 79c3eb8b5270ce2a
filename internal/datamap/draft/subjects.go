package draft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
)

// persons are words for people, as tables are called after them, in the singular and shortened to what its plural has
// too: "kund" is in kunder, kunden and Kunde.
var persons = strings.Fields(`user customer client person people member patient employee contact subscriber agent staff doctor author
	student teacher player guest visitor buyer seller account participant attendee applicant candidate donor profile lead prospect
	kunde kund patient mitglied benutzer nutzer mitarbeiter teilnehmer besucher gast anwender utilisateur usager adherent membre
	salarie employe abonne patiente usuario cliente persona paciente empleado socio miembro utente membro anvandare medlem anstalld
	bruker medarbejder medarbetare klant gebruiker medewerker lid patienten kayttaja asiakas potilas uzytkownik klient pacjent
	physician nurse therapist praticien medecin behandler arzt tenant resident citizen borrower reader driver passenger voter
	respondent recipient registrant signup enrollee learner instructor moderator admin operator reporter requester personne`)

// isPerson reports whether a word of a table's name means people.
func isPerson(word string) bool {
	return slices.ContainsFunc(persons, func(p string) bool { return sameWord(word, p) })
}

// sameWord reports whether two words are the same but for number: user and users, kunde and kunden, city and cities.
func sameWord(a, b string) bool {
	if a == b {
		return true
	}
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(a) < 3 {
		return false
	}
	switch b {
	case a + "s", a + "es", a + "n", a + "en", a + "er", a + "e", a + "i", a + "r", a + "ar", a + "or", a + "x", a + "et":
		return true
	}
	if stem, ok := strings.CutSuffix(a, "y"); ok && b == stem+"ies" {
		return true
	}
	if stem, ok := strings.CutSuffix(a, "e"); ok && (b == stem+"i" || b == stem+"er" || b == stem+"ar") {
		return true
	}
	if stem, ok := strings.CutSuffix(a, "a"); ok && (b == stem+"or" || b == stem+"e") {
		return true
	}
	return a == "person" && b == "people"
}

// findSubjects marks the tables whose rows are persons. A table earns points for what it is called, for columns that
// say who somebody is, and for being referred to; it loses them for referring to a person itself.
func (d *drafter) findSubjects() {
	for _, t := range d.tables {
		if t.ignored == "" {
			t.score, t.reasons = personScore(t)
		}
	}
	referred := make(map[string]int)
	for _, t := range d.tables {
		for _, r := range t.References {
			if r.Entity != t.Name {
				referred[r.Entity]++
			}
		}
	}
	candidate := func(t *table) bool { return t.score >= 4 && t.identifying() != nil }
	for _, t := range d.tables {
		if n := referred[t.Name]; n > 0 && candidate(t) {
			t.score += min(n, 4)
			t.reasons = append(t.reasons, fmt.Sprintf("%d tables refer to it", n))
		}
	}
	for _, t := range d.tables {
		t.subject = candidate(t)
	}
	// A row that belongs to a person is about them, not a person of its own: an order has an e-mail address too.
	for _, t := range d.tables {
		if t.subject && d.belongs(t) {
			t.subject = false
		}
	}
	for _, t := range d.subjects() {
		if t.organisation() {
			t.loose, t.decide = true, "is a row of this table a person, or a company with nothing personal but its contact?"
		}
	}
	if slices.ContainsFunc(d.subjects(), func(t *table) bool { return !t.loose }) {
		return
	}
	if len(d.subjects()) > 0 {
		for _, t := range d.subjects() {
			t.loose = false
		}
		return
	}
	var best *table
	for _, t := range d.tables {
		if t.ignored == "" && t.identifying() != nil && (best == nil || t.score > best.score) {
			best = t
		}
	}
	if best != nil {
		best.subject, best.decide = true, "is a row of this table a person?"
	}
}

// belongs reports whether a table refers to a better candidate, or has a column that is called after one.
func (d *drafter) belongs(t *table) bool {
	for _, other := range d.tables {
		if other == t || !other.subject || other.score < t.score || other.score == t.score && other.Name > t.Name {
			continue
		}
		for _, r := range t.References {
			if r.Entity == other.Name && !accessorWord(connectors.Words(r.Columns[0])) {
				return true
			}
		}
		for _, c := range t.order {
			if base, ok := referenceBase(c.Name); ok && base != "" && other.called(base) && !t.called(base) {
				return true
			}
		}
	}
	return false
}

// organisation reports whether the rows are companies that have a contact rather than persons.
func (t *table) organisation() bool {
	if slices.ContainsFunc(t.words, isPerson) || t.strong("user.authorization") != nil || t.strong("user.demographic") != nil {
		return false
	}
	return slices.ContainsFunc(t.order, func(c *column) bool { return c.guessed && c.guess.Category == "user.workplace" })
}

func personScore(t *table) (int, []string) {
	score := 0
	var reasons []string
	point := func(n int, why string) {
		score += n
		reasons = append(reasons, why)
	}
	for i, w := range t.words {
		if !isPerson(w) {
			continue
		}
		if i == len(t.words)-1 {
			point(4, "its name")
		} else {
			score++ // user_settings is about users, not a list of them
		}
		break
	}
	for _, p := range []struct {
		category string
		points   int
	}{
		{"user.contact.email", 3},
		{"user.name", 3},
		{"user.demographic.date_of_birth", 3},
		{"user.government_id", 2},
		{"user.authorization", 2},
		{"user.account.username", 2},
		{"user.contact.phone_number", 1},
		{"user.contact.address", 1},
		{"user.demographic", 1},
		{"user.job_title", 1},
	} {
		if c := t.strong(p.category); c != nil {
			point(p.points, "column "+c.Name)
		}
	}
	return score, reasons
}

// identifying returns a column by which a person could be looked up.
func (t *table) identifying() *column {
	for _, category := range []string{
		"user.contact.email", "user.contact.phone_number", "user.account.username", "user.government_id", "user.unique_id",
		"user.device.cookie_id", "user.device",
	} {
		if c := t.strong(category); c != nil && c.Class != connectors.ClassBool && c.guess.Word != "useragent" {
			return c
		}
	}
	return nil
}

// called reports whether a reference's word means this table: user and users, kunde and kunden, orderItem and
// order_items, and the last word alone when it is long enough to be no accident.
func (t *table) called(base string) bool {
	joined := strings.Join(t.words, "")
	if sameWord(joined, base) {
		return true
	}
	if n := len(t.words); n > 1 {
		singular := append(slices.Clone(t.words[:n-1]), "")
		for _, w := range []string{strings.TrimSuffix(t.words[n-1], "s"), t.words[n-1]} {
			singular[n-1] = w
			if strings.Join(singular, "") == base {
				return true
			}
		}
	}
	return false
}
