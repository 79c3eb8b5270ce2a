package accesspackage_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/accesspackage"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/keys"
)

const mapText = `version: 1
controller: {name: "Example & Sons AB", country: SE, time_zone: Europe/Stockholm}
identifiers: {email: {kind: email}}
art15:
  purposes: [Selling and delivering, Keeping books]
  recipients: Example Post
  period: Until two years after your last order.
  rights: You may ask for correction, erasure and restriction, and you may object.
  complaint: Integritetsskyddsmyndigheten, Stockholm
  source: From you.
  automated_decisions: {not_applicable: true}
  transfers: {not_applicable: true}
deletion_classes:
  accounting: {period: P7Y, from: end_of_calendar_year}
systems:
  shop:
    connector: fake
    copies: [{what: deliveries, recipient: Example Post}]
    entities:
      customers:
        subject: true
        fields: {email: {identifier: email, category: user.contact.email}, name: {category: user.name}}
        erase: delete
        anchor: {email: random, name: Former customer}
        purposes: [delivery]
      orders:
        owned_by: {customer_id: customers}
        fields: {total: {category: user.financial}}
        keep: {article: "17(3)(b)", statute: "Bokföringslag 7:2", class: accounting}
      messages:
        owned_by: {sender: customers}
        fields: {other: {category: user.name}}
        mask_export: {other: redact}
        erase: delete
`

func readMap(text []byte) (*datamap.Map, error) {
	return datamap.Load(text, os.LookupEnv, []connectors.Kind{{Name: "fake"}})
}

type bundle struct {
	dir     string
	store   *accesspackage.Store
	key     engine.DataKey
	wrapped []byte
	spec    engine.PackageSpec
}

func setup(t *testing.T) *bundle {
	t.Helper()
	dir := t.TempDir()
	k, err := keys.Open(t.Context(), filepath.Join(dir, "keys"), nil)
	require.NoError(t, err)
	b := &bundle{dir: filepath.Join(dir, "packages")}
	b.wrapped, b.key, err = k.NewDataKey(t.Context())
	require.NoError(t, err)
	b.store, err = accesspackage.New(b.dir, readMap)
	require.NoError(t, err)
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	b.spec = engine.PackageSpec{
		Request: &dsr.Request{ID: "req_1", Kind: dsr.Access}, Key: b.key, Wrapped: b.wrapped, Systems: []string{"shop"},
		Map: &engine.StoredMap{Version: 1, Hash: datamap.Hash([]byte(mapText)), YAML: []byte(mapText)},
		Now: now, Expires: now.AddDate(0, 0, 30),
	}
	return b
}

func (b *bundle) part(t *testing.T, system string) engine.Part {
	t.Helper()
	p, err := b.store.OpenPart("req_1", system, b.key)
	require.NoError(t, err)
	return p
}

// assemble builds the package and returns its files by path, after holding them to the manifest.
func (b *bundle) assemble(t *testing.T) (*engine.Package, map[string]string) {
	t.Helper()
	p, err := b.store.Assemble(t.Context(), b.spec)
	require.NoError(t, err)
	return p, b.unpack(t, p)
}

type manifest struct {
	Request string
	Records int64
	Files   []struct {
		Path    string
		Size    int64
		SHA256  string
		Records int64
	}
}

func (b *bundle) unpack(t *testing.T, p *engine.Package) map[string]string {
	t.Helper()
	info, err := os.Stat(filepath.Join(b.dir, p.Path))
	require.NoError(t, err)
	require.Equal(t, info.Size(), p.Size)
	r, err := b.store.Open(p, b.key)
	require.NoError(t, err)
	defer r.Close()
	plain, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, p.SHA256, hex.EncodeToString(sum(plain)))
	z, err := zip.NewReader(bytes.NewReader(plain), int64(len(plain)))
	require.NoError(t, err)
	files := map[string]string{}
	for _, f := range z.File {
		require.True(t, filepath.IsLocal(f.Name), f.Name)
		require.NotContains(t, files, f.Name)
		r, err := f.Open()
		require.NoError(t, err)
		body, err := io.ReadAll(r)
		require.NoError(t, err)
		files[f.Name] = string(body)
	}
	var m manifest
	require.NoError(t, json.Unmarshal([]byte(files["manifest.json"]), &m))
	require.Equal(t, p.Records, m.Records)
	require.Len(t, m.Files, len(files)-1)
	for _, f := range m.Files {
		require.Contains(t, files, f.Path)
		require.EqualValues(t, len(files[f.Path]), f.Size)
		require.Equal(t, hex.EncodeToString(sum([]byte(files[f.Path]))), f.SHA256, f.Path)
	}
	return files
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

