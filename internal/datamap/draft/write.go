package draft

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
)

// writer writes YAML with comments, which no encoder keeps where they belong.
type writer struct {
	sb strings.Builder
}

// line writes one line at a depth of two blanks each, with a comment when there is one.
func (w *writer) line(depth int, text, comment string) {
	w.sb.WriteString(strings.Repeat("  ", depth))
	w.sb.WriteString(text)
	if comment != "" {
		if text != "" {
			w.sb.WriteString("  ")
		}
		w.sb.WriteString("# " + strings.NewReplacer("\n", " ", "\r", " ").Replace(comment))
	}
	w.sb.WriteByte('\n')
}

func (w *writer) decide(depth int, question string) {
	if question != "" {
		w.line(depth, "", "DECIDE: "+question)
	}
}

var plainWord = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// quote writes a scalar so that YAML reads it back as the same text.
func quote(s string) string {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n", "random", "redact":
		return `"` + s + `"`
	}
	if plainWord.MatchString(s) {
		return s
	}
	var sb strings.Builder
	sb.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			sb.WriteByte('\\')
			sb.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&sb, `\x%02x`, r)
		default:
			sb.WriteRune(r)
		}
	}
	sb.WriteByte('"')
	return sb.String()
}

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func write(d *drafter, o Options) []byte {
	w := &writer{}
	names := entityNames(d)
	depth := 1
	if !o.Fragment {
		w.line(0, "", "A data map that `lethe init` drafted from the names, types and comments of a database; no row was read.")
		w.line(0, "", "Each guess says why. Look at every line, and answer what is marked with DECIDE before the first request.")
		w.line(0, "", "`lethe check` tells what is still missing; docs/DATAMAP.md explains every key.")
		w.line(0, "version: 1", "")
		w.decide(0, "who answers for this data, and where? The country's holidays move deadlines.")
		w.line(0, "controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}", "")
		w.decide(0, "what must a copy say besides the data (Art. 15)? Until this is written no access request can close.")
		for _, line := range []string{
			"art15:", "  purposes: …", "  recipients: …", "  period: …", "  rights: …", "  complaint: …",
			"  source: {not_applicable: true}", "  automated_decisions: {not_applicable: true}", "  transfers: {not_applicable: true}",
		} {
			w.line(0, "", line)
		}
		w.line(0, "identifiers:", "")
		for _, name := range slices.Sorted(maps.Keys(d.identifiers)) {
			w.line(1, fmt.Sprintf("%s: {kind: %s}", quote(name), d.identifiers[name]), "")
		}
		w.line(0, "systems:", "")
	}
	if o.Fragment {
		w.line(depth, "", "The map must declare these identifiers:")
		for _, name := range slices.Sorted(maps.Keys(d.identifiers)) {
			w.line(depth, "", fmt.Sprintf("  %s: {kind: %s}", quote(name), d.identifiers[name]))
		}
	}
	w.line(depth, quote(o.System)+":", "")
	w.line(depth+1, "connector: "+quote(o.Connector), "")
	w.line(depth+1, "dsn: ${"+o.DSN+"}", "the URL stays in the environment")
	w.decide(depth+1, "how many rows may one request change before a person must look?")
	w.line(depth+1, "limits: {rows_per_request: 100000, share_of_table: 5%}", "")
	w.decide(depth+1, "which copies does Lethe not reach (backups, replicas, exports), and when do they end?")
	w.ignored(d, depth+1)
	w.line(depth+1, "entities:", "")
	for _, t := range d.tables {
		if t.mapped {
			w.entity(t, names, depth+2)
		}
	}
	return []byte(w.sb.String())
}

