package connectortest

import (
	"fmt"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// People of the sample shop. Their addresses are canaries: they must be in no error.
const (
	anna = "anna.canary@example.com"
	bert = "bert.canary@example.com"
	cleo = "cleo.canary@example.com"
	dora = "dora.canary@example.com" // has only her own row
	evan = "evan.canary@example.com" // is not there
)

func kinds() map[string]dsr.IdentifierKind {
	return map[string]dsr.IdentifierKind{
		"email": dsr.KindEmail, "user_id": dsr.KindOpaque, "device": dsr.KindOpaque, "phone": dsr.KindPhone,
		"account": dsr.KindOpaque,
	}
}

func owner(column, entity string) connectors.Owner {
	return connectors.Owner{Columns: []string{column}, Entity: entity}
}

func owners(o ...connectors.Owner) []connectors.Owner { return o }

type masks = map[string]mask.Spec

var (
	toNull   = mask.Spec{Kind: mask.Null}
	toRandom = mask.Spec{Kind: mask.Random}
	toRedact = mask.Spec{Kind: mask.Redact}
)

func constant(v string) mask.Spec { return mask.Spec{Kind: mask.Constant, Value: v} }

// emptied is on_owner_erased for columns that are emptied when their owner goes.
func emptied(columns ...string) map[string]masks {
	out := map[string]masks{}
	for _, c := range columns {
		out[c] = masks{c: toNull}
	}
	return out
}

func accounting() *connectors.Keep {
	return &connectors.Keep{Article: "17(3)(b)", Statute: "Sample Act 7:2", Class: "accounting"}
}

func customers() connectors.Entity {
	return connectors.Entity{
		Name: "customers", Subject: true, Teaches: true,
		Fields: []connectors.Field{
			{Name: "email", Identifier: "email", Category: "user.contact.email"},
			{Name: "id", Identifier: "user_id"},
			{Name: "name", Category: "user.name"},
			{Name: "phone", Identifier: "phone", Category: "user.contact.phone_number"},
		},
		Erase:  dsr.Delete,
		Anchor: masks{"email": toRandom, "name": constant("Former customer"), "phone": toNull},
	}
}

func customersTable() Table {
	return table("customers", columns(integer("id"), words("email"), words("name"), optional(words("phone"))), "id").unique("email")
}

// shop is the map of a small shop with every kind of tie.
func shop() *connectors.System {
	return &connectors.System{
		Name: "shop", Identifiers: kinds(),
		Entities: byName([]connectors.Entity{
			customers(),
			{
				Name: "devices", Teaches: true, OwnedBy: owners(owner("customer_id", "customers")), Erase: dsr.Delete,
				Fields: []connectors.Field{{Name: "token", Identifier: "device"}},
			},
			{ // nobody owns a visit; it is the subject's by the device's token
				Name: "visits", Erase: dsr.Delete, Fields: []connectors.Field{{Name: "device_token", Identifier: "device"}},
			},
			{
				Name: "orders", OwnedBy: owners(owner("customer_id", "customers")), Erase: dsr.Keep, Keep: accounting(),
				Fields: []connectors.Field{{Name: "note", Category: "user.content"}, {Name: "total", Category: "user.financial"}},
				Masks:  masks{"note": toRedact},
			},
			{
				Name: "order_lines", OwnedBy: owners(owner("order_id", "orders")), Erase: dsr.Mask,
				Fields: []connectors.Field{{Name: "engraving", Category: "user.content"}}, Masks: masks{"engraving": constant("-")},
			},
			{
				Name: "messages", Erase: dsr.Delete, Mentions: []string{"body"},
				OwnedBy:       owners(owner("sender_id", "customers"), owner("recipient_id", "customers")),
				OnOwnerErased: emptied("sender_id", "recipient_id"),
			},
			{
				Name: "documents", OwnedBy: owners(owner("owner_id", "customers")), Erase: dsr.Delete,
				AccessedBy: owners(owner("reader_id", "customers")), ExportMask: masks{"title": constant("withheld")},
				Fields: []connectors.Field{{Name: "title", Category: "user.content"}},
			},
			{Name: "clubs", Erase: dsr.Delete, NotPersonal: []string{"name"}},
			{
				Name: "memberships", OwnedBy: owners(owner("customer_id", "customers")), Owns: owners(owner("club_id", "clubs")),
				Erase: dsr.Delete,
			},
			{Name: "posts", OwnedBy: owners(owner("club_id", "clubs")), Mentions: []string{"body"}, Erase: dsr.Delete},
			{
				Name: "comments", Erase: dsr.Delete, NotPersonal: []string{"target_type"},
				Fields: []connectors.Field{{Name: "body", Category: "user.content"}},
				OwnedBy: owners(
					connectors.Owner{
						Columns: []string{"target_id"}, Entity: "customers", When: &connectors.Discriminator{Column: "target_type", Value: "customer"},
					},
					connectors.Owner{
						Columns: []string{"target_id"}, Entity: "orders", When: &connectors.Discriminator{Column: "target_type", Value: "order"},
					},
				),
			},
			{Name: "articles", Mentions: []string{"body", "meta"}, NotPersonal: []string{"slug"}, Erase: dsr.Delete},
		}),
	}
}

// shopData are its rows: Anna is all over it, Bert shares much with her, Cleo little, Dora nothing.
func shopData() Dataset {
	d := Dataset{Tables: []Table{
		customersTable(),
		table("devices", columns(integer("id"), integer("customer_id"), words("token")), "id").refers("customer_id", "customers"),
		table("visits", columns(integer("id"), words("device_token")), "id"),
		table("orders", columns(integer("id"), integer("customer_id"), integer("total"), optional(words("note"))), "id").
			refers("customer_id", "customers"),
		table("order_lines", columns(integer("id"), integer("order_id"), optional(words("engraving"))), "id").refers("order_id", "orders"),
		table("messages", columns(integer("id"), optional(integer("sender_id")), optional(integer("recipient_id")), words("body")), "id").
			refers("sender_id", "customers").refers("recipient_id", "customers"),
		table("documents", columns(integer("id"), integer("owner_id"), optional(integer("reader_id")), words("title")), "id").
			refers("owner_id", "customers"),
		table("clubs", columns(integer("id"), words("name")), "id"),
		table("memberships", columns(integer("customer_id"), integer("club_id")), "customer_id", "club_id").
			refers("customer_id", "customers").refers("club_id", "clubs"),
		table("posts", columns(integer("id"), integer("club_id"), words("body")), "id").refers("club_id", "clubs"),
		table("comments", columns(integer("id"), words("target_type"), integer("target_id"), words("body")), "id"),
		table("articles", columns(integer("id"), words("slug"), words("body"), optional(document("meta"))), "id"),
	}}
	d.add("customers",
		Row{"id": 1001, "email": anna, "name": "Anna Canary", "phone": "+46 70 174 06 05"},
		Row{"id": 1002, "email": bert, "name": "Bert Canary"},
		Row{"id": 1003, "email": cleo, "name": "Cleo Canary"},
		Row{"id": 1004, "email": dora, "name": "Dora Canary"},
		Row{"id": 1005, "email": "x" + anna, "name": "Joanna"},
	)
	d.add("devices", Row{"id": 1, "customer_id": 1001, "token": "tok-anna-phone"}, Row{"id": 2, "customer_id": 1002, "token": "tok-bert-phone"})
	d.add("visits", Row{"id": 1, "device_token": "tok-anna-phone"}, Row{"id": 2, "device_token": "tok-bert-phone"},
		Row{"id": 3, "device_token": "tok-anna-phone"}, Row{"id": 4, "device_token": "TOK-ANNA-PHONE"})
	d.add("orders", Row{"id": 1, "customer_id": 1001, "total": 100, "note": "leave it with the neighbour"},
		Row{"id": 2, "customer_id": 1001, "total": 200}, Row{"id": 3, "customer_id": 1003, "total": 300, "note": "ring twice"})
	d.add("order_lines", Row{"id": 1, "order_id": 1, "engraving": "for Anna"}, Row{"id": 2, "order_id": 1}, Row{"id": 3, "order_id": 3, "engraving": "for Cleo"})
	d.add("messages",
		Row{"id": 1, "sender_id": 1001, "recipient_id": 1002, "body": "hello Bert, write to " + anna},
		Row{"id": 2, "sender_id": 1002, "recipient_id": 1001, "body": "hello Anna"},
		Row{"id": 3, "sender_id": 1001, "recipient_id": 1001, "body": "note to myself"},
		Row{"id": 4, "sender_id": 1002, "recipient_id": 1003, "body": "do you know ANNA.Canary@Example.com, or 070-174 06 05? not x" + anna},
		Row{"id": 5, "sender_id": 1001, "body": "to a customer who left"},
		Row{"id": 6, "sender_id": 1003, "recipient_id": 1002, "body": "nothing of interest"},
	)
	d.add("documents", Row{"id": 1, "owner_id": 1001, "reader_id": 1002, "title": "Anna's plan"},
		Row{"id": 2, "owner_id": 1002, "reader_id": 1001, "title": "Bert's plan"}, Row{"id": 3, "owner_id": 1003, "title": "Cleo's plan"})
	d.add("clubs", Row{"id": 1, "name": "two members"}, Row{"id": 2, "name": "only Anna"}, Row{"id": 3, "name": "Anna and Cleo"})
	d.add("memberships", Row{"customer_id": 1001, "club_id": 1}, Row{"customer_id": 1002, "club_id": 1}, Row{"customer_id": 1001, "club_id": 2},
		Row{"customer_id": 1001, "club_id": 3}, Row{"customer_id": 1003, "club_id": 3})
	d.add("posts", Row{"id": 1, "club_id": 1, "body": "welcome " + anna}, Row{"id": 2, "club_id": 2, "body": "my own club"}, Row{"id": 3, "club_id": 3, "body": "hi"})
	d.add("comments", Row{"id": 1, "target_type": "customer", "target_id": 1001, "body": "on Anna"},
		Row{"id": 2, "target_type": "order", "target_id": 1, "body": "on Anna's order"},
		Row{"id": 3, "target_type": "order", "target_id": 1001, "body": "an order with Anna's number"},
		Row{"id": 4, "target_type": "customer", "target_id": 1002, "body": "on Bert"})
	d.add("articles", Row{"id": 1, "slug": "a", "body": "Thanks to " + anna + " and " + bert + ".", "meta": `{"by":"` + anna + `","n":[1,"` + bert + `"]}`},
		Row{"id": 2, "slug": "b", "body": "Nobody is named."})
	return d
}

// many are n documents of Dora among a total of others'.
func (d Dataset) many(n, total int) Dataset {
	for i := range total {
		who := 1003
		if i < n {
			who = 1004
		}
		d.add("documents", Row{"id": 10_000 + i, "owner_id": who, "title": fmt.Sprintf("plan %d", i)})
	}
	return d
}

// keyring lends fixed keys.
type keyring struct{}

func (keyring) Active(domain string) (string, []byte, error) { return "1", key(domain), nil }
func (keyring) Live(domain string) ([][]byte, error)         { return [][]byte{key(domain)}, nil }

func key(domain string) []byte {
	k := make([]byte, 32)
	copy(k, "sample key of "+domain)
	return k
}
