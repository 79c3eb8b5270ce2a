package draft

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
)

// referenceSuffixes end a column that refers to a row.
var referenceSuffixes = []string{"id", "fk", "uuid", "guid", "ref", "nr", "no", "key", "uid", "num", "nummer", "number", "code", "pk"}

// referencePrefixes begin one: id_cliente, fk_patient.
var referencePrefixes = []string{"id", "fk", "ref"}

// ownerRoles are words for the person who made a row or whom it is about.
var ownerRoles = strings.Fields(`user owner author creator created creatorby createdby poster postedby posted sender from fromuser to
	touser recipient receiver customer client member buyer subscriber requester reporter submitter submittedby submitted patient
	participant uploader uploadedby uploaded commenter voter follower followed follower followee friend reader applicant borrower payer
	sentby sentto author authorid writer writtenby registered registeredby sponsor invitee autor auteur ersteller absender
	empfaenger empfanger besteller verfasser expediteur destinataire remitente destinatario creador avsandare mottagare skapare
	issuer person account holder guardian liker blocker blocked reportedby raisedby openedby starter initiator usr who whom`)

// accessorRoles are words for somebody who only works with a row.
var accessorRoles = strings.Fields(`assignee assigned assignedto assignedby agent approver approved approvedby reviewer reviewed
	reviewedby handler handled handledby moderator moderated moderatedby updated updatedby updater modified modifiedby modifier edited
	editedby editor deleted deletedby closed closedby resolved resolvedby processed processedby verified verifiedby banned bannedby
	invited invitedby inviter manager supervisor boss doctor physician therapist nurse praticien medecin bearbeiter sachbearbeiter
	behandler arzt seller rep salesrep caseworker staff employee performed performedby locked lockedby accepted acceptedby operator
	admin lead technician practitioner attending consultant vendedor responsable zustaendig ansprechpartner betreuer handlaggare
	changedby changed lastposter merged mergedby cancelledby canceledby signedby prescriber referrer referredby`)

func accessorWord(words []string) bool {
	joined := strings.Join(trimReference(words), "")
	return slices.Contains(accessorRoles, joined) || slices.ContainsFunc(words, func(w string) bool { return slices.Contains(accessorRoles, w) })
}

func trimReference(words []string) []string {
	if n := len(words); n > 1 && slices.Contains(referenceSuffixes, words[n-1]) {
		return words[:n-1]
	}
	if len(words) > 1 && slices.Contains(referencePrefixes, words[0]) {
		return words[1:]
	}
	return words
}

// referenceBase returns what a column refers to by its name, as one word: "customer" for customer_id, customerId and
// id_customer. It is not ok for a column that does not look like a reference.
func referenceBase(name string) (base string, ok bool) {
	words := connectors.Words(name)
	trimmed := trimReference(words)
	if len(trimmed) == len(words) {
		joined := strings.Join(words, "")
		if stem, cut := strings.CutSuffix(joined, "id"); cut && len(words) == 1 && len(stem) > 2 {
			return stem, true // userid
		}
		return joined, false
	}
	return strings.Join(trimmed, ""), true
}

// findReferences collects foreign keys and guesses the ones that were never declared.
func (d *drafter) findReferences() {
	for _, t := range d.tables {
		if t.ignored != "" {
			continue
		}
		for _, r := range t.References {
			to := d.byName[r.Entity]
			if to == nil || to.ignored != "" {
				continue
			}
			ref := &reference{
				columns: r.Columns, to: to, declared: true, onDelete: r.OnDelete, why: "foreign key",
			}
			if !slices.Equal(r.References, to.PrimaryKey) {
				ref.references = r.References
			}
			t.addReference(ref)
		}
		d.findPolymorphic(t)
		for _, c := range t.order {
			if !c.refers {
				d.guessReference(t, c)
			}
		}
	}
}

func (t *table) addReference(r *reference) {
	for _, name := range r.columns {
		c := t.columns[name]
		c.refers = true
		r.nullable = r.nullable || c.Nullable
	}
	if !slices.ContainsFunc(t.refs, func(o *reference) bool { return o.to == r.to && slices.Equal(o.columns, r.columns) && r.by == "" }) {
		t.refs = append(t.refs, r)
	}
}

// fits reports whether a column can hold the keys of another.
func fits(child, parent *column) bool {
	if child.Class == parent.Class {
		return child.Class != connectors.ClassText || child.MaxLen == 0 || parent.MaxLen == 0 || child.MaxLen >= parent.MaxLen/2
	}
	integer := func(c connectors.ColumnClass) bool {
		return c == connectors.ClassInteger || c == connectors.ClassNumber
	}
	return integer(child.Class) && integer(parent.Class)
}