func TestAPackageHoldsWhatWasStaged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.part(t, "shop")
	names := []string{"id", "email", "note", "seen", "balance", "tags", "blob", "none"}
	when := time.Date(2025, 5, 6, 7, 8, 9, 123e6, time.UTC)
	require.NoError(t, p.Record("customers", names, []any{
		int64(7), "anna@example.com", "=HYPERLINK(\"x\")\n\"q\", ö </script>", when, -12.5,
		[]string{"a", "b"},
		[]byte{0xff, 0x00},
		nil,
	}))
	require.NoError(t, p.Record("orders", []string{"total"}, []any{json.Number("19.90")}))
	require.NoError(t, p.Record("customers", names, []any{
		int64(1) << 60, "+46", "-", when, 0.1, nil, []byte("text"), true,
	}))
	require.NoError(t, p.File("avatars", "a/../../b.png", strings.NewReader(strings.Repeat("x", 200_000))))
	require.NoError(t, p.File("avatars", "a/b.png", strings.NewReader("again")))
	require.EqualValues(t, 5, p.Records())
	require.NoError(t, p.Close())
	pkg, files := b.assemble(t)

	require.EqualValues(t, 5, pkg.Records)
	require.Equal(t, b.wrapped, pkg.DataKey)
	var paths []string
	for f := range files {
		paths = append(paths, f)
	}
	require.ElementsMatch(t, []string{
		"index.html", "README.en.txt", "withheld.html", "art15.html", "manifest.json",
		"data/shop/customers.json", "data/shop/customers.csv", "data/shop/orders.json", "data/shop/orders.csv",
		"files/shop/avatars/a/b.png", "files/shop/avatars/a/b (2).png",
	}, paths)
	require.Len(t, files["files/shop/avatars/a/b.png"], 200_000)
	require.Equal(t, "again", files["files/shop/avatars/a/b (2).png"])

	var records []map[string]any
	dec := json.NewDecoder(strings.NewReader(files["data/shop/customers.json"]))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&records))
	require.Empty(t, cmp.Diff([]map[string]any{
		{
			"id": json.Number("7"), "email": "anna@example.com", "note": "=HYPERLINK(\"x\")\n\"q\", ö </script>",
			"seen": "2025-05-06T07:08:09.123Z", "balance": json.Number("-12.5"), "tags": []any{"a", "b"},
			"blob": "base64:/wA=", "none": nil,
		},
		{
			"id": json.Number("1152921504606846976"), "email": "+46", "note": "-", "seen": "2025-05-06T07:08:09.123Z",
			"balance": json.Number("0.1"), "tags": nil, "blob": "text", "none": true,
		},
	}, records))
	rows, err := csv.NewReader(strings.NewReader(files["data/shop/customers.csv"])).ReadAll()
	require.NoError(t, err)
	require.Equal(t, [][]string{
		names,
		{"7", "anna@example.com", "'=HYPERLINK(\"x\")\n\"q\", ö </script>", "2025-05-06T07:08:09.123Z", "-12.5", `["a","b"]`, "base64:/wA=", ""},
		{"1152921504606846976", "'+46", "'-", "2025-05-06T07:08:09.123Z", "0.1", "", "text", "true"},
	}, rows)
	require.JSONEq(t, `[{"total": 19.90}]`, files["data/shop/orders.json"])

	index := files["index.html"]
	require.Contains(t, index, "anna@example.com")
	require.Contains(t, index, "Example &amp; Sons AB")
	require.NotContains(t, index, "ö </script>")
	require.Contains(t, index, `href="files/shop/avatars/a/b%20%282%29.png"`)
	for _, f := range []string{"http://", "https://", "src="} {
		require.NotContains(t, index, f)
	}
	art15 := files["art15.html"]
	for _, s := range []string{
		"Selling and delivering", "Example Post", "Integritetsskyddsmyndigheten", "Does not apply.", "contact: email",
		"delivery", "7 years from the end of the calendar year", "Bokföringslag 7:2",
	} {
		require.Contains(t, art15, s)
	}
	require.Contains(t, files["withheld.html"], "Nothing is held back.")

	_, err = os.Stat(filepath.Join(b.dir, "staging", "req_1"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestWithheldSaysWhatWhyAndUntil(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.spec.Language = "sv-FI"
	p := b.part(t, "shop")
	require.NoError(t, p.Withheld("messages", 2, dsr.Exception{Article: "15(4)"}))
	require.NoError(t, p.Withheld("messages", 3, dsr.Exception{Article: "15(4)"}))
	require.NoError(t, p.Record("messages", []string{"other"}, []any{"[redacted]"}))
	require.NoError(t, p.Close())
	ends := time.Date(2033, 1, 1, 0, 0, 0, 0, time.UTC)
	b.spec.Withheld = []dsr.PlanLine{
		{System: "shop", Entity: "orders", Count: 41, Method: dsr.Keep, Exception: &dsr.Exception{Article: "17(3)(b)", Class: "accounting"}},
		{System: "shop", Entity: "invoices", Count: 43, Method: dsr.Keep, Exception: &dsr.Exception{Article: "23", Ends: &ends}},
		{System: "shop", Entity: "customers", Count: 99, Method: dsr.Delete},
	}
	_, files := b.assemble(t)
	page := files["withheld.html"]
	for _, s := range []string{
		`<html lang="sv">`, "<td>messages</td><td>5</td><td>Andra personers", "7 år från kalenderårets slut",
		"<td>2033-01-01</td>", "Dolda fält", "<td>other</td>",
	} {
		require.Contains(t, page, s)
	}
	require.NotContains(t, page, "99")
	require.Contains(t, files, "README.sv.txt")
}

func TestNothingFoundIsAPackageToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pkg, files := b.assemble(t)
	require.Zero(t, pkg.Records)
	require.Contains(t, files["index.html"], "Nothing about you was found.")
}

func TestRewindTakesBackWhatWasNotSaved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	names := []string{"id"}
	write := func(p engine.Part, from, to int) {
		for i := from; i < to; i++ {
			require.NoError(t, p.Record("orders", names, []any{i}))
		}
	}
	p := b.part(t, "shop")
	write(p, 0, 10)
	mark, err := p.Mark()
	require.NoError(t, err)
	write(p, 10, 50_000) // several blocks are on disk, one is not
	require.NoError(t, p.Record("customers", []string{"email"}, []any{"x"}))
	require.NoError(t, p.File("avatars", "x", strings.NewReader("y")))

	_, err = b.store.OpenPart("req_1", "shop", b.key)
	require.Equal(t, dsr.CodeUnavailable, dsr.CodeOf(err), "two workers must not share a part")

	require.NoError(t, p.Rewind(mark))
	require.EqualValues(t, 10, p.Records())
	write(p, 10, 20)
	require.NoError(t, p.Close())

	// a worker that died in the middle of a block
	path := filepath.Join(b.dir, "staging", "req_1", "shop.part")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.Write([]byte{2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 1, 0, 42})
	require.NoError(t, err)
	require.NoError(t, f.Close())

	p = b.part(t, "shop")
	require.EqualValues(t, 20, p.Records())
	require.NoError(t, p.Rewind(mark))
	write(p, 10, 12)
	require.NoError(t, p.Close())
	_, files := b.assemble(t)
	require.JSONEq(t, `[{"id":0},{"id":1},{"id":2},{"id":3},{"id":4},{"id":5},{"id":6},{"id":7},{"id":8},{"id":9},{"id":10},{"id":11}]`,
		files["data/shop/orders.json"])
	require.NotContains(t, files, "data/shop/customers.json")
	require.NotContains(t, files, "files/shop/avatars/x")
}

