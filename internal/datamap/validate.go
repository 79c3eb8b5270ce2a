package datamap

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// validate holds a map that could be read to what needs no database to see.
func validate(r *reader, m *Map, systems *systemReader) {
	if m.Tenants != "" && m.Identifiers[m.Tenants] == "" {
		r.faultAt("tenants.identifier", "is not an identifier of this map", nearest(m.Tenants, sorted(m.Identifiers)))
	}
	found := false
	for _, s := range m.Systems {
		v := systemValidator{reader: r, m: m, s: s, path: "systems." + s.Name, identified: systems.identified, flat: systems.flat[s.Name]}
		v.validate()
		for i := range s.Entities {
			found = found || s.Entities[i].Subject || v.identifies(&s.Entities[i])
		}
	}
	if !found {
		r.faultAt("systems", "no entity is a subject", "mark the entity whose rows are persons with subject: true")
	}
}

type systemValidator struct {
	*reader
	m    *Map
	s    *connectors.System
	path string
	// identified are the paths of entities that a setting gives an identifier.
	identified map[string]bool
	flat       bool
}

func (v *systemValidator) validate() {
	targetsOK := true
	for i := range v.s.Entities {
		targetsOK = v.targets(&v.s.Entities[i]) && targetsOK
	}
	for i, c := range v.s.Copies {
		if (c.Ends == "") == (c.Recipient == "") {
			v.faultAt(fmt.Sprintf("%s.copies[%d]", v.path, i), "needs an end or a recipient to be told, and not both", "")
		}
	}
	if !targetsOK {
		return
	}
	reached := v.reached()
	for i := range v.s.Entities {
		e := &v.s.Entities[i]
		at := v.at(e)
		v.identity(e, at)
		v.tenancy(e, at)
		v.masks(e, at)
		v.changes(e, at)
		v.retention(e, at)
		if e.Keep != nil {
			if _, ok := v.m.Classes[e.Keep.Class]; !ok {
				v.faultAt(at+".keep.class", "is not a deletion class of this map", nearest(e.Keep.Class, sorted(v.m.Classes)))
			}
		}
		if !reached[e.Name] {
			v.faultAt(at, "has no path to a subject, so nobody's erasure would reach it",
				"add owned_by, subject: true when a row is a person, or the field that holds an identifier")
		}
		if e.Erase == dsr.Keep || e.Erase == dsr.Mask {
			v.anchors(e)
		}
	}
}

func (v *systemValidator) at(e *connectors.Entity) string { return v.path + ".entities." + e.Name }

// targets checks that references lead to entities of the same System.
func (v *systemValidator) targets(e *connectors.Entity) bool {
	ok := true
	for _, group := range []struct {
		key    string
		owners []connectors.Owner
	}{{"owned_by", e.OwnedBy}, {"accessed_by", e.AccessedBy}, {"owns", e.Owns}} {
		for i, o := range group.owners {
			if v.s.Entity(o.Entity) != nil {
				continue
			}
			ok = false
			place := v.at(e) + "." + group.key + "." + strings.Join(o.Columns, ",")
			if v.places[place] == nil {
				place = fmt.Sprintf("%s.%s[%d]", v.at(e), group.key, i)
			}
			v.faultAt(place, "refers to an entity that this system does not declare", nearest(o.Entity, v.entityNames()))
		}
	}
	return ok
}

func (v *systemValidator) entityNames() []string {
	var names []string
	for _, e := range v.s.Entities {
		names = append(names, e.Name)
	}
	return names
}

// identifies reports whether an entity holds an identifier, in a field or by its settings: its records are found by it.
func (v *systemValidator) identifies(e *connectors.Entity) bool {
	return v.identified[v.at(e)] ||
		slices.ContainsFunc(e.Fields, func(f connectors.Field) bool { return f.Identifier != "" })
}

// reached finds the entities that a subject leads to: by an identifier, or from other rows through owned_by, owns, or an
// accessor's tie.
func (v *systemValidator) reached() map[string]bool {
	reached := map[string]bool{}
	for i := range v.s.Entities {
		e := &v.s.Entities[i]
		reached[e.Name] = e.Subject || v.identifies(e)
	}
	leads := func(owners []connectors.Owner) bool {
		return slices.ContainsFunc(owners, func(o connectors.Owner) bool { return reached[o.Entity] })
	}
	for changed := true; changed; {
		changed = false
		for _, e := range v.s.Entities {
			if !reached[e.Name] && (leads(e.OwnedBy) || leads(e.AccessedBy)) {
				reached[e.Name], changed = true, true
			}
			for _, o := range e.Owns {
				if reached[e.Name] && !reached[o.Entity] {
					reached[o.Entity], changed = true, true
				}
			}
		}
	}
	return reached
}