var entityName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,62}$`)

// entityNames gives each table a name that the map accepts.
func entityNames(d *drafter) map[*table]string {
	names := make(map[*table]string)
	used := make(map[string]bool)
	for _, t := range d.tables {
		if entityName.MatchString(t.Name) {
			names[t], used[t.Name] = t.Name, true
		}
	}
	for _, t := range d.tables {
		if names[t] != "" {
			continue
		}
		name := strings.Join(t.words, "_")
		if !entityName.MatchString(name) {
			name = "entity"
		}
		for base, n := name, 2; used[name]; n++ {
			name = fmt.Sprintf("%s_%d", base, n)
		}
		names[t], used[name] = name, true
	}
	return names
}

func (w *writer) ignored(d *drafter, depth int) {
	first := true
	for _, t := range d.tables {
		if t.mapped {
			continue
		}
		if t.ignored == "" {
			w.decide(depth, t.decide)
			continue
		}
		if first {
			w.decide(depth, "do these tables really hold nothing about a person?")
			w.line(depth, "ignore:", "")
			first = false
		}
		w.line(depth+1, quote(t.Name)+": "+quote(t.ignored), "")
	}
}

func (w *writer) entity(t *table, names map[*table]string, depth int) {
	w.decide(depth, t.decide)
	w.line(depth, quote(names[t])+":", "")
	depth++
	if names[t] != t.Name {
		w.line(depth, "table: "+quote(t.Name), "")
	}
	if t.subject {
		w.line(depth, "subject: true", "a row is a person: "+strings.Join(t.reasons, ", "))
		if slices.ContainsFunc(t.order, func(c *column) bool { return c.identifier != "" }) {
			w.line(depth, "teaches: true", "what is found here is searched for elsewhere")
		}
	}
	w.references("owned_by", t.owned, names, depth)
	w.release(t, depth)
	w.references("accessed_by", t.accessed, names, depth)
	w.references("owns", t.owns, names, depth)
	w.columns(t, depth)
	w.method(t, depth)
	if t.subject && len(t.accessed) > 0 {
		w.decide(depth, "a person's copy shows the rows of the others that accessed_by leads to. What may it say of them?")
		w.masks("mask_export", t, depth)
	}
}

func (w *writer) references(key string, refs []*reference, names map[*table]string, depth int) {
	if len(refs) == 0 {
		return
	}
	w.line(depth, key+":", "")
	asList := false
	seen := make(map[string]bool)
	for _, r := range refs {
		asList = asList || len(r.columns) > 1 || len(r.references) > 0 || seen[r.column()]
		seen[r.column()] = true
	}
	for _, r := range refs {
		w.decide(depth+1, r.decide)
		switch {
		case r.by != "":
			targets := []string{"by: " + quote(r.by)}
			for _, v := range slices.Sorted(maps.Keys(r.values)) {
				targets = append(targets, quote(v)+": "+quote(names[r.values[v]]))
			}
			w.line(depth+1, fmt.Sprintf("%s: {%s}", quote(r.column()), strings.Join(targets, ", ")), r.why)
		case asList:
			text := fmt.Sprintf("- {columns: %s, entity: %s", quoteAll(r.columns), quote(names[r.to]))
			if len(r.references) > 0 {
				text += ", references: " + quoteAll(r.references)
			}
			w.line(depth+1, text+"}", r.why)
		default:
			w.line(depth+1, fmt.Sprintf("%s: %s", quote(r.column()), quote(names[r.to])), r.why)
		}
	}
}

// release writes what changes in a row when one of several owners goes.
func (w *writer) release(t *table, depth int) {
	if len(t.owned) < 2 {
		return
	}
	// Beside a thing that the row belongs to, such as the post of a comment, what a person wrote goes with them.
	things := slices.ContainsFunc(t.owned, func(r *reference) bool { return r.by != "" || !r.to.subject })
	var lines []string
	for _, r := range t.owned {
		if r.by != "" || len(r.columns) > 1 {
			continue
		}
		var changes []string
		if c := t.columns[r.column()]; c.Nullable && !slices.Contains(t.PrimaryKey, c.Name) {
			changes = append(changes, quote(c.Name)+": null")
		}
		if things && r.to.subject && !receives(r.column()) {
			for _, c := range t.order {
				if !c.field && !c.mention || c.refers || c.category == "user.financial" {
					continue
				}
				if m, ok := t.maskFor(c); ok {
					changes = append(changes, quote(c.Name)+": "+m)
				}
			}
		}
		if len(changes) > 0 {
			lines = append(lines, fmt.Sprintf("%s: {%s}", quote(r.column()), strings.Join(changes, ", ")))
		}
	}
	if len(lines) == 0 {
		w.decide(depth, "nothing changes in a row when one of its owners goes and others remain. Should on_owner_erased say more?")
		return
	}
	w.decide(depth, "what changes in a row when one of its owners goes and others remain?")
	w.line(depth, "on_owner_erased:", "")
	for _, l := range lines {
		w.line(depth+1, l, "")
	}
}

// receives reports whether a person only got what the row says.
func receives(column string) bool {
	return slices.ContainsFunc(connectors.Words(column), func(w string) bool {
		return slices.Contains([]string{"to", "recipient", "receiver", "destinataire", "empfaenger", "empfanger", "destinatario", "mottagare"}, w)
	})
}

// covered are columns that references speak of.
func covered(t *table) map[string]bool {
	out := make(map[string]bool)
	for _, r := range slices.Concat(t.owned, t.accessed, t.owns) {
		for _, c := range r.columns {
			out[c] = true
		}
		if r.by != "" {
			out[r.by] = true
		}
	}
	return out
}

func (w *writer) columns(t *table, depth int) {
	spoken := covered(t)
	var mentions, nothing []string
	first := true
	for _, c := range t.order {
		switch {
		case c.field:
			if first {
				w.line(depth, "fields:", "")
				first = false
			}
			w.decide(depth+1, c.decide)
			var parts []string
			if c.identifier != "" {
				parts = append(parts, "identifier: "+quote(c.identifier))
			}
			if c.category != "" {
				parts = append(parts, "category: "+c.category)
			}
			w.line(depth+1, fmt.Sprintf("%s: {%s}", quote(c.Name), strings.Join(parts, ", ")), c.why)
		case !c.mention && !spoken[c.Name] && !slices.Contains(t.PrimaryKey, c.Name):
			nothing = append(nothing, c.Name)
		}
		if c.mention {
			mentions = append(mentions, c.Name)
		}
	}
	for _, c := range t.order {
		if !c.field && c.decide != "" {
			w.decide(depth, c.Name+": "+c.decide)
		}
	}
	if len(mentions) > 0 {
		w.line(depth, "mentions: "+quoteAll(mentions), "free text that is searched for identifiers")
	}
	if len(nothing) > 0 {
		w.line(depth, "not_personal: "+quoteAll(nothing), "")
	}
}

// method writes what an erasure does.
func (w *writer) method(t *table, depth int) {
	if t.watched {
		w.decide(depth, "rows of others keep pointing at this person, so the row is masked. Should it be deleted instead?")
		w.line(depth, "erase: mask", "")
		w.masks("mask", t, depth)
		return
	}
	if looksStatutory(t) {
		w.decide(depth, `must these rows be kept, for accounting or by another law? Then replace erase by keep: {article: "17(3)(b)", statute: …, class: …}.`)
	}
	w.line(depth, "erase: delete", "")
	if t.anchor {
		w.masks("anchor", t, depth)
	}
}

func (w *writer) masks(key string, t *table, depth int) {
	var masks []string
	for _, c := range t.order {
		owning := slices.ContainsFunc(t.owned, func(r *reference) bool { return r.by == "" && slices.Contains(r.columns, c.Name) })
		switch {
		case slices.Contains(t.PrimaryKey, c.Name), c.Generated:
			continue
		case owning && c.Nullable && key == "anchor":
			masks = append(masks, quote(c.Name)+": null")
			continue
		case c.refers || !c.field && !c.mention:
			continue
		}
		m, ok := t.maskFor(c)
		if !ok {
			w.decide(depth, fmt.Sprintf("no mask holds in %s (%s). How should it lose what it says?", c.Name, c.Type))
			continue
		}
		masks = append(masks, quote(c.Name)+": "+m)
	}
	if len(masks) > 0 {
		comment := ""
		if key == "anchor" {
			comment = "while rows of others still refer to it"
		}
		w.line(depth, key+": {"+strings.Join(masks, ", ")+"}", comment)
	}
}

// looksStatutory reports whether a table's name speaks of what accounting or other laws may want kept.
func looksStatutory(t *table) bool {
	for _, word := range t.words {
		for _, law := range strings.Fields(`order invoice payment receipt transaction payout refund rechnung auftrag bestellung zahlung facture
			commande paiement factura pedido pago faktura ordre payroll salary prescription diagnosis treatment consultation booking
			subscription contract vertrag contrat ledger bill billing`) {
			if sameWord(word, law) {
				return true
			}
		}
	}
	return false
}
