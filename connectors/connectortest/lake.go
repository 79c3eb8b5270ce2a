package connectortest

import (
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// lake is the map of the same people's records where entities have no ties: whom a record names in a field has it.
// Entities that the shop has too are called the same, so that cases can serve both.
func lake() *connectors.System {
	people := customers()
	people.Anchor = nil
	return &connectors.System{
		Name: "lake", Identifiers: kinds(),
		Entities: byName([]connectors.Entity{
			people,
			{
				Name: "devices", Teaches: true, Erase: dsr.Delete,
				Fields: []connectors.Field{{Name: "customer_id", Identifier: "user_id"}, {Name: "token", Identifier: "device"}},
			},
			{Name: "visits", Erase: dsr.Delete, Fields: []connectors.Field{{Name: "device_token", Identifier: "device"}}},
			{ // stays, without its note
				Name: "orders", Erase: dsr.Keep, Keep: accounting(),
				Fields: []connectors.Field{
					{Name: "customer_id", Identifier: "user_id"}, {Name: "note", Category: "user.content"}, {Name: "total", Category: "user.financial"},
				},
				Masks: masks{"note": toRedact},
			},
			{ // nested and repeated fields; goes with the first of those whom it names
				Name: "messages", Erase: dsr.Delete, Mentions: []string{"body"},
				Fields: []connectors.Field{
					{Name: "sender.email", Identifier: "email"}, {Name: "sender.id", Identifier: "user_id"}, {Name: "recipients", Identifier: "email"},
				},
			},
			{ // stays, and names nobody any more
				Name: "audit", Erase: dsr.Mask, Mentions: []string{"text"},
				Fields: []connectors.Field{
					{Name: "actor.email", Identifier: "email"}, {Name: "actor.id", Identifier: "user_id"}, {Name: "city", Category: "user.location"},
				},
				Masks: masks{"actor.email": toRandom, "actor.id": toNull, "city": constant("-")},
			},
			{Name: "articles", Mentions: []string{"body", "meta"}, NotPersonal: []string{"slug"}, Erase: dsr.Delete},
		}),
	}
}

// lakeData are its rows: Anna is all over it, Bert shares much with her, Cleo little, Dora nothing.
func lakeData() Dataset {
	shop := shopData()
	shared := func(name string) Table {
		t := *shop.Table(name)
		t.Rows, t.References = slices.Clone(t.Rows), nil
		return t
	}
	d := Dataset{Tables: []Table{
		shared("customers"), shared("devices"), shared("visits"), shared("orders"), shared("articles"),
		table("messages", columns(integer("id"), optional(words("sender.email")), optional(integer("sender.id")),
			optional(document("recipients")), words("body")), "id"),
		table("audit", columns(integer("id"), optional(words("actor.email")), optional(integer("actor.id")), words("city"),
			optional(words("text"))), "id"),
	}}
	d.add("messages",
		Row{"id": 1, "sender.id": 1001, "recipients": `["` + bert + `"]`, "body": "hello Bert, write to " + anna},
		Row{"id": 2, "sender.email": bert, "sender.id": 1002, "recipients": `["` + cleo + `","ANNA.Canary@Example.com"]`, "body": "hello Anna"},
		Row{"id": 3, "sender.email": anna, "body": "note to myself"},
		Row{"id": 4, "sender.id": 1002, "recipients": `["` + cleo + `"]`, "body": "do you know ANNA.Canary@Example.com, or 070-174 06 05? not x" + anna},
		Row{"id": 5, "sender.email": "x" + anna, "sender.id": 10010, "body": "from one whose name ends like hers"},
		Row{"id": 6, "sender.id": 1003, "recipients": `[]`, "body": "nothing of interest"},
		Row{"id": 7, "body": "a notice to everyone, signed \"1001\""},
	)
	d.add("audit",
		Row{"id": 1, "actor.email": anna, "actor.id": 1001, "city": "Umeå", "text": "signed in as " + anna},
		Row{"id": 2, "actor.email": "anna@work.example.com", "actor.id": 1001, "city": "Luleå"},
		Row{"id": 3, "actor.email": bert, "actor.id": 1002, "city": "Kiruna", "text": "looked at Anna.Canary@example.com, then at " + cleo},
		Row{"id": 4, "city": "Boden", "text": "restarted"},
	)
	return d
}

// crowd are n messages of Dora among a total of others'.
func (d Dataset) crowd(n, total int) Dataset {
	for i := range total {
		who := 1003
		if i < n {
			who = 1004
		}
		d.add("messages", Row{"id": 10_000 + i, "sender.id": who, "body": "as usual"})
	}
	return d
}