func TestRewindToWhatIsLostIsAPermanentFault(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.part(t, "shop")
	defer p.Close()
	err := p.Rewind("4711")
	require.True(t, connectors.IsPermanent(err), err)
	require.NoError(t, p.Rewind(""))
	require.NoError(t, p.Record("orders", []string{"id"}, []any{1}))
}

func TestAFileThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.part(t, "shop")
	require.NoError(t, p.Record("orders", []string{"id"}, []any{1}))
	boom := errors.New("boom")
	err := p.File("avatars", "x", io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), iotest.ErrReader(boom)))
	require.ErrorIs(t, err, boom)
	require.NoError(t, p.Record("orders", []string{"id"}, []any{2}))
	require.EqualValues(t, 2, p.Records())
	require.NoError(t, p.Close())
	_, files := b.assemble(t)
	require.JSONEq(t, `[{"id":1},{"id":2}]`, files["data/shop/orders.json"])
	require.NotContains(t, files, "files/shop/avatars/x")
}

func TestColumnsMayNotChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.part(t, "shop")
	defer p.Close()
	require.NoError(t, p.Record("orders", []string{"id"}, []any{1}))
	require.True(t, connectors.IsPermanent(p.Record("orders", []string{"id", "x"}, []any{1, 2})))
	require.True(t, connectors.IsPermanent(p.Record("orders", []string{"id"}, []any{1, 2})))
}

func TestAssembleCanBeRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.part(t, "shop")
	require.NoError(t, p.Record("orders", []string{"id"}, []any{1}))
	require.NoError(t, p.Close())

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.store.Assemble(cancelled, b.spec)
	require.ErrorIs(t, err, context.Canceled)

	orphan := filepath.Join(b.dir, "packages", "req_1.zip.sealed.123.tmp") // of a worker that died
	require.NoError(t, os.WriteFile(orphan, []byte("x"), 0o600))
	first, files := b.assemble(t)
	b.spec.Now = b.spec.Now.Add(time.Hour)
	second, again := b.assemble(t) // its parts are gone
	require.Empty(t, cmp.Diff(first, second))
	require.Equal(t, files, again)
	left, err := os.ReadDir(filepath.Join(b.dir, "packages"))
	require.NoError(t, err)
	require.Len(t, left, 2, "no temporary file stays")

	// exported again: the new parts count
	p = b.part(t, "shop")
	require.NoError(t, p.Record("orders", []string{"id"}, []any{2}))
	require.NoError(t, p.Close())
	_, again = b.assemble(t)
	require.JSONEq(t, `[{"id":2}]`, again["data/shop/orders.json"])

	require.NoError(t, b.store.Remove(first))
	require.NoError(t, b.store.Remove(first))
	_, err = b.store.Open(first, b.key)
	require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err))
}

func TestAnIncompleteStatementKeepsTheRequestOpen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	text := strings.Replace(mapText, "  source: From you.\n", "", 1)
	text = strings.Replace(text, "  transfers: {not_applicable: true}\n", "", 1)
	b.spec.Map = &engine.StoredMap{YAML: []byte(text)}
	_, err := b.store.Assemble(t.Context(), b.spec)
	require.True(t, connectors.IsPermanent(err))
	require.Equal(t, accesspackage.CodeArt15Incomplete, dsr.CodeOf(err))
	require.ErrorContains(t, err, "source, transfers")
}

func TestWhatIsOnDiskIsSealedAndBound(t *testing.T) {
	t.Parallel()
	const canary = "canary-value-4711"
	b := setup(t)
	p := b.part(t, "shop")
	require.NoError(t, p.Record("orders", []string{"note"}, []any{canary}))
	require.NoError(t, p.File("avatars", canary, strings.NewReader(canary)))
	require.NoError(t, p.Close())
	grep := func() {
		require.NoError(t, filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
			require.NoError(t, err)
			require.NotContains(t, path, canary)
			if !d.IsDir() {
				body, err := os.ReadFile(path)
				require.NoError(t, err)
				require.NotContains(t, string(body), canary)
				info, err := d.Info()
				require.NoError(t, err)
				require.Zero(t, info.Mode().Perm()&0o077, path)
			}
			return nil
		}))
	}
	grep()
	// a part does not open as another Request's
	require.NoError(t, os.MkdirAll(filepath.Join(b.dir, "staging", "req_2"), 0o700))
	body, err := os.ReadFile(filepath.Join(b.dir, "staging", "req_1", "shop.part"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "staging", "req_2", "shop.part"), body, 0o600))
	_, err = b.store.OpenPart("req_2", "shop", b.key)
	require.True(t, connectors.IsPermanent(err))
	require.NoError(t, b.store.Discard("req_2"))

	pkg, _ := b.assemble(t)
	grep()
	pkg.Request = "req_2"
	r, err := b.store.Open(pkg, b.key)
	if err == nil {
		_, err = io.ReadAll(r)
	}
	require.Error(t, err)
	pkg.Path = "../../etc/passwd"
	_, err = b.store.Open(pkg, b.key)
	require.Equal(t, dsr.CodeInvalid, dsr.CodeOf(err))
}

func TestLargeEntitiesAreShownInPart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.part(t, "shop")
	for e := range 60 {
		for i := range 150 {
			require.NoError(t, p.Record(fmt.Sprintf("e%02d", e), []string{"id", "long"}, []any{i, strings.Repeat("ö", 400)}))
		}
	}
	require.NoError(t, p.Close())
	_, files := b.assemble(t)
	index := files["index.html"]
	require.Equal(t, 5000, strings.Count(index, `<tr class="record">`))
	require.Contains(t, index, "The first 100 of 150 records.")
	require.Contains(t, index, "Too many records to show here.")
	require.Contains(t, index, "<td>"+strings.Repeat("ö", 300)+"…</td>")
}
