package dbtest

import (
	"context"
	"os"
	"testing"

	"github.com/lethe-gdpr/lethe/internal/dbtest/servers"
)

// PostgresReplica returns the URLs of a PostgreSQL server of the test's own and of its standby, by streaming
// replication. Both stop when the test ends.
func PostgresReplica(t testing.TB) (primary, replica string) {
	t.Helper()
	small := []string{"shared_buffers=32MB", "max_connections=50"}
	return replicated(t, servers.Postgres{}, small, small)
}

// MariaDBReplica returns the URLs of a MariaDB server of the test's own and of its replica, without a database name.
// Both stop when the test ends.
func MariaDBReplica(t testing.TB) (primary, replica string) {
	t.Helper()
	small := []string{"--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--max-connections=50"}
	return replicated(t, servers.MariaDB{}, append(small, "--log-bin=binlog", "--server-id=1"), small)
}

func replicated(t testing.TB, s interface {
	Install(ctx context.Context) error
	Start(ctx context.Context, parent string, settings ...string) (string, func(), error)
	Replicate(ctx context.Context, primary, parent string, settings ...string) (string, func(), error)
}, first, second []string,
) (primary, replica string) {
	t.Helper()
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "lethe-replica-") // short, for the servers' sockets, and open to their accounts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Install(ctx); err != nil {
		t.Fatal(err)
	}
	primary, stop, err := s.Start(ctx, dir, first...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	replica, stop, err = s.Replicate(ctx, primary, dir, second...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return primary, replica
}
