// Package e2e runs the binary as a user does: each script in testdata is a session on a shell. Scripts in all run
// with the target on each database that Lethe knows.
package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/glebarez/go-sqlite"
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	_ "github.com/lethe-gdpr/lethe/client" // like app and demo: the binary's parts, so that a change of one runs this test again
	_ "github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	_ "github.com/lethe-gdpr/lethe/internal/demo"
)

// binary is lethe as it is shipped: static.
func binary(t *testing.T) string {
	t.Helper()
	sources, err := filepath.Glob("../../cmd/lethe/*.go")
	require.NoError(t, err)
	for _, s := range sources { // go test runs a cached test again when a file that it read has changed
		_, err := os.ReadFile(s)
		require.NoError(t, err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "lethe"), "../../cmd/lethe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return dir
}

func TestScripts(t *testing.T) {
	t.Parallel()
	bin := binary(t)
	type fresh func(testing.TB) string // a database
	for _, set := range []struct {
		name, dir       string
		control, target fresh
	}{
		{"SQLite", "testdata/all", dbtest.SQLite, dbtest.SQLite},
		{"PostgreSQL", "testdata/all", dbtest.Postgres, dbtest.Postgres},
		{"MariaDB", "testdata/all", dbtest.SQLite, dbtest.MariaDB},
		{"embedded", "testdata/embedded", dbtest.SQLite, dbtest.SQLite},
		{"split", "testdata/postgres", dbtest.Postgres, dbtest.Postgres},
	} {
		t.Run(set.name, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Dir:                 set.dir,
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Setup: func(e *testscript.Env) error {
					port, err := freePort()
					if err != nil {
						return err
					}
					target := set.target(t)
					kind, _, _ := strings.Cut(target, ":")
					if kind == "mysql" { // the scheme of both
						kind = "mariadb"
					}
					e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
					e.Setenv("CONTROL", set.control(t))
					e.Setenv("TARGET", target)
					e.Setenv("KIND", kind)
					e.Setenv("LETHE_LISTEN", "127.0.0.1:"+strconv.Itoa(port))
					e.Setenv("LETHE_SERVER", "http://127.0.0.1:"+strconv.Itoa(port))
					e.Setenv("LETHE_LOG_LEVEL", "warn")
					e.Setenv("HOME", e.WorkDir)
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"exits": exits, "ready": ready, "sql": runSQL, "capture": capture, "expand": expand, "source": source, "becomes": becomes,
				},
			})
		})
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// exits CODE command… runs a command, which must end with that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s ended with %d, not %d", strings.Join(args[1:], " "), got, want)
	}
}

// ready waits until the server answers that it can work, or another path answers: ready [PATH].
func ready(ts *testscript.TestScript, _ bool, args []string) {
	path := "/readyz"
	if len(args) == 1 {
		path = args[0]
	}
	url := ts.Getenv("LETHE_SERVER") + path
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		ts.Check(err)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("the server is not ready")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// target opens the target database.
func target(ts *testscript.TestScript) *sql.DB {
	driver, dsn := "pgx", ts.Getenv("TARGET")
	if path, ok := strings.CutPrefix(dsn, "sqlite://"); ok {
		driver, dsn = "sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)"
	} else if strings.HasPrefix(dsn, "mysql://") {
		driver, dsn = "mysql", dbtest.MySQLDSN(dsn)
	}
	db, err := sql.Open(driver, dsn)
	ts.Check(err)
	return db
}

// runSQL runs statements of a file in the target, or compares the one value of a query: sql FILE, sql VALUE QUERY.
func runSQL(ts *testscript.TestScript, _ bool, args []string) {
	db := target(ts)
	defer db.Close()
	switch len(args) {
	case 1:
		for s := range strings.SplitSeq(ts.ReadFile(args[0]), ";\n") {
			if strings.TrimSpace(s) != "" {
				_, err := db.Exec(s)
				ts.Check(err)
			}
		}
	case 2:
		if got := value(ts, db, args[1]); got != args[0] {
			ts.Fatalf("%s: %v, not %s", args[1], got, args[0])
		}
	default:
		ts.Fatalf("usage: sql FILE, or sql VALUE QUERY")
	}
}

func value(ts *testscript.TestScript, db *sql.DB, query string) string {
	var got any
	ts.Check(db.QueryRow(query).Scan(&got))
	return fmt.Sprint(got)
}

// becomes VALUE QUERY waits until the one value of a query in the target is that.
func becomes(ts *testscript.TestScript, _ bool, args []string) {
	db := target(ts)
	defer db.Close()
	for end := time.Now().Add(2 * time.Minute); value(ts, db, args[1]) != args[0]; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("%s does not become %s", args[1], args[0])
		}
	}
}

// capture VARIABLE PATTERN puts the first group of a pattern, found in the last standard output, into a variable.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) < 2 {
		ts.Fatalf("standard output does not match %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// expand FILE replaces $VARIABLES in a file.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), func(name string) string {
		if v := ts.Getenv(name); v != "" {
			return v
		}
		return "${" + name + "}"
	})
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// source FILE waits until a file of `export NAME='value'` lines is there and takes it into the environment.
func source(ts *testscript.TestScript, _ bool, args []string) {
	var text []byte
	for end := time.Now().Add(time.Minute); len(text) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("%s is not there", args[0])
		}
		text, _ = os.ReadFile(ts.MkAbs(args[0]))
	}
	for _, m := range regexp.MustCompile(`(\w+)='([^']*)'`).FindAllStringSubmatch(string(text), -1) {
		ts.Setenv(m[1], m[2])
	}
}