// guessReference guesses what a column without a foreign key refers to.
func (d *drafter) guessReference(t *table, c *column) {
	key := slices.Contains(t.PrimaryKey, c.Name)
	if key && len(t.PrimaryKey) == 1 && !d.sharedKey(t, c) {
		return
	}
	switch c.Class {
	case connectors.ClassInteger, connectors.ClassNumber, connectors.ClassText, connectors.ClassUUID:
	default:
		return
	}
	base, looks := referenceBase(c.Name)
	words := trimReference(connectors.Words(c.Name))
	keyed := func(to *table) bool { return to.key() != nil && fits(c, to.key()) }
	add := func(to *table, why string) {
		t.addReference(&reference{columns: []string{c.Name}, to: to, why: why})
	}
	numeric := c.Class != connectors.ClassText
	if looks || numeric {
		for _, to := range d.tables { // customer_id is customers
			if to.ignored == "" && keyed(to) && to.called(base) && (to != t || looks) {
				add(to, fmt.Sprintf("named like %s, no foreign key", to.Name))
				return
			}
		}
	}
	for _, to := range d.tables { // kundennr is also the key of kunden
		if to != t && to.ignored == "" && to.key() != nil && strings.EqualFold(to.key().Name, c.Name) && len(c.Name) > 3 && fits(c, to.key()) {
			add(to, fmt.Sprintf("named like the key of %s, no foreign key", to.Name))
			return
		}
	}
	if !looks && !numeric {
		return
	}
	// assigned_user_id is users; parent_comment_id is comments
	for i := 1; i < len(words) && looks; i++ {
		tail := strings.Join(words[i:], "")
		for _, to := range d.tables {
			if to.ignored == "" && keyed(to) && to.called(tail) {
				add(to, fmt.Sprintf("its last words name %s, no foreign key", to.Name))
				return
			}
		}
	}
	if slices.Contains([]string{"parent", "replyto", "inreplyto", "replytopost"}, base) && (looks || numeric) && keyed(t) {
		add(t, "a parent in the same table, no foreign key")
		return
	}
	if n := len(words); numeric && n > 1 && words[n-1] == "parent" && t.called(strings.Join(words[:n-1], "")) && keyed(t) {
		add(t, "a parent in the same table, no foreign key")
		return
	}
	main := d.main()
	if main == nil || !keyed(main) || t == main && !looks {
		return
	}
	switch words[len(words)-1] {
	case "on", "at", "date", "time", "am", "le", "count", "total":
		return // when, not who
	}
	role := func(list []string) bool {
		return slices.Contains(list, base) || slices.ContainsFunc(words, func(w string) bool { return slices.Contains(list, w) && len(w) > 3 })
	}
	if strings.HasSuffix(base, "by") && len(base) > 4 || role(accessorRoles) || role(ownerRoles) {
		if _, isGuess := connectors.GuessPersonal(*c.Column); !isGuess || looks || numeric {
			add(main, fmt.Sprintf("%s is a role of a person, no foreign key", strings.Join(words, " ")))
		}
	}
}

// sharedKey reports whether a lone primary key is another table's key too, as in a table of details.
func (d *drafter) sharedKey(t *table, c *column) bool {
	base, ok := referenceBase(c.Name)
	if !ok || base == "" || t.called(base) {
		return false
	}
	return slices.ContainsFunc(d.tables, func(o *table) bool { return o != t && o.called(base) })
}

// findPolymorphic finds pairs such as target_type and target_id.
func (d *drafter) findPolymorphic(t *table) {
	for _, id := range t.order {
		words := connectors.Words(id.Name)
		n := len(words)
		if id.refers || n < 2 || !slices.Contains(referenceSuffixes, words[n-1]) {
			continue
		}
		stem := strings.Join(words[:n-1], "")
		for _, typ := range t.order {
			w := connectors.Words(typ.Name)
			if typ == id || len(w) != n || strings.Join(w[:n-1], "") != stem ||
				!slices.Contains([]string{"type", "kind", "class", "model", "typ", "table", "entity", "art"}, w[n-1]) ||
				typ.Class != connectors.ClassText && typ.Class != connectors.ClassEnum {
				continue
			}
			if slices.ContainsFunc(d.tables, func(o *table) bool { return o.called(stem) }) {
				continue // payment_type beside payment_id says what kind of payment
			}
			typ.refers = true
			t.addReference(&reference{
				columns: []string{id.Name}, by: typ.Name, values: d.targets(typ),
				why: fmt.Sprintf("%s says which table", typ.Name),
			})
		}
	}
}

