package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/dsr"
)

const tenantsSQL = `
CREATE TABLE people (id INTEGER PRIMARY KEY, account TEXT NOT NULL, email TEXT NOT NULL);
CREATE INDEX people_email ON people (account, email);
INSERT INTO people VALUES (1, 'north', '` + subject + `'), (2, 'south', '` + subject + `');`

const tenantsMap = `
version: 1
controller: {name: Example Processor AB, country: SE, time_zone: Europe/Stockholm}
processor: {instruction: required}
tenants: {identifier: account}
identifiers:
  email:   {kind: email}
  account: {kind: opaque}
systems:
  crm:
    connector: sqlite
    dsn: ${SHOP_DSN}
    entities:
      people:
        subject: true
        tenant: account
        fields: {email: {identifier: email, category: user.contact.email}}
        erase: delete
`

// A processor works for several controllers: a request names one, waits for its instruction, and reaches no other's data.
func TestTenantsAreKeptApart(t *testing.T) {
	t.Parallel()
	h := startWith(t, "", tenantsSQL, tenantsMap)
	ctx := t.Context()
	north := h.caller("north-portal", dsr.RolePortal, true, "north")
	southDPO := h.caller("sam", dsr.RoleDPO, false, "south")
	northDPO := h.caller("nora", dsr.RoleDPO, false, "north")

	n := filingOf(client.KindErasure)
	resp, err := north.FileRequest(ctx, &client.FileRequestParams{}, n)
	require.Equal(t, "tenant", *h.refused("invalid", resp, err).Field)
	n.Tenant = new("south")
	resp, err = north.FileRequest(ctx, &client.FileRequestParams{}, n)
	require.Equal(t, "tenant", *h.refused("forbidden", resp, err).Field)
	n.Tenant = new("north")
	r := h.file(north, n)
	require.Equal(t, client.StateAwaitingInstruction, r.State)

	resp, err = southDPO.GetRequest(ctx, r.Id)
	_ = h.refused("not-found", resp, err)
	require.Empty(t, read[client.RequestPage](h, h.must(southDPO.ListRequests(ctx, &client.ListRequestsParams{}))).Requests)
	instruct := client.Instruction{Reference: "N-2026/17"}
	resp, err = southDPO.InstructRequest(ctx, r.Id, &client.InstructRequestParams{IfMatch: r.ETag()}, instruct)
	_ = h.refused("not-found", resp, err)
	r = read[client.Request](h, h.must(
		northDPO.InstructRequest(ctx, r.Id, &client.InstructRequestParams{IfMatch: r.ETag()}, instruct)))
	r = h.follow(r.Id, client.StateAwaitingReview)
	resp, err = h.approve(northDPO, r)
	require.NoError(t, err)
	read[client.Request](h, resp)
	h.follow(r.Id, client.StateCompleted)

	var left string
	require.NoError(t, h.shop.QueryRowContext(ctx, "SELECT group_concat(account) FROM people").Scan(&left))
	require.Equal(t, "south", left)

	resp, err = southDPO.SearchRequests(ctx, client.Search{Identifier: client.Identifier{Name: "email", Value: subject}, Tenant: new("north")})
	require.Empty(t, read[client.RequestPage](h, h.must(resp, err)).Requests)
	resp, err = northDPO.SearchRequests(ctx, client.Search{Identifier: client.Identifier{Name: "email", Value: subject}, Tenant: new("north")})
	require.Len(t, read[client.RequestPage](h, h.must(resp, err)).Requests, 1)
	h.nothingLeaked()
}
