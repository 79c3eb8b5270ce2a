package accesspackage_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
)

// browse opens a page in Chromium and returns its DOM and the addresses that were asked for.
func browse(t *testing.T, page string) (dom string, asked []string) {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		const msg = "chromium is not installed; `make test` installs it"
		if os.Getenv("CI") != "" || os.Getenv("LETHE_TEST_REQUIRE") != "" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	log := filepath.Join(t.TempDir(), "net.json")
	cmd := exec.CommandContext(
		t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
		"--user-data-dir="+t.TempDir(), "--log-net-log="+log, "--dump-dom", "file://"+page,
	)
	out, err := cmd.Output()
	require.NoError(t, err)
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`"url":"([a-z]+://[^"]*)"`).FindAllStringSubmatch(string(b), -1) {
		asked = append(asked, m[1])
	}
	return string(out), asked
}

func TestTheIndexOpensOffline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.part(t, "shop")
	for _, word := range []string{"Alpha", "Beta", "Gamma"} {
		require.NoError(t, p.Record("orders", []string{"note"}, []any{"Note " + word + " <img src=http://127.0.0.1:9/x>"}))
	}
	require.NoError(t, p.File("avatars", "x.png", strings.NewReader("x")))
	require.NoError(t, p.Withheld("orders", 1, dsr.Exception{Article: "15(4)"}))
	require.NoError(t, p.Close())
	_, files := b.assemble(t)
	dir := t.TempDir()
	for name, body := range files {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600))
	}

	for _, page := range []string{"index.html", "withheld.html", "art15.html"} {
		dom, asked := browse(t, filepath.Join(dir, page))
		require.Contains(t, dom, `<html lang="en">`)
		require.Empty(t, remote(asked), page)
	}
	dom, _ := browse(t, filepath.Join(dir, "index.html"))
	require.Contains(t, dom, `id="search" role="search">`, "the script did not run under the page's own policy")

	// the search, driven by a script, in a copy of the page without its policy
	drive := `<script>field.value = 'beta NOTE'; field.dispatchEvent(new Event('input'));</script></body>`
	open := regexp.MustCompile(`<meta http-equiv=[^>]*>`).ReplaceAllString(files["index.html"], "")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "driven.html"), []byte(strings.Replace(open, "</body>", drive, 1)), 0o600))
	dom, _ = browse(t, filepath.Join(dir, "driven.html"))
	require.Equal(t, 2, strings.Count(dom, `<tr class="record" hidden="">`))
	require.Contains(t, dom, `>Records shown: 1</p>`)
}

// TestARequestWouldBeSeen proves that the test above can fail.
func TestARequestWouldBeSeen(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	page := filepath.Join(t.TempDir(), "page.html")
	require.NoError(t, os.WriteFile(page, []byte(`<img src="`+s.URL+`/x.png">`), 0o600))
	_, asked := browse(t, page)
	require.Contains(t, remote(asked), s.URL+"/x.png")
}

// remote leaves out files and what Chromium asks its own makers for.
func remote(asked []string) []string {
	var out []string
	for _, a := range asked {
		u, err := url.Parse(a)
		own := err == nil && (strings.HasSuffix(u.Hostname(), ".google.com") || strings.HasSuffix(u.Hostname(), ".googleapis.com"))
		if !own && (strings.HasPrefix(a, "http") || strings.HasPrefix(a, "ws")) {
			out = append(out, a)
		}
	}
	return out
}
