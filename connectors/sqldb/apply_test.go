package sqldb

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Property 16: whatever went wrong before, a statement without its key predicate is not written.
func TestChangesWithoutTheirKeyAreRefused(t *testing.T) {
	t.Parallel()
	id := &column{Column: connectors.Column{Name: "id"}, quoted: "id", cast: "bigint", class: connectors.ClassInteger}
	account := &column{Column: connectors.Column{Name: "account"}, quoted: "account", cast: "text", class: connectors.ClassText}
	e := &entity{Entity: &connectors.Entity{Name: "orders"}, from: "orders", key: []*column{id}}
	owned := &entity{Entity: e.Entity, from: "orders", key: e.key, tenant: account}
	one := key{{"1", true}}
	for _, kind := range []string{postgres, mariadb, sqlite} {
		d := &DB{dialect: dialectOf(kind)}
		for name, c := range map[string]change{
			"no predicate":       {e: e},
			"no keys":            {e: e, where: keysOf(e, nil)},
			"an empty key":       {e: e, where: keysOf(e, []key{{}})},
			"a NULL in a key":    {e: e, where: keysOf(e, []key{one, {{}}})},
			"too many columns":   {e: e, where: keysOf(e, []key{{{"1", true}, {"2", true}}})},
			"no tenant":          {e: owned, where: keysOf(owned, []key{one})},
			"an UPDATE, no keys": {e: e, where: keysOf(e, nil), set: []assignment{{col: account}}},
		} {
			cl, err := d.change(c)
			require.Nil(t, cl, name)
			require.Equal(t, dsr.CodeOverCap, dsr.CodeOf(err), name)
			require.True(t, connectors.IsPermanent(err), name)
		}
		cl, err := d.change(change{e: owned, tenant: "x", where: keysOf(owned, []key{one})})
		require.NoError(t, err)
		require.Contains(t, cl.text, "WHERE id")
		require.Contains(t, cl.text, "account =")
	}
}

func TestTextArraysQuoteEverything(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"a","b\"c","d\\e","","NULL","{x,y}"}`, textArray([]string{"a", `b"c`, `d\e`, "", "NULL", "{x,y}"}))
	require.Equal(t, `{"a",NULL,"NULL"}`, nullableArray([]cell{{"a", true}, {}, {"NULL", true}}))
}
