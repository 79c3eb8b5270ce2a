// Command services starts the databases and the S3 server that the tests need, runs a command with their URLs in its environment, and
// stops what it started:
//
//	go run ./test/services -- go test ./...
//
// It finds PostgreSQL, MariaDB and Chromium on the machine or installs Debian's packages (as root, or through sudo), and
// runs the servers on free loopback ports in a private folder, without systemd or Docker. A URL that the environment already
// gives (LETHE_TEST_POSTGRES_URL, LETHE_TEST_MARIADB_URL, LETHE_TEST_S3_URL) is used instead. The S3 server is part of
// this program, which runs itself again with -s3 DIR for it. With -env FILE it writes the URLs as export
// lines and stays up until it is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/lethe-gdpr/lethe/internal/dbtest/servers"
)

// service is one server that tests use.
type service interface {
	// Variable is the environment variable that carries its URL.
	Variable() string
	// Install makes the server's programs available; it does nothing when they are.
	Install(ctx context.Context) error
	// Start runs the server with its files under dir and returns its URL and a function that stops it.
	Start(ctx context.Context, dir string, settings ...string) (url string, stop func(), err error)
}

func main() {
	env := flag.String("env", "", "write export lines to `FILE` and stay up until interrupted")
	objects := flag.String("s3", "", "be the S3 server that keeps its objects in `DIR`, at the address -listen")
	listen := flag.String("listen", "", "address of -s3")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	var code int
	var err error
	if *objects != "" {
		err = serveS3(ctx, *objects, *listen)
	} else {
		code, err = run(ctx, *env, flag.Args())
	}
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, env string, command []string) (code int, err error) {
	if env == "" && len(command) == 0 {
		return 2, errors.New("give a command after --, or -env FILE")
	}
	dir, err := os.MkdirTemp("", "lethe-services-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // servers run as other users below it
		return 1, err
	}
	if servers.Find("chromium") == "" { // the pages of an access package are opened in a real browser
		if err := servers.AptInstall(ctx, "chromium"); err != nil {
			return 1, err
		}
	}
	var vars []string
	for _, s := range []service{servers.Postgres{}, servers.MariaDB{}, s3{}} {
		if url := os.Getenv(s.Variable()); url != "" {
			vars = append(vars, s.Variable()+"="+url)
			continue
		}
		if err := s.Install(ctx); err != nil {
			return 1, err
		}
		url, stop, err := s.Start(ctx, dir)
		if err != nil {
			return 1, err
		}
		defer stop()
		vars = append(vars, s.Variable()+"="+url)
	}
	if env != "" {
		var b strings.Builder
		for _, v := range vars {
			name, value, _ := strings.Cut(v, "=")
			fmt.Fprintf(&b, "export %s='%s'\n", name, value)
		}
		if err := os.WriteFile(env, []byte(b.String()), 0o600); err != nil {
			return 1, err
		}
		defer os.Remove(env)
		<-ctx.Done()
		return 0, nil
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), append(vars, "LETHE_TEST_REQUIRE=1")...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	} else if err != nil {
		return 1, err
	}
	return 0, nil
}
