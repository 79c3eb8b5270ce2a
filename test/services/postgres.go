package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

type postgres struct{}

func (postgres) variable() string { return "LETHE_TEST_POSTGRES_URL" }

func (postgres) program(name string) string {
	return find("/usr/lib/postgresql/*/bin/"+name, name)
}

func (p postgres) install(ctx context.Context) error {
	if p.program("initdb") != "" {
		return nil
	}
	return aptInstall(ctx, "postgresql")
}

func (p postgres) start(ctx context.Context, parent string) (string, func(), error) {
	dir, attr, err := privateDir(parent, "postgres", "postgres")
	if err != nil {
		return "", nil, err
	}
	data := dir + "/data"
	initdb := exec.CommandContext(ctx, p.program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--locale=C.UTF-8", "--no-sync")
	initdb.SysProcAttr = attr
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(p.program("postgres"), "-D", data, "-k", dir, "-h", "127.0.0.1", "-p", strconv.Itoa(port),
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
		"-c", "max_connections=300", "-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB", "-c", "wal_level=logical")
	cmd.SysProcAttr, cmd.Dir = attr, dir
	url := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	stop, err := daemon(ctx, cmd, syscall.SIGINT, func() error {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
	return url, stop, err
}
