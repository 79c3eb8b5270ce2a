package connectors

import (
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// System is one system of the data map after validation: what a connector is opened with. It is immutable.
type System struct {
	Name      string
	Connector string
	// Settings are the connector's own keys ("dsn", "bucket" …), validated against [Kind.SystemKeys]. Values that came
	// from ${VARIABLES} may be secrets: never log them.
	Settings    map[string]any
	Limits      Limits
	Copies      []dsr.Copy
	Settle      time.Duration // how long after a Run the System is searched again
	Window      time.Duration // batch window: how long Tasks wait for company
	Entities    []Entity      // sorted by Name
	Ignored     map[string]string
	Identifiers map[string]dsr.IdentifierKind // every identifier of the map, by name
	Zone        *time.Location                // the controller's, in which days are counted; nil is UTC
	TenantName  string                        // name of the tenant identifier; empty where the map has no tenants
}

// Entity returns the named entity, or nil.
func (s *System) Entity(name string) *Entity {
	for i := range s.Entities {
		if s.Entities[i].Name == name {
			return &s.Entities[i]
		}
	}
	return nil
}

// Limits are blast-radius caps and resource caps of one System.
type Limits struct {
	RowsPerRequest int64         // 0 is no cap
	ShareOfTable   float64       // 0.05 is 5%; 0 is no cap; tables under 1,000 rows are exempt
	Connections    int           // cap on connections to the system; 0 is 4
	Statement      time.Duration // statement timeout; 0 is 30 s
	Lock           time.Duration // lock timeout; 0 is 2 s
}

// Entity is one kind of record: a table, an object pattern, a record format, a log stream.
type Entity struct {
	Name     string
	Source   string // what it is called in the System ("schema.table"); empty means Name
	Settings map[string]any
	Subject  bool // a row is a person
	Teaches  bool // its identifiers are learned and used elsewhere
	Shared   bool // with tenants: the entity has no tenant column on purpose
	Tenant   string
	Fields   []Field // declared fields, sorted by Name
	// Placeholders are the identifiers that settings refer to ("avatars/{user_id}/**"), as [Setting.Parse] named them.
	Placeholders []string
	// NotPersonal lists columns that a person looked at and found to hold no personal data.
	NotPersonal []string
	Mentions    []string // free text searched and redacted for identifiers
	Purposes    []string

	OwnedBy []Owner // an owner's erasure counts toward deleting the row
	// AccessedBy are ties that only show the row in an export (K9db's accessors).
	AccessedBy []Owner
	// Owns are ties of a membership row: the target is owned by whoever owns this row.
	Owns []Owner
	// OnOwnerErased maps an owning column to the fields that change while other owners remain.
	OnOwnerErased map[string]map[string]mask.Spec

	Erase      dsr.Method           // Delete, Mask or Expire; Keep when Keep is set
	Masks      map[string]mask.Spec // applied with Mask and Keep
	Anchor     map[string]mask.Spec // subject entities: masks of the row that stays for a kept row's sake
	Keep       *Keep
	ExportMask map[string]mask.Spec // other people's fields in a shared record (Art. 15(4))
	Rules      []Rule               // deletion rules, in the order of the map
}

// From returns what the entity is called in its System.
func (e *Entity) From() string {
	if e.Source != "" {
		return e.Source
	}
	return e.Name
}

// Identifies returns the names of the identifiers that the entity's fields and patterns hold, sorted.
func (e *Entity) Identifies() []string {
	names := slices.Clone(e.Placeholders)
	for _, f := range e.Fields {
		if f.Identifier != "" {
			names = append(names, f.Identifier)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Field is one declared column or record field.
type Field struct {
	Name       string
	Identifier string // name of the identifier that it holds; empty when none
	Category   string // Fideslang data category: "user.contact.email"
}

// Owner is one reference of an entity: Columns of this entity refer to References of Entity (its primary key when
// empty). For a polymorphic reference When holds the discriminator.
type Owner struct {
	Columns    []string
	Entity     string
	References []string
	When       *Discriminator
}

// Discriminator restricts a polymorphic reference to rows whose Column equals Value.
type Discriminator struct {
	Column, Value string
}

// Keep says why an entity's rows stay after an erasure.
type Keep struct {
	Article string // "17(3)(b)"
	Statute string
	Class   string // deletion class whose rule ends it
}
