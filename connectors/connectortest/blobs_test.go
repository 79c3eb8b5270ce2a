package connectortest

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// TestBlobs: what is loaded and put is what is dumped, an older version that differs is seen, and a damaged content is
// left out.
func TestBlobs(t *testing.T) {
	t.Parallel()
	store := map[string][][]byte{}
	b := Blobs(Contents{
		Write: func(_ *testing.T, name string, content []byte) {
			store[name] = slices.Insert(store[name], 0, content)
		},
		Remove: func(_ *testing.T, name string) { delete(store, name) },
		Read:   func(*testing.T) map[string][][]byte { return store },
	})
	d := lakeData().crowd(5, 30)
	b.Load(t, d)
	require.Empty(t, diff(d.rows(), d.rows(), d.canonical(b.Dump(t))))
	require.Greater(t, len(store), 2*len(d.Tables), "a table is in several contents")

	w := &world{Backend: b, data: d}
	b.Put(t, "messages", w.full("messages", Row{"id": 2, "sender.id": 7, "body": "changed"}))
	want := d.rows()
	want["messages"]["2"] = map[string]string{"id": "2", "sender.email": null, "sender.id": "7", "recipients": null, "body": "changed"}
	require.Empty(t, diff(d.rows(), want, w.dump(t)))
	intact := b.Damage(t, "visits", w.full("visits", Row{"id": 99, "device_token": "x"}))
	require.True(t, intact(t))
	require.Empty(t, diff(d.rows(), want, w.dump(t)))
	store["visits/damaged.jsonl.gz"][0] = nil
	require.False(t, intact(t))

	for place, put := range b.Sabotage {
		b.Load(t, d)
		put(t, "visits", w.full("visits", Row{"id": 9, "device_token": "back"}))
		require.Len(t, diff(d.rows(), d.rows(), w.dump(t)), 1, place)
	}
	b.Load(t, d)
	store["visits/0001.jsonl"] = append(store["visits/0001.jsonl"], []byte(`{"id":1,"device_token":"older"}`))
	require.Equal(t, []string{"visits 1 in another version: the row is still there"}, diff(d.rows(), d.rows(), w.dump(t)))

	r := b.Exported(Record{Entity: "messages", Values: map[string]any{"record": `{"id":1,"sender":{"id":3},"recipients":["a"]}`}})
	require.Empty(t, cmp.Diff(Row{"id": int64(1), "sender.email": nil, "sender.id": int64(3), "recipients": `["a"]`, "body": nil}, r))
}