// targets guesses what the values of a discriminator mean.
func (d *drafter) targets(typ *column) map[string]*table {
	out := make(map[string]*table)
	for _, v := range typ.Enum {
		base := strings.Join(connectors.Words(v[strings.LastIndexAny(v, `\.:`)+1:]), "")
		for _, to := range d.tables {
			if to.ignored == "" && to.called(base) && to.key() != nil {
				out[v] = to
			}
		}
	}
	return out
}

// findOwners decides which tables belong to a person and by which references, from the persons outwards.
func (d *drafter) findOwners() {
	for _, t := range d.subjects() {
		t.mapped = true
	}
	for changed := true; changed; {
		changed = false
		for _, t := range d.tables {
			if t.mapped || t.ignored != "" {
				continue
			}
			if slices.ContainsFunc(t.refs, func(r *reference) bool { return r.by != "" || r.to != t && r.to.mapped && t.follows(r) }) {
				t.mapped, changed = true, true
			}
		}
		if changed {
			continue
		}
		changed = d.adopt()
	}
	d.shareDetails()
	d.fillPolymorphic()
	for _, t := range d.tables {
		if t.mapped {
			d.own(t)
		}
	}
	d.watch()
}

// follows reports whether a reference to a mapped table makes the row personal: not where somebody merely works with
// it, or where a company is named, unless the row says something about a person itself.
func (t *table) follows(r *reference) bool {
	if r.to.detail && !r.to.subject {
		return false
	}
	if r.to.subject && (r.to.loose || t.worksOn(r)) {
		return t.strong("user.") != nil || slices.ContainsFunc(t.order, func(c *column) bool {
			return c.guessed && c.guess.Category == "user.content" && c.HasText && c.guess.Word != "name" && c.guess.Word != "description"
		})
	}
	return true
}

// worksOn reports whether a reference to a person is by a role that only works with the row.
func (t *table) worksOn(r *reference) bool {
	return accessorWord(connectors.Words(r.column())) && !isPerson(t.words[len(t.words)-1])
}

// details are words for tables whose rows say more about the row that points at them.
var details = strings.Fields(`address adresse adress direccion indirizzo profile profil contact detail info information bank card wallet
	avatar photo picture location preference settings identity person passport licence license insurance anschrift coordonnees`)

// adopt maps one more table with personal columns that nothing led to: one that a mapped row points at belongs to that
// row; one with an e-mail address belongs to whoever has that address; else each of its rows may be a person.
func (d *drafter) adopt() bool {
	for _, t := range d.tables {
		if t.mapped || t.ignored != "" || t.strong("user.") == nil {
			continue
		}
		for _, holder := range d.tables {
			for _, r := range holder.refs {
				detail := slices.ContainsFunc(t.words, func(w string) bool {
					return slices.ContainsFunc(details, func(d string) bool { return sameWord(w, d) })
				})
				if holder.mapped && r.to == t && r.by == "" && (detail || holder.subject && t.strong("user.workplace") == nil) {
					holder.owns = append(holder.owns, r)
					t.mapped, t.detail = true, true
				}
			}
		}
		if t.mapped {
			return true
		}
	}
	main := d.main()
	for _, t := range d.tables {
		if t.mapped || t.ignored != "" {
			continue
		}
		mail := t.strong("user.contact.email")
		if main != nil && mail != nil && main.strong("user.contact.email") != nil && !isPerson(t.words[len(t.words)-1]) {
			r := &reference{
				columns: []string{mail.Name}, to: main, references: []string{main.strong("user.contact.email").Name},
				why: "the same e-mail address", nullable: mail.Nullable,
				decide: "do these rows belong to the person with this address?",
			}
			t.refs, t.mapped = append(t.refs, r), true
			return true
		}
		if c := t.identifying(); c != nil {
			t.subject, t.mapped, t.loose = true, true, true
			t.decide = fmt.Sprintf("nothing leads from here to another person, so each row is taken for one, by %s. Right?", c.Name)
			t.reasons = []string{"column " + c.Name}
			return true
		}
		if c := t.strong("user.device.ip_address"); c != nil {
			t.subject, t.mapped, t.loose = true, true, true
			t.decide = fmt.Sprintf("nothing but %s leads to a person. Is that enough, or should the table be cleared by age instead?", c.Name)
			t.reasons = []string{"column " + c.Name}
			return true
		}
	}
	return false
}

// shareDetails maps tables that point at a detail of persons as well, such as a branch with an address: they keep the
// detail alive.
func (d *drafter) shareDetails() {
	for _, t := range d.tables {
		if t.mapped || t.ignored != "" || !slices.ContainsFunc(t.refs, func(r *reference) bool { return r.to != nil && r.to.subject }) {
			continue
		}
		for _, r := range t.refs {
			if r.by == "" && r.to.detail {
				t.owns, t.mapped, t.bystander = append(t.owns, r), true, true
			}
		}
	}
}

