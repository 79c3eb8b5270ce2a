package main

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

type mariadb struct{}

func (mariadb) variable() string { return "LETHE_TEST_MARIADB_URL" }

func (mariadb) server() string {
	return find("mariadbd", "mysqld", "/usr/sbin/mariadbd", "/usr/sbin/mysqld")
}

func (m mariadb) install(ctx context.Context) error {
	if m.server() != "" && find("mariadb-install-db", "mysql_install_db") != "" {
		return nil
	}
	return aptInstall(ctx, "mariadb-server")
}

func (m mariadb) start(ctx context.Context, parent string) (string, func(), error) {
	dir, attr, err := privateDir(parent, "mariadb", "mysql")
	if err != nil {
		return "", nil, err
	}
	data := dir + "/data"
	setup := exec.CommandContext(ctx, find("mariadb-install-db", "mysql_install_db"), "--no-defaults",
		"--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	setup.SysProcAttr, setup.Dir = attr, dir
	if out, err := setup.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("mariadb-install-db: %w: %s", err, out)
	}
	// root@localhost cannot come in over TCP without name resolution: an account of the tests' own can.
	boot := dir + "/init.sql"
	grant := "CREATE USER IF NOT EXISTS 'lethe'@'127.0.0.1' IDENTIFIED BY 'lethe';\n" +
		"GRANT ALL PRIVILEGES ON *.* TO 'lethe'@'127.0.0.1' WITH GRANT OPTION;\n"
	if err := os.WriteFile(boot, []byte(grant), 0o644); err != nil {
		return "", nil, err
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(m.server(), "--no-defaults", "--datadir="+data, "--socket="+dir+"/mysqld.sock",
		"--pid-file="+dir+"/mysqld.pid", "--bind-address=127.0.0.1", "--port="+strconv.Itoa(port),
		"--skip-name-resolve", "--init-file="+boot, "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=512M",
		"--innodb-log-file-size=512M", "--max-connections=300", "--character-set-server=utf8mb4", "--skip-log-bin")
	cmd.SysProcAttr, cmd.Dir = attr, dir
	stop, err := daemon(ctx, cmd, syscall.SIGTERM, func() error {
		db, err := sql.Open("mysql", fmt.Sprintf("lethe:lethe@tcp(127.0.0.1:%d)/", port))
		if err != nil {
			return err
		}
		defer db.Close()
		return db.PingContext(ctx)
	})
	return fmt.Sprintf("mysql://lethe:lethe@127.0.0.1:%d/", port), stop, err
}
