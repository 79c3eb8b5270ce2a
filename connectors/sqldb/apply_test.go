package sqldb

import (
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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

func TestARangeWithItsGapsNamesExactlyTheKeys(t *testing.T) {
	t.Parallel()
	c := &column{class: connectors.ClassInteger}
	rapid.Check(t, func(t *rapid.T) {
		var keys []key
		want := map[int64]bool{}
		id := rapid.Int64Range(-50, 1<<60).Draw(t, "first")
		for i := range rapid.IntRange(0, 300).Draw(t, "n") {
			if i > 0 {
				id += rapid.SampledFrom([]int64{1, 1, 1, 1, 1, 1, 1, 2, 5, 40}).Draw(t, "step")
			}
			want[id] = true
			keys = append(keys, key{{strconv.FormatInt(id, 10), true}})
		}
		from, to, gaps, ok := dense(c, keys)
		if !ok {
			return
		}
		require.LessOrEqual(t, len(gaps), maxGaps)
		first, err := strconv.ParseInt(from.s, 10, 64)
		require.NoError(t, err)
		last, err := strconv.ParseInt(to.s, 10, 64)
		require.NoError(t, err)
		got := map[int64]bool{}
		for n := first; n <= last; n++ {
			if !slices.Contains(gaps, strconv.FormatInt(n, 10)) {
				got[n] = true
			}
		}
		require.Equal(t, want, got)
	})
	_, _, _, ok := dense(c, []key{{{"9", true}}, {{"8", true}}, {{"7", true}}, {{"6", true}}, {{"5", true}}, {{"4", true}}, {{"3", true}}, {{"2", true}}})
	require.False(t, ok, "keys that fall")
}

func TestTextArraysQuoteEverything(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"a","b\"c","d\\e","","NULL","{x,y}"}`, textArray([]string{"a", `b"c`, `d\e`, "", "NULL", "{x,y}"}))
	require.Equal(t, `{"a",NULL,"NULL"}`, nullableArray([]cell{{"a", true}, {}, {"NULL", true}}))
}
