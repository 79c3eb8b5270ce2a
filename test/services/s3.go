package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/lethe-gdpr/lethe/internal/dbtest/servers"
	"github.com/lethe-gdpr/lethe/internal/s3server"
)

// The account of the tests' S3 server, which listens on loopback and goes with the tests.
const s3Access, s3Secret = "lethe", "lethe-tests"

type s3 struct{}

func (s3) Variable() string { return "LETHE_TEST_S3_URL" }

func (s3) Install(context.Context) error { return nil }

func (s3) Start(ctx context.Context, parent string, _ ...string) (string, func(), error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	port, err := servers.FreePort()
	if err != nil {
		return "", nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	cmd := exec.Command(self, "-s3", filepath.Join(parent, "s3"), "-listen", address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	stop, err := servers.Daemon(ctx, cmd, syscall.SIGTERM, func() error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	})
	return fmt.Sprintf("http://%s:%s@%s", s3Access, s3Secret, address), stop, err
}

func serveS3(ctx context.Context, dir, listen string) error {
	return s3server.Serve(ctx, s3server.Options{Dir: dir, Listen: listen, AccessKey: s3Access, Secret: s3Secret})
}
