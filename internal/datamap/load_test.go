package datamap_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/mask"
)

var kinds = []connectors.Kind{{
	Name: "test",
	SystemKeys: []connectors.Setting{
		{Name: "dsn", Required: true, Secret: true, Type: "string", Doc: "URL of the database."},
		{Name: "port", Type: "integer", Doc: "TCP port."},
	},
	EntityKeys: []connectors.Setting{{Name: "objects", Type: "string", Doc: "Pattern of object keys."}},
}, {
	Name: "lake", Flat: true, Expires: true,
	EntityKeys: []connectors.Setting{{
		Name: "objects", Required: true, Type: "string", Doc: "Pattern of object keys.", Parse: braces,
	}},
}}

// braces returns what stands in braces, as a pattern with identifiers in it would.
func braces(value string) ([]string, error) {
	var names []string
	for {
		_, rest, ok := strings.Cut(value, "{")
		if !ok {
			return names, nil
		}
		name, rest, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, &dsr.Error{Code: dsr.CodeInvalid, Msg: "has a brace that is not closed", Hint: "write {user_id}"}
		}
		names, value = append(names, name), rest
	}
}

func env(name string) (string, bool) {
	v, ok := map[string]string{"SHOP_DSN": "test://canary-password@example.com/shop"}[name]
	return v, ok
}

func TestLoad(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/good/shop.yaml")
	require.NoError(t, err)
	m, err := datamap.Load(text, env, kinds)
	require.NoError(t, err)
	require.True(t, m.Instruction)
	require.Equal(t, "account_id", m.Tenants)
	require.Empty(t, m.Art15.Missing())
	require.Equal(t, "Europe/Stockholm", m.Controller.Zone.String())
	require.Contains(t, m.Categories(), "user.contact.email")

	shop := m.System("shop")
	require.NotNil(t, shop)
	require.Nil(t, m.System("elsewhere"))
	require.Equal(t, "test://canary-password@example.com/shop", shop.Settings["dsn"])
	require.Equal(t, connectors.Limits{
		RowsPerRequest: 100_000, ShareOfTable: 0.05, Connections: 4, Statement: 20 * time.Second, Lock: 500 * time.Millisecond,
	}, shop.Limits)
	require.Equal(t, []dsr.Copy{
		{What: "automated backups", Ends: "P35D"}, {What: "mail provider", Recipient: "Example Mail AB"},
	}, shop.Copies)
	require.Equal(t, time.Hour, shop.Window)

	orders := shop.Entity("sales.orders")
	require.Equal(t, "sales.orders", orders.From())
	require.Equal(t, dsr.Keep, orders.Erase)
	require.Equal(t, mask.Spec{Kind: mask.TruncateIP}, orders.Masks["ip"])
	require.Equal(t, mask.Spec{Kind: mask.Random}, shop.Entity("customers").Anchor["email"])
	require.Equal(t, mask.Spec{Kind: mask.Constant, Value: "Former customer"}, shop.Entity("customers").Anchor["name"])
	require.Equal(t, mask.Spec{Kind: mask.Null}, shop.Entity("messages").OnOwnerErased["sender_id"]["sender_id"])
	require.Equal(t, mask.Spec{Kind: mask.Constant, Value: "0"}, shop.Entity("comments").Masks["score"])
	require.Equal(t, []connectors.Owner{
		{Columns: []string{"target_id"}, Entity: "customers", When: &connectors.Discriminator{Column: "target_type", Value: "customer"}},
		{Columns: []string{"target_id"}, Entity: "sales.orders", When: &connectors.Discriminator{Column: "target_type", Value: "order"}},
	}, shop.Entity("comments").OwnedBy)
	require.Equal(t, []string{"account_id", "id"}, shop.Entity("comments").AccessedBy[0].References)
}

func TestOrderOfKeysDoesNotMatter(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/good/systems_first.yaml")
	require.NoError(t, err)
	_, err = datamap.Load(text, env, kinds)
	require.NoError(t, err)
}

// Every bad map is a file whose comments say what is expected: "# want LINE:COLUMN TEXT".
func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 25)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			_, err = datamap.Load(text, env, kinds)
			var faults datamap.Faults
			require.True(t, errors.As(err, &faults), "%v", err)
			require.NotContains(t, err.Error(), "canary")
			wants := 0
			for line := range strings.Lines(string(text)) {
				want, ok := strings.CutPrefix(line, "# want ")
				if !ok {
					continue
				}
				wants++
				place, msg, _ := strings.Cut(strings.TrimSpace(want), " ")
				row, column, _ := strings.Cut(place, ":")
				require.Contains(t, err.Error(), "line "+row+", column "+column+": ")
				require.Contains(t, err.Error(), msg)
			}
			require.Len(t, faults, wants, "%v", err)
		})
	}
}

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "dsn")
	require.NoError(t, os.WriteFile(file, []byte("test://from-file\n"), 0o600))
	text, err := os.ReadFile("testdata/good/shop.yaml")
	require.NoError(t, err)
	m, err := datamap.Load(text, func(name string) (string, bool) {
		return file, name == "SHOP_DSN_FILE"
	}, kinds)
	require.NoError(t, err)
	require.Equal(t, "test://from-file", m.System("shop").Settings["dsn"])
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := datamap.Load(text, env, kinds)
		var faults datamap.Faults
		if err != nil && (!errors.As(err, &faults) || len(faults) == 0) {
			t.Fatalf("not faults: %v", err)
		}
		if err == nil && len(m.Systems) == 0 {
			t.Fatal("a map without systems was accepted")
		}
	})
}

func TestFindings(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/good/shop.yaml")
	require.NoError(t, err)
	m, err := datamap.Load(text, env, kinds)
	require.NoError(t, err)
	require.Empty(t, m.Findings())
	m, err = datamap.Load([]byte(strings.Replace(string(text), "  complaint: Integritetsskyddsmyndigheten\n", "", 1)), env, kinds)
	require.NoError(t, err)
	require.Len(t, m.Findings(), 1)
	require.Equal(t, datamap.FindArt15, m.Findings()[0].Code)
	require.Contains(t, m.Findings()[0].Message, "complaint")
}