func (v *systemValidator) identity(e *connectors.Entity, at string) {
	identifies := v.identifies(e)
	if e.Subject && !identifies {
		v.faultAt(at, "is a subject but no field holds an identifier", "write fields: {email: {identifier: email}}")
	}
	if e.Teaches && !identifies {
		v.faultAt(at+".teaches", "has no identifier to teach", "")
	}
	for _, column := range e.NotPersonal {
		if hasField(e, column) {
			v.faultAt(at+".not_personal", "names a declared field", "a column is personal or it is not")
		}
	}
}

func (v *systemValidator) tenancy(e *connectors.Entity, at string) {
	switch {
	case v.m.Tenants == "" && (e.Tenant != "" || e.Shared):
		v.faultAt(at, "names a tenant, but the map has none", "add tenants: {identifier: …} or remove it")
	case v.m.Tenants != "" && e.Tenant == "" && !e.Shared:
		v.faultAt(at, "does not say which column names the tenant", "write tenant: account_id, or shared: true")
	case e.Tenant != "" && e.Shared:
		v.faultAt(at, "is shared and has a tenant column", "it is one or the other")
	}
}

// masks checks masks' fields and that what an erasure leaves behind is no longer personal data.
func (v *systemValidator) masks(e *connectors.Entity, at string) {
	v.maskFields(e, at+".mask", e.Masks)
	v.maskFields(e, at+".anchor", e.Anchor)
	v.maskFields(e, at+".mask_export", e.ExportMask)
	if e.Erase == dsr.Mask {
		if v.identified[at] {
			v.faultAt(at+".erase", "would leave the identifier that the entity's settings name", "write erase: delete")
		}
		v.irreversible(at+".mask", e.Masks)
		for _, f := range e.Fields {
			if _, masked := e.Masks[f.Name]; f.Identifier != "" && !masked {
				v.faultAt(at+".fields."+f.Name, "holds an identifier that erase: mask would leave", "add it to mask")
			}
		}
	}
	v.irreversible(at+".anchor", e.Anchor)
	if e.Anchor != nil {
		for _, f := range e.Fields {
			_, masked := e.Anchor[f.Name]
			if !masked && contact(v.m.Identifiers[f.Identifier]) {
				v.faultAt(at+".anchor", "leaves the identifier "+f.Name+" in the row that stays", "add it to anchor")
			}
		}
	}
	if (e.Erase == dsr.Delete || e.Erase == dsr.Expire) && len(e.Masks) > 0 {
		v.faultAt(at+".mask", "masks rows that are deleted", "write erase: mask, or remove mask")
	}
}

// contact reports whether an identifier reaches a person outside the system. Other identifiers may be the key that kept
// rows refer to, so they stand in an anchor.
func contact(k dsr.IdentifierKind) bool {
	return k == dsr.KindEmail || k == dsr.KindPhone || k == dsr.KindIP
}

func (v *systemValidator) maskFields(e *connectors.Entity, at string, masks map[string]mask.Spec) {
	for field := range masks {
		if !hasField(e, field) && !isOwning(e, field) && !slices.Contains(e.Mentions, field) {
			v.faultAt(at+"."+field, "masks a field that the entity does not declare", "add it to fields")
		}
	}
}

func (v *systemValidator) irreversible(at string, masks map[string]mask.Spec) {
	for field, s := range masks {
		if !s.Irreversible() {
			v.faultAt(at+"."+field, "a keyed or coarsened value is still personal data",
				"use null, random, redact or a constant; or keep with an article")
		}
	}
}

// changes checks on_owner_erased.
func (v *systemValidator) changes(e *connectors.Entity, at string) {
	for column, masks := range e.OnOwnerErased {
		place := at + ".on_owner_erased." + column
		if !isOwning(e, column) {
			v.faultAt(place, "is not a column of owned_by", "")
		}
		v.maskFields(e, place, masks)
		v.irreversible(place, masks)
	}
}

// anchors checks that a row which stays will not point at a row that went.
func (v *systemValidator) anchors(e *connectors.Entity) {
	for _, o := range e.OwnedBy {
		parent := v.s.Entity(o.Entity)
		cut := func(column string) bool { return e.Masks[column].Kind == mask.Null }
		if parent.Erase != dsr.Delete || parent.Anchor != nil || slices.ContainsFunc(o.Columns, cut) {
			continue
		}
		v.faultAt(v.at(parent), "is deleted while kept rows of "+e.Name+" refer to it",
			"give it an anchor: {field: mask}, or mask the reference with null")
	}
}

func hasField(e *connectors.Entity, name string) bool {
	return slices.ContainsFunc(e.Fields, func(f connectors.Field) bool { return f.Name == name })
}

func isOwning(e *connectors.Entity, column string) bool {
	return slices.ContainsFunc(e.OwnedBy, func(o connectors.Owner) bool { return slices.Contains(o.Columns, column) })
}
