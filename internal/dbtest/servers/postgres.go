package servers

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Postgres is PostgreSQL.
type Postgres struct{}

// Variable is the environment variable that carries its URL.
func (Postgres) Variable() string { return "LETHE_TEST_POSTGRES_URL" }

func (Postgres) program(name string) string {
	return Find("/usr/lib/postgresql/*/bin/"+name, name)
}

// Install makes the server's programs available; it does nothing when they are.
func (p Postgres) Install(ctx context.Context) error {
	if p.program("initdb") != "" {
		return nil
	}
	return AptInstall(ctx, "postgresql")
}

// Start runs a new server with its files under parent. Settings are of the form name=value and win over the tests' own.
func (p Postgres) Start(ctx context.Context, parent string, settings ...string) (url string, stop func(), err error) {
	dir, attr, err := privateDir(parent, "postgres", "postgres")
	if err != nil {
		return "", nil, err
	}
	err = runTool(exec.CommandContext(ctx, p.program("initdb"), "-D", dir+"/data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--locale=C.UTF-8", "--no-sync"), dir, attr)
	if err != nil {
		return "", nil, err
	}
	return p.serve(ctx, dir, attr, settings)
}

// Replicate runs a standby of the server at primary, by streaming replication, with its files under parent. The primary
// sees it by the name standby.
func (p Postgres) Replicate(ctx context.Context, primary, parent string, settings ...string) (url string, stop func(), err error) {
	dir, attr, err := privateDir(parent, "standby", "postgres")
	if err != nil {
		return "", nil, err
	}
	from, err := pgx.ParseConfig(primary)
	if err != nil {
		return "", nil, err
	}
	source := fmt.Sprintf("host=%s port=%d user=%s application_name=standby", from.Host, from.Port, from.User)
	err = runTool(exec.CommandContext(ctx, p.program("pg_basebackup"), "-D", dir+"/data", "-d", source, "-R", "-X", "stream",
		"-c", "fast", "--no-sync"), dir, attr)
	if err != nil {
		return "", nil, err
	}
	return p.serve(ctx, dir, attr, settings)
}

// serve runs the server of a data folder.
func (p Postgres) serve(ctx context.Context, dir string, attr *syscall.SysProcAttr, settings []string) (url string, stop func(), err error) {
	port, err := FreePort()
	if err != nil {
		return "", nil, err
	}
	args := []string{"-D", dir + "/data", "-k", dir, "-h", "127.0.0.1", "-p", strconv.Itoa(port)}
	for _, s := range append([]string{
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300", "shared_buffers=512MB",
		"max_wal_size=4GB", "wal_level=logical",
	}, settings...) {
		args = append(args, "-c", s)
	}
	cmd := exec.Command(p.program("postgres"), args...)
	cmd.SysProcAttr, cmd.Dir = attr, dir
	url = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	stop, err = Daemon(ctx, cmd, syscall.SIGINT, func() error {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
	return url, stop, err
}
