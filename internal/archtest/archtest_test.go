// Package archtest holds the table of who may import whom (docs/ARCHITECTURE.md). It fails when an import breaks the
// table, and when a package is missing from it.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/lethe-gdpr/lethe/"

// anything allows every import of ours.
var anything = []string{"..."}

// table lists what of ours each package may import. A row that ends in /... covers the folder and what is below it.
var table = []struct {
	pkg  string
	may  []string
	only string // the only packages that may import it besides its own tests; empty is everyone
}{
	{pkg: "dsr"},
	{pkg: "retention", may: []string{"dsr"}},
	{pkg: "mask", may: []string{"dsr"}},
	{pkg: "connectors", may: []string{"dsr", "retention", "mask"}},
	{pkg: "connectors/records/inflate"},
	{pkg: "connectors/records", may: []string{"connectors", "connectors/records/inflate", "dsr", "retention", "mask"}},
	{pkg: "connectors/connectortest", may: []string{"connectors", "dsr", "retention", "mask"}},
	{pkg: "connectors/arn"},
	{pkg: "connectors/...", may: []string{"connectors", "connectors/records", "connectors/arn", "dsr", "retention", "mask"}},
	{pkg: "migrations"},
	{pkg: "client"},
	{pkg: "internal/identifier", may: []string{"dsr"}},
	{pkg: "internal/holidays", may: []string{"dsr"}},
	{pkg: "internal/datamap/...", may: []string{"connectors", "mask", "dsr", "retention", "internal/datamap"}},
	{pkg: "internal/ledger", may: []string{"dsr", "retention"}},
	{pkg: "internal/keys", may: []string{"dsr", "retention", "mask", "internal/engine"}},
	{pkg: "internal/auth", may: []string{"dsr", "retention"}},
	{pkg: "internal/auth/authtest", may: []string{"dsr", "internal/auth"}, only: "-"},
	{
		pkg: "internal/engine",
		may: []string{
			"dsr", "retention", "mask", "connectors", "internal/datamap", "internal/ledger", "internal/identifier",
			"internal/holidays",
		},
	},
	{
		pkg: "internal/accesspackage",
		may: []string{"dsr", "retention", "mask", "connectors", "internal/engine", "internal/datamap"},
	},
	{
		pkg: "internal/store/...",
		may: []string{
			"dsr", "retention", "connectors", "migrations", "internal/ledger", "internal/engine", "internal/auth", "api",
			"internal/store",
		},
	},
	{pkg: "jobs", may: []string{"dsr", "retention", "internal/engine"}},
	{pkg: "api/...", may: []string{"dsr", "retention", "connectors", "internal/engine", "internal/auth", "api/gen"}},
	{pkg: "internal/config", may: []string{"dsr"}, only: "internal/app internal/demo cmd/lethe bench/..."},
	{pkg: "internal/telemetry", may: []string{"dsr", "internal/engine"}},
	{pkg: "internal/app", may: anything, only: "cmd/lethe internal/demo bench/..."},
	{pkg: "internal/demo", may: anything, only: "cmd/lethe"},
	{pkg: "cmd/lethe", may: anything},
	{pkg: "internal/s3server", only: "cmd/lethe internal/demo test/..."},
	{pkg: "internal/cloudwatchserver", only: "cmd/lethe internal/demo"},
	{pkg: "internal/dbtest", may: []string{"internal/dbtest/servers"}, only: "-"},
	{pkg: "internal/dbtest/servers", only: "internal/dbtest test/services"},
	{pkg: "internal/archtest"},
	{pkg: "test/...", may: anything},
	{pkg: "bench/...", may: anything},
}

// external lists which packages may import what others wrote.
var external = map[string]string{
	"gorm.io/":                         "internal/store",
	"github.com/glebarez/sqlite":       "internal/store",
	"github.com/riverqueue/":           "internal/store jobs internal/app",
	"github.com/gin-gonic/":            "api/... internal/web",
	"github.com/aws/":                  "connectors/... internal/keys internal/dbtest internal/demo",
	"github.com/tink-crypto/":          "internal/keys",
	"github.com/spf13/cobra":           "cmd/lethe",
	"github.com/versity/":              "internal/s3server",
	"github.com/prometheus/":           "internal/telemetry internal/app",
	"github.com/rickar/cal":            "internal/holidays",
	"go.yaml.in/yaml":                  "internal/datamap/... internal/config",
	"modernc.org/sqlite":               "", // a second SQLite driver beside glebarez's panics
	"github.com/stretchr/testify":      "connectors/connectortest internal/store/storetest internal/auth/authtest",
	"github.com/lethe-gdpr/lethe/test": "",
}

type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else {
			require.NoError(t, err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		all = append(all, p)
	}
}

func TestImportsKeepToTheTable(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		row := -1
		for i := range table {
			if matches(table[i].pkg, p.ImportPath) && (row < 0 || table[i].pkg == p.ImportPath) {
				row = i
			}
		}
		if row < 0 {
			t.Errorf("%s is missing from the table", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			ours, ok := strings.CutPrefix(imp, module)
			if !ok {
				checkExternal(t, p.ImportPath, imp)
				continue
			}
			if !allowed(table[row].may, ours) {
				t.Errorf("%s may not import %s", p.ImportPath, ours)
			}
			for _, r := range table {
				if r.only != "" && r.pkg == ours && !anyMatches(r.only, p.ImportPath) {
					t.Errorf("%s may be imported only by %s, not by %s", ours, r.only, p.ImportPath)
				}
			}
		}
	}
}

func checkExternal(t *testing.T, pkg, imp string) {
	t.Helper()
	for prefix, who := range external {
		if strings.HasPrefix(imp, prefix) && !anyMatches(who, pkg) {
			t.Errorf("%s may be imported only by %q, not by %s", imp, who, pkg)
		}
	}
}

func allowed(may []string, pkg string) bool {
	for _, m := range may {
		if m == "..." || m == pkg || m == "internal/store" && path.Dir(pkg) == m {
			return true
		}
	}
	return false
}

func anyMatches(patterns, pkg string) bool {
	for _, p := range strings.Fields(patterns) {
		if matches(p, pkg) {
			return true
		}
	}
	return false
}

func matches(pattern, pkg string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pattern == pkg
}
