// Package servers installs and runs the database servers of tests, on free loopback ports in private folders, without
// systemd or Docker. Only tests and their tools import it.
package servers

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// AptInstall installs Debian packages, as root or through sudo.
func AptInstall(ctx context.Context, packages ...string) error {
	var sudo []string
	if os.Geteuid() != 0 {
		sudo = []string{"sudo", "-n"}
	}
	for _, args := range [][]string{
		{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "update", "-qq"},
		append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"}, packages...),
	} {
		args = append(append([]string{}, sudo...), args...)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("install %v: %w: %s", packages, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// Find returns the first program among the patterns, looked up on PATH or by glob; newest version last in a glob.
func Find(patterns ...string) string {
	for _, p := range patterns {
		if !filepath.IsAbs(p) {
			if path, err := exec.LookPath(p); err == nil {
				return path
			}
			continue
		}
		if found, _ := filepath.Glob(p); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	return ""
}

// FreePort returns a loopback port that was free a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// privateDir makes a folder that belongs to the account, which both servers want: neither runs as root.
func privateDir(parent, name, account string) (dir string, attr *syscall.SysProcAttr, err error) {
	dir = filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, err
	}
	// A child that outlives this program would be a leak: the kernel stops it with us.
	attr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if os.Geteuid() != 0 {
		return dir, attr, nil
	}
	u, err := user.Lookup(account)
	if err != nil {
		return "", nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return dir, attr, os.Chown(dir, uid, gid)
}

// runTool runs a program of a server's to its end.
func runTool(cmd *exec.Cmd, dir string, attr *syscall.SysProcAttr) error {
	cmd.Dir, cmd.SysProcAttr = dir, attr
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, out)
	}
	return nil
}

// Daemon runs a server and waits until ready succeeds.
func Daemon(ctx context.Context, cmd *exec.Cmd, stopSignal syscall.Signal, ready func() error) (stop func(), err error) {
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	stop = func() {
		_ = cmd.Process.Signal(stopSignal)
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
	}
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := ready()
		if err == nil {
			return stop, nil
		}
		select {
		case <-exited:
			return nil, fmt.Errorf("%s ended: %s", filepath.Base(cmd.Path), log.Bytes())
		case <-ctx.Done():
			stop()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			stop()
			return nil, fmt.Errorf("%s is not ready after a minute: %w", filepath.Base(cmd.Path), err)
		}
	}
}