// fillPolymorphic gives polymorphic references without known values a target each for the likeliest tables.
func (d *drafter) fillPolymorphic() {
	for _, t := range d.tables {
		for _, r := range t.refs {
			if r.by == "" {
				continue
			}
			for v, to := range r.values {
				if !to.mapped {
					delete(r.values, v)
				}
			}
			if len(r.values) > 0 {
				continue
			}
			r.values = make(map[string]*table)
			for _, to := range d.tables {
				if to.mapped && to != t && to.key() != nil && fits(t.columns[r.column()], to.key()) &&
					(to.subject || len(to.words) == 1) && len(r.values) < 6 {
					r.values[singular(to.words)] = to
				}
			}
			r.decide = fmt.Sprintf("which values does %s have, and which table does each mean?", r.by)
		}
	}
}

func singular(words []string) string {
	last := words[len(words)-1]
	switch {
	case strings.HasSuffix(last, "ies"):
		last = strings.TrimSuffix(last, "ies") + "y"
	case strings.HasSuffix(last, "s") && !strings.HasSuffix(last, "ss"):
		last = strings.TrimSuffix(last, "s")
	}
	return strings.Join(append(slices.Clone(words[:len(words)-1]), last), "_")
}

// groups are words for what several people share and what goes with the last of them.
var groups = strings.Fields(`group team conversation thread chat room household family channel account organisation organization
	workspace gruppe famille groupe grupo equipe`)

// own sorts a table's references into owners, accessors and what it owns itself.
func (d *drafter) own(t *table) {
	var owners, accessors, selves []*reference
	for _, r := range t.refs {
		switch {
		case r.by == "" && !r.to.mapped:
			d.maybeOwns(t, r)
		case slices.Contains(t.owns, r):
		case r.by == "" && r.to == t:
			selves = append(selves, r)
		case r.by == "" && (t.worksOn(r) || r.to.loose):
			accessors = append(accessors, r)
		case t.subject && r.by == "":
			accessors = append(accessors, r) // a person belongs to nobody
		default:
			owners = append(owners, r)
		}
	}
	if len(owners) == 0 && !t.subject && !t.bystander && len(t.memberOf(d)) == 0 {
		owners, accessors = accessors, nil // somebody must own it
		for _, r := range owners {
			r.decide = fmt.Sprintf("nobody but %s leads from this row to a person. Does it go when they do?", r.column())
		}
	}
	if len(owners) == 1 && !t.subject && owners[0].nullable {
		owners[0].decide = cmp.Or(owners[0].decide, "every way from this row to a person may be NULL. How are the others found?")
	}
	t.owned = owners
	t.accessed = accessors
	if t.subject {
		t.accessed = append(t.accessed, selves...)
	} else {
		t.owned = append(t.owned, selves...) // an answer outlives what it answers, and the reference is emptied
	}
}

// memberOf returns the tables whose rows own this one's.
func (t *table) memberOf(d *drafter) []*table {
	var out []*table
	for _, o := range d.tables {
		if slices.ContainsFunc(o.owns, func(r *reference) bool { return r.to == t }) {
			out = append(out, o)
		}
	}
	return out
}

// maybeOwns handles a membership's other end: a group goes with its last member, a role or a product does not.
func (d *drafter) maybeOwns(t *table, r *reference) {
	join := len(t.order) <= len(t.refs)+3 && len(t.refs) >= 2
	if join && !r.to.mapped && r.to.ignored == "" && slices.ContainsFunc(r.to.words, func(w string) bool {
		return slices.ContainsFunc(groups, func(g string) bool { return sameWord(w, g) })
	}) {
		r.decide = fmt.Sprintf("does a row of %s go when its last member does?", r.to.Name)
		r.why = "a membership"
		t.owns = append(t.owns, r)
		r.to.mapped = true
	}
}

// watch finds persons whose rows others keep pointing at, and rows that must outlive their owner for another's sake.
func (d *drafter) watch() {
	for _, t := range d.tables {
		refs := t.accessed
		if !t.mapped {
			refs = t.refs
		}
		for _, r := range refs {
			if r.by == "" && r.to.subject && r.declared && r.onDelete != "set null" && r.onDelete != "cascade" {
				r.to.watched = true
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for _, t := range d.tables {
			for _, r := range t.owns {
				if (t.watched || t.anchor) && !r.to.anchor {
					r.to.anchor, changed = true, true
				}
			}
			if len(t.owned) < 2 && !t.anchor {
				continue
			}
			for _, r := range t.owned {
				if r.by == "" && !r.nullable && !r.to.anchor && r.to != t {
					r.to.anchor, changed = true, true
				}
			}
		}
	}
}
