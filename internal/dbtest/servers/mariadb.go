package servers

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	_ "github.com/go-sql-driver/mysql"
)

// MariaDB is MariaDB.
type MariaDB struct{}

// Variable is the environment variable that carries its URL.
func (MariaDB) Variable() string { return "LETHE_TEST_MARIADB_URL" }

func (MariaDB) server() string {
	return Find("mariadbd", "mysqld", "/usr/sbin/mariadbd", "/usr/sbin/mysqld")
}

// Install makes the server's programs available; it does nothing when they are.
func (m MariaDB) Install(ctx context.Context) error {
	if m.server() != "" && Find("mariadb-install-db", "mysql_install_db") != "" {
		return nil
	}
	return AptInstall(ctx, "mariadb-server")
}

// Start runs a new server with its files under parent. Options win over the tests' own.
func (m MariaDB) Start(ctx context.Context, parent string, options ...string) (url string, stop func(), err error) {
	return m.start(ctx, parent, "mariadb", options)
}

// Replicate runs a replica of the server at primary with its files under parent. The primary must write a binary log,
// and what its log holds is all that the replica will have.
func (m MariaDB) Replicate(ctx context.Context, primary, parent string, options ...string) (url string, stop func(), err error) {
	url, stop, err = m.start(ctx, parent, "replica", append([]string{"--server-id=2"}, options...))
	if err != nil {
		return "", nil, err
	}
	db, err := m.open(url)
	if err != nil {
		stop()
		return "", nil, err
	}
	defer db.Close()
	var port int
	if _, err = fmt.Sscanf(primary, "mysql://lethe:lethe@127.0.0.1:%d/", &port); err == nil {
		_, err = db.ExecContext(ctx, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='lethe', "+
			"MASTER_PASSWORD='lethe', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1", port))
	}
	if err == nil {
		_, err = db.ExecContext(ctx, "START SLAVE")
	}
	if err != nil {
		stop()
		return "", nil, err
	}
	return url, stop, nil
}

func (m MariaDB) open(url string) (*sql.DB, error) {
	var port int
	if _, err := fmt.Sscanf(url, "mysql://lethe:lethe@127.0.0.1:%d/", &port); err != nil {
		return nil, err
	}
	return sql.Open("mysql", fmt.Sprintf("lethe:lethe@tcp(127.0.0.1:%d)/", port))
}

func (m MariaDB) start(ctx context.Context, parent, name string, options []string) (url string, stop func(), err error) {
	dir, attr, err := privateDir(parent, name, "mysql")
	if err != nil {
		return "", nil, err
	}
	err = runTool(exec.CommandContext(ctx, Find("mariadb-install-db", "mysql_install_db"), "--no-defaults", "--datadir="+dir+"/data",
		"--tmpdir="+dir, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"), dir, attr)
	if err != nil {
		return "", nil, err
	}
	// root@localhost cannot come in over TCP without name resolution: an account of the tests' own can. It is not for
	// replicas, which have it already.
	boot := dir + "/init.sql"
	grant := "SET SESSION sql_log_bin = 0;\nCREATE USER IF NOT EXISTS 'lethe'@'127.0.0.1' IDENTIFIED BY 'lethe';\n" +
		"GRANT ALL PRIVILEGES ON *.* TO 'lethe'@'127.0.0.1' WITH GRANT OPTION;\n"
	if err := os.WriteFile(boot, []byte(grant), 0o644); err != nil {
		return "", nil, err
	}
	port, err := FreePort()
	if err != nil {
		return "", nil, err
	}
	// A folder for temporary tables of its own: a server that starts removes those that it finds, another one's too.
	cmd := exec.Command(m.server(), append([]string{
		"--no-defaults", "--datadir=" + dir + "/data", "--tmpdir=" + dir, "--socket=" + dir + "/mysqld.sock",
		"--pid-file=" + dir + "/mysqld.pid", "--bind-address=127.0.0.1", "--port=" + strconv.Itoa(port),
		"--skip-name-resolve", "--init-file=" + boot, "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=2G",
		"--innodb-log-file-size=2G", "--innodb-purge-threads=1", "--max-connections=300", "--character-set-server=utf8mb4", "--skip-log-bin",
	}, options...)...)
	cmd.SysProcAttr, cmd.Dir = attr, dir
	url = fmt.Sprintf("mysql://lethe:lethe@127.0.0.1:%d/", port)
	stop, err = Daemon(ctx, cmd, syscall.SIGTERM, func() error {
		db, err := m.open(url)
		if err != nil {
			return err
		}
		defer db.Close()
		return db.PingContext(ctx)
	})
	return url, stop, err
}
