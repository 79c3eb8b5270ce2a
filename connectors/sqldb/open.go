// Package sqldb is the connector of relational databases: PostgreSQL, MariaDB (MySQL speaks the same dialect) and
// SQLite. It deletes, masks and exports sets of rows along the ownership graph that the data map declares; see
// verbs in locate.go, erase.go, export.go and verify.go, and the graph in closure.go.
package sqldb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/rds/auth"
	_ "github.com/glebarez/go-sqlite" // the SQLite driver
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Defaults of [connectors.Limits].
const (
	defaultConnections = 4
	defaultStatement   = 30 * time.Second
	defaultLock        = 2 * time.Second
)

// DB is one database as the data map describes it. It connects at its first use.
type DB struct {
	System *connectors.System

	// SQL serves catalogue queries on every database.
	SQL *sql.DB
	// Pool is PostgreSQL's own pool, nil elsewhere. SQL draws from it, so that the cap on connections is one cap.
	Pool *pgxpool.Pool

	dialect    *dialect
	pseudonyms mask.Keyring
	now        func() time.Time
	pace       connectors.Pace
	replicas   []*DB // that are asked how far they are behind
	txRows     int   // rows that one transaction may change before the work is split
	perTx      int   // subjects that share a transaction
	countPages int64 // of a partition, between two looks at who waits for it
	familyRows int   // that a sweep decides together

	mu    sync.Mutex
	model *model // built at the first verb from the map and the catalogue
}

var (
	_ connectors.Connector = (*DB)(nil)
	_ connectors.Eraser    = (*DB)(nil)
	_ connectors.Exporter  = (*DB)(nil)
)

// Kinds are the connectors of this package.
func Kinds() []connectors.Kind {
	network := []connectors.Setting{
		{Name: "dsn", Required: true, Secret: true, Type: "string", Doc: "URL of the database with user and password."},
		{Name: "ca", Type: "string", Doc: "Path of the certificate authorities, in PEM, that the server's certificate must come from."},
		{Name: "auth", Type: "string", Doc: "rds-iam signs in to Amazon RDS with a token of the process's AWS identity instead of a password."},
		{Name: "region", Type: "string", Doc: "AWS region of the database, for rds-iam."},
		{Name: "replicas", Secret: true, Type: "string", Doc: "URLs of replicas, separated by spaces, that sweeps ask how far they are behind."},
	}
	kind := func(name string, settings []connectors.Setting, schemes ...string) connectors.Kind {
		return connectors.Kind{
			Name: name, SystemKeys: settings, Schemes: schemes,
			Open: open,
		}
	}
	return []connectors.Kind{
		kind("postgres", network, "postgres", "postgresql"),
		kind("mariadb", network, "mariadb", "mysql"),
		kind("mysql", network),
		kind("sqlite", []connectors.Setting{
			{Name: "dsn", Required: true, Secret: true, Type: "string", Doc: "Path of the database file as a URL: sqlite:///var/lib/shop.db."},
		}, "sqlite"),
	}
}

// Open validates the system's settings. It does not connect: an unreachable database is an error of the verbs.
func Open(ctx context.Context, s *connectors.System, o connectors.Options) (*DB, error) {
	kind := s.Connector
	if kind == "mysql" {
		kind = mariadb
	}
	db := &DB{
		System: s, dialect: dialectOf(kind), pseudonyms: o.Pseudonyms, now: o.Now, pace: o.Pace, txRows: defaultTxRows,
		perTx: subjectsPerTx, countPages: countPages, familyRows: familyRows,
	}
	if db.now == nil {
		db.now = time.Now
	}
	dsn, _ := s.Settings["dsn"].(string)
	u, err := url.Parse(dsn)
	if err != nil || dsn == "" {
		return nil, badSetting("dsn", "not a URL", "Write scheme://user:password@host:port/database; percent-encode special characters of the password.")
	}
	switch db.dialect.name {
	case postgres:
		err = db.openPostgres(ctx, u, dsn)
	case mariadb:
		err = db.openMariaDB(u)
	case sqlite:
		err = db.openSQLite(u)
	}
	if err != nil {
		return nil, err
	}
	if err := db.openReplicas(ctx, o); err != nil {
		_ = db.Close() // nothing was connected
		return nil, err
	}
	return db, nil
}

