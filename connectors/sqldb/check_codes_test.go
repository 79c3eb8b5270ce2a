package sqldb

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// findCodes are the values of this package's constants Find…, and of those of connectors that it names.
func findCodes(t *testing.T) []string {
	t.Helper()
	shared := map[string]string{}
	inEach(t, "../codes.go", func(n ast.Node) {
		if v, ok := n.(*ast.ValueSpec); ok {
			shared[v.Names[0].Name] = valueOf(t, v)
		}
	})
	codes := map[string]bool{}
	inEach(t, "*.go", func(n ast.Node) {
		switch v := n.(type) {
		case *ast.ValueSpec:
			if strings.HasPrefix(v.Names[0].Name, "Find") {
				codes[valueOf(t, v)] = true
			}
		case *ast.SelectorExpr:
			if x, ok := v.X.(*ast.Ident); ok && x.Name == "connectors" && shared[v.Sel.Name] != "" {
				codes[shared[v.Sel.Name]] = true
			}
		}
	})
	return slices.Sorted(maps.Keys(codes))
}

// inEach visits the syntax of the files that a pattern names.
func inEach(t *testing.T, pattern string, fn func(ast.Node)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool { fn(n); return true })
	}
}

func valueOf(t *testing.T, v *ast.ValueSpec) string {
	t.Helper()
	code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
	require.NoError(t, err)
	return code
}

// Every code has a defect that yields it and a line in docs/DATAMAP.md with the severities that the defects have.
func TestEveryCodeHasADefectAndALine(t *testing.T) {
	t.Parallel()
	severities := map[string]string{
		FindUnusableMap: "error",   // what no other code names, so that there is no known defect
		FindLagUnseen:   "warning", // of the pace, not of the map: see sweep_replica_test.go
		FindLoadUnseen:  "warning",
	}
	add := func(code, severity string) {
		switch severities[code] {
		case "", severity:
			severities[code] = severity
		default:
			severities[code] = "error or warning"
		}
	}
	for _, d := range slices.Concat(defects, ruleDefects) {
		if d.warn {
			add(d.code, "warning")
		} else {
			add(d.code, "error")
		}
	}
	for _, d := range serverDefects {
		add(d.code, "error")
	}
	page, err := os.ReadFile("../../docs/DATAMAP.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "## What `lethe check` finds")
	require.True(t, ok)
	lines := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([a-z ]+) \\| .+ \\|$").FindAllStringSubmatch(section, -1) {
		lines[m[1]] = m[2]
	}
	require.Equal(t, severities, lines)
	var listed []string
	for code := range severities {
		listed = append(listed, code)
	}
	slices.Sort(listed)
	require.Equal(t, findCodes(t), listed)
}