func badSetting(field, msg, hint string) error {
	return &dsr.Error{Code: dsr.CodeInvalid, Field: field, Msg: msg, Hint: hint}
}

func open(ctx context.Context, s *connectors.System, o connectors.Options) (connectors.Connector, error) {
	db, err := Open(ctx, s, o)
	if err != nil {
		return nil, err
	}
	return db, nil
}

// Close releases the connections.
func (d *DB) Close() error {
	err := d.SQL.Close()
	if d.Pool != nil {
		d.Pool.Close()
	}
	for _, r := range d.replicas {
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		return classify(d.dialect, err)
	}
	return nil
}

func (d *DB) connections() int {
	if n := d.System.Limits.Connections; n > 0 {
		return n
	}
	return defaultConnections
}

func (d *DB) statementTimeout() time.Duration {
	if t := d.System.Limits.Statement; t > 0 {
		return t
	}
	return defaultStatement
}

func (d *DB) lockTimeout() time.Duration {
	if t := d.System.Limits.Lock; t > 0 {
		return t
	}
	return defaultLock
}

func (d *DB) openPostgres(ctx context.Context, u *url.URL, dsn string) error {
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return badSetting("dsn", "not a PostgreSQL URL", "Write postgres://user:password@host:port/database.")
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil { // pgx's error echoes the URL
		return badSetting("dsn", "not a PostgreSQL URL", "Write postgres://user:password@host:port/database?sslmode=verify-full.")
	}
	cfg.MaxConns = int32(min(d.connections(), 1000))
	cfg.MaxConnIdleTime = time.Minute
	p := cfg.ConnConfig.RuntimeParams
	p["statement_timeout"] = strconv.FormatInt(d.statementTimeout().Milliseconds(), 10)
	p["lock_timeout"] = strconv.FormatInt(d.lockTimeout().Milliseconds(), 10)
	p["idle_in_transaction_session_timeout"] = strconv.FormatInt(2*d.statementTimeout().Milliseconds(), 10)
	// Keys and values travel as text: fix the forms that a server's or a role's settings could change.
	p["datestyle"], p["intervalstyle"], p["timezone"] = "ISO, YMD", "iso_8601", "UTC"
	p["bytea_output"], p["extra_float_digits"] = "hex", "1"
	if p["application_name"] == "" {
		p["application_name"] = "lethe"
	}
	tlsConfig, err := d.tls(cfg.ConnConfig.Host)
	if err != nil {
		return err
	}
	token, err := d.iam()
	if err != nil {
		return err
	}
	if tlsConfig != nil {
		cfg.ConnConfig.TLSConfig = tlsConfig
		cfg.ConnConfig.Fallbacks = nil
	}
	if token != nil {
		if cfg.ConnConfig.TLSConfig == nil {
			return badSetting("auth", "rds-iam needs TLS", "Set ca, or sslmode=verify-full in dsn.")
		}
		cfg.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) (err error) {
			c.Password, err = token(ctx, net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), c.User)
			return err
		}
	}
	d.Pool, err = pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return badSetting("dsn", "not usable as a PostgreSQL connection", "")
	}
	d.SQL = stdlib.OpenDBFromPool(d.Pool)
	return nil
}

func (d *DB) openMariaDB(u *url.URL) error {
	name := strings.TrimPrefix(u.Path, "/")
	if (u.Scheme != "mysql" && u.Scheme != "mariadb") || u.Host == "" || name == "" {
		return badSetting("dsn", "not a MariaDB URL", "Write mysql://user:password@host:port/database.")
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.DBName = "tcp", u.Host, name
	if u.Port() == "" {
		cfg.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.Logger = &mysql.NopLogger{} // errors come back all the same, and are classified
	cfg.InterpolateParams = true    // one round trip a statement,
	cfg.MultiStatements = true      // or for several: see [mariaSession]
	cfg.ClientFoundRows = true      // an UPDATE counts the rows it matched
	cfg.Collation = "utf8mb4_general_ci"
	seconds := strconv.FormatFloat(d.statementTimeout().Seconds(), 'f', 3, 64)
	cfg.Params = map[string]string{
		"innodb_lock_wait_timeout": strconv.Itoa(max(1, int(d.lockTimeout().Round(time.Second).Seconds()))),
		"lock_wait_timeout":        strconv.Itoa(max(1, int(d.lockTimeout().Round(time.Second).Seconds()))), // of a table's definition
		"time_zone":                "'+00:00'",
		"sql_mode":                 "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
	}
	if d.System.Connector == "mysql" {
		cfg.Params["transaction_isolation"] = "'READ-COMMITTED'"
		cfg.Params["max_execution_time"] = strconv.FormatInt(d.statementTimeout().Milliseconds(), 10)
	} else {
		cfg.Params["tx_isolation"] = "'READ-COMMITTED'" // what every version calls it
		cfg.Params["max_statement_time"] = seconds
		cfg.Params["idle_transaction_timeout"] = strconv.Itoa(max(1, int((2 * d.statementTimeout()).Round(time.Second).Seconds())))
	}
	tlsConfig, err := d.tls(u.Hostname())
	if err != nil {
		return err
	}
	if tlsConfig == nil {
		switch v := u.Query().Get("tls"); v {
		case "", "false":
		case "true":
			tlsConfig = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
		default:
			return badSetting("dsn", "tls must be true or false", "Set ca to trust a private certificate authority.")
		}
	}
	cfg.TLS = tlsConfig
	token, err := d.iam()
	if err != nil {
		return err
	}
	if token != nil {
		if tlsConfig == nil {
			return badSetting("auth", "rds-iam needs TLS", "Set ca to Amazon's bundle of RDS certificate authorities.")
		}
		cfg.AllowCleartextPasswords = true
		err := cfg.Apply(mysql.BeforeConnect(func(ctx context.Context, c *mysql.Config) error {
			c.Passwd, err = token(ctx, c.Addr, c.User)
			return err
		}))
		if err != nil {
			return badSetting("auth", "cannot be used with this database", "")
		}
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return badSetting("dsn", "not usable as a MariaDB connection", "")
	}
	d.SQL = sql.OpenDB(connector)
	d.SQL.SetMaxOpenConns(d.connections())
	d.SQL.SetMaxIdleConns(d.connections())
	d.SQL.SetConnMaxIdleTime(time.Minute)
	return nil
}

func (d *DB) openSQLite(u *url.URL) error {
	path := u.Path
	if u.Scheme != "sqlite" || path == "" || u.Host != "" {
		return badSetting("dsn", "not the URL of an SQLite file", "Write sqlite:///path/of/the/file.db, with three slashes.")
	}
	q := url.Values{}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", d.lockTimeout().Milliseconds()))
	q.Add("_pragma", "foreign_keys(1)")
	q.Add("_pragma", "secure_delete(1)") // an erased value must not stay in the file's free pages
	q.Set("_txlock", "immediate")
	q.Set("mode", "rw")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return badSetting("dsn", "not usable as an SQLite file", "")
	}
	db.SetMaxOpenConns(d.connections())
	db.SetConnMaxIdleTime(time.Minute)
	d.SQL = db
	return nil
}

// tls returns the configuration that trusts the ca setting only, or nil when there is none.
func (d *DB) tls(host string) (*tls.Config, error) {
	path, _ := d.System.Settings["ca"].(string)
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, badSetting("ca", "cannot be read", "Check the path and its permissions.")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, badSetting("ca", "holds no certificate in PEM form", "")
	}
	return &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12}, nil
}

// iam returns how to make a sign-in token, or nil when the map asks for none. Tokens live 15 minutes and are only
// looked at when a connection is made, so each connection gets a fresh one.
func (d *DB) iam() (func(ctx context.Context, endpoint, user string) (string, error), error) {
	method, _ := d.System.Settings["auth"].(string)
	switch method {
	case "":
		return nil, nil
	case "rds-iam":
	default:
		return nil, badSetting("auth", "unknown method", "Only rds-iam is known; leave it out to use the password in dsn.")
	}
	region, _ := d.System.Settings["region"].(string)
	if region == "" {
		return nil, badSetting("region", "is needed with auth: rds-iam", "Name the AWS region of the database.")
	}
	var once sync.Once
	var cfg aws.Config
	var failed error
	return func(ctx context.Context, endpoint, user string) (string, error) {
		once.Do(func() { cfg, failed = awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(region)) })
		if failed != nil {
			return "", failed
		}
		return auth.BuildAuthToken(ctx, endpoint, region, user, cfg.Credentials)
	}, nil
}
