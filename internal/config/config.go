// Package config reads how this installation of Lethe runs: one strict YAML file and the environment, which wins.
// Secrets come from the environment or from a file that a variable with the suffix _FILE names, never from a flag.
// What systems hold and what erasure does to it is not here but in the data map.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Roles of a process.
const (
	RoleAll    = "all"    // API and workers
	RoleAPI    = "api"    // the API only
	RoleWorker = "worker" // workers only
)

// Config is how a process of Lethe runs. docs/OPERATIONS.md is its reference.
type Config struct {
	// Database is postgres://… or sqlite:///path. Empty is control.db in Data.
	Database string `yaml:"database"`
	// Data is the folder of keys, packages and the embedded database.
	Data string `yaml:"data"`
	// Map is the path of the data map.
	Map string `yaml:"map"`
	// Listen is the address of the API.
	Listen string `yaml:"listen"`
	// Role is all, api or worker.
	Role string `yaml:"role"`
	// TrustedProxies are addresses or networks whose X-Forwarded-For is believed when a caller is locked out.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// Workers is how many Runs are worked at once; 0 chooses.
	Workers int    `yaml:"workers"`
	TLS     TLS    `yaml:"tls"`
	Log     Log    `yaml:"log"`
	Keys    Keys   `yaml:"keys"`
	Policy  Policy `yaml:"policy"`
}

// TLS names the certificate and key of the API, in PEM. With both the API speaks TLS 1.2 and above, else plain HTTP.
type TLS struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Log says what is written to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // json, text
}

// Keys says what encrypts Lethe's own keys; a local file when empty.
type Keys struct {
	KMSKey string `yaml:"aws_kms_key"` // ARN
	Region string `yaml:"aws_region"`
}

// Policy holds what the organisation decides; zero values take the engine's defaults.
type Policy struct {
	AutoApprove     []AutoApproval   `yaml:"auto_approve"`
	RequestsPerHour map[string]int64 `yaml:"requests_per_hour"` // by kind of request
	PackageTTL      Duration         `yaml:"package_ttl"`
	FinishedTTL     Duration         `yaml:"finished_ttl"`
	LinkTTL         Duration         `yaml:"link_ttl"`
	Retention       Retention        `yaml:"retention"`
}

// Retention says when, and how gently, deletion rules are carried out.
type Retention struct {
	Schedule string `yaml:"schedule"` // cron expression by the wall clock of the map's controller
	Window   string `yaml:"window"`   // "22:00-06:00"; empty is all day
	Pace     Pace   `yaml:"pace"`
	Together int    `yaml:"together"` // sweeps of one system that work at once; they take turns when 0 or 1
}

// Pace says how gently sweeps work; zero values take the engine's defaults.
type Pace struct {
	Transaction Duration `yaml:"transaction"` // target of one transaction
	Duty        float64  `yaml:"duty"`        // share of the time that is worked; 1 is all of it
	Connections int      `yaml:"connections"` // transactions at once
	Lag         Duration `yaml:"lag"`         // pause while a replica is further behind
	Sessions    int      `yaml:"sessions"`    // pause while more sessions are active
	LockWaits   int      `yaml:"lock_waits"`  // pause while more sessions wait for a lock
}

// AutoApproval approves a Plan by itself when everything that it names is true.
type AutoApproval struct {
	Name     string   `yaml:"name"`
	Kinds    []string `yaml:"kinds"`
	FiledBy  []string `yaml:"filed_by"`
	Verified bool     `yaml:"verified"`
	MaxRows  int64    `yaml:"max_rows"`
}

// Duration is a time.Duration that also takes days: 30d, 24h, 90s.
type Duration time.Duration

var days = regexp.MustCompile(`^(\d{1,5})d$`)

// UnmarshalYAML implements [yaml.Unmarshaler].
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	text := n.Value
	if m := days.FindStringSubmatch(text); m != nil {
		text = m[1] + "h"
		v, err := time.ParseDuration(text)
		*d = Duration(24 * v)
		return err
	}
	v, err := time.ParseDuration(text)
	if err != nil || v <= 0 {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: must be a duration such as 30d or 24h", n.Line)}}
	}
	*d = Duration(v)
	return nil
}

// Default is what runs with nothing configured: everything in one process on SQLite in ./lethe-data.
func Default() Config {
	return Config{
		Data: "lethe-data", Map: "lethe.yaml", Listen: "127.0.0.1:8080", Role: RoleAll,
		Log: Log{Level: "info", Format: "json"},
		// What bench/retention measures as gentle; ADR 0007 says why this much.
		Policy: Policy{Retention: Retention{Pace: Pace{Duty: 0.75}}},
	}
}

// Env looks up a variable of the environment.
type Env func(string) (string, bool)

// Load reads the file at path, when path is not empty, then the environment over it.
func Load(path string, env Env) (Config, error) {
	c := Default()
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("read the configuration: %w", err)
		}
		if err := c.parse(text); err != nil {
			return c, fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := c.environment(env); err != nil {
		return c, err
	}
	return c, c.Validate()
}

var (
	unknownField = regexp.MustCompile(`line (\d+): field (\S+) not found`)
	ownError     = regexp.MustCompile(`^line \d+: must be .*`)
	anyLine      = regexp.MustCompile(`line (\d+)`)
)

// parse reads a file strictly. The parser's own errors may repeat a value, and a value may hold a password: only
// their line and the name of an unknown key are used.
func (c *Config) parse(text []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	err := dec.Decode(c)
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	faults := []string{err.Error()}
	var typed *yaml.TypeError
	if errors.As(err, &typed) {
		faults = typed.Errors
	}
	for i, f := range faults {
		switch {
		case unknownField.MatchString(f):
			m := unknownField.FindStringSubmatch(f)
			faults[i] = fmt.Sprintf("line %s: unknown key %q", m[1], m[2])
		case ownError.MatchString(f):
		case anyLine.MatchString(f):
			faults[i] = anyLine.FindString(f) + ": this value does not fit its key, or the key is there twice"
		default:
			faults[i] = "this is not YAML"
		}
	}
	return errors.New(strings.Join(faults, "\n"))
}

// Variables lists the environment variables that are read, with the key that each sets.
func Variables() [][2]string {
	var out [][2]string
	for _, v := range (&Config{}).variables() {
		out = append(out, [2]string{v.name, v.key})
	}
	return append(out, [2]string{"LETHE_DATABASE_PASSWORD", "the password in database"})
}

type variable struct {
	name, key string
	to        *string
}

func (c *Config) variables() []variable {
	return []variable{
		{"LETHE_DATABASE", "database", &c.Database},
		{"LETHE_DATA", "data", &c.Data},
		{"LETHE_MAP", "map", &c.Map},
		{"LETHE_LISTEN", "listen", &c.Listen},
		{"LETHE_ROLE", "role", &c.Role},
		{"LETHE_TLS_CERTIFICATE", "tls.certificate", &c.TLS.Certificate},
		{"LETHE_TLS_KEY", "tls.key", &c.TLS.Key},
		{"LETHE_LOG_LEVEL", "log.level", &c.Log.Level},
		{"LETHE_LOG_FORMAT", "log.format", &c.Log.Format},
		{"LETHE_AWS_KMS_KEY", "keys.aws_kms_key", &c.Keys.KMSKey},
		{"LETHE_AWS_REGION", "keys.aws_region", &c.Keys.Region},
	}
}

func (c *Config) environment(env Env) error {
	for _, v := range c.variables() {
		value, ok, err := Secret(env, v.name)
		if err != nil {
			return err
		}
		if ok {
			*v.to = value
		}
	}
	password, ok, err := Secret(env, "LETHE_DATABASE_PASSWORD")
	if err != nil || !ok {
		return err
	}
	u, err := url.Parse(c.Database)
	if err != nil || u.User == nil {
		return errors.New("LETHE_DATABASE_PASSWORD needs a database URL with a user: postgres://user@host/name")
	}
	u.User = url.UserPassword(u.User.Username(), password)
	c.Database = u.String()
	return nil
}

// Secret looks up a variable, or the content of the file that NAME_FILE names, without its last newline. An empty
// variable is as good as none.
func Secret(env Env, name string) (value string, ok bool, err error) {
	if v, ok := env(name); ok && v != "" {
		return v, true, nil
	}
	path, ok := env(name + "_FILE")
	if !ok || path == "" {
		return "", false, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", false, fmt.Errorf("%s_FILE: %w", name, err)
	}
	return strings.TrimRight(string(b), "\r\n"), true, nil
}

// Secrets is an environment in which every variable may come from a file; it resolves the ${VARIABLES} of data maps.
func Secrets(env Env) Env {
	return func(name string) (string, bool) {
		v, ok, err := Secret(env, name)
		return v, ok && err == nil
	}
}

// Validate reports what cannot work, with what to do about it.
func (c *Config) Validate() error {
	oneOf := func(key, value string, allowed ...string) error {
		if slices.Contains(allowed, value) {
			return nil
		}
		return fmt.Errorf("%s must be one of %s", key, strings.Join(allowed, ", "))
	}
	for kind := range c.Policy.RequestsPerHour {
		if err := oneOf("policy.requests_per_hour", kind, kinds()...); err != nil {
			return err
		}
	}
	for i, a := range c.Policy.AutoApprove {
		if a.Name == "" {
			return fmt.Errorf("policy.auto_approve[%d] needs a name: it stands in the timeline as policy:NAME", i)
		}
		for _, kind := range a.Kinds {
			if err := oneOf(fmt.Sprintf("policy.auto_approve[%d].kinds", i), kind, kinds()...); err != nil {
				return err
			}
		}
	}
	if p := c.Policy.Retention.Pace; !(p.Duty >= 0 && p.Duty <= 1) || p.Connections < 0 || p.Sessions < 0 || p.LockWaits < 0 {
		return errors.New("policy.retention.pace: duty is a share between 0 and 1, and nothing is negative")
	}
	if c.Policy.Retention.Together < 0 {
		return errors.New("policy.retention.together: is the number of sweeps of one system that work at once, and not negative")
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		return errors.New("tls.certificate and tls.key go together: give both or neither")
	}
	if c.Role != RoleAll && c.Embedded() {
		return errors.New("role " + c.Role + " needs PostgreSQL: SQLite is one file that one process may use, so API and " +
			"workers cannot be split over it; give --database postgres://…, or leave out --role")
	}
	if c.Data == "" || c.Listen == "" {
		return errors.New("data and listen must not be empty")
	}
	return errors.Join(
		oneOf("role", c.Role, RoleAll, RoleAPI, RoleWorker),
		oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"),
		oneOf("log.format", c.Log.Format, "json", "text"),
	)
}

func kinds() []string {
	return []string{"access", "rectification", "erasure", "restriction", "portability", "objection"}
}

// Embedded reports whether the control plane is SQLite.
func (c *Config) Embedded() bool { return !strings.HasPrefix(c.Database, "postgres") }

// DatabaseURL is Database, or the embedded default in Data.
func (c *Config) DatabaseURL() (string, error) {
	if c.Database != "" {
		return c.Database, nil
	}
	path, err := filepath.Abs(filepath.Join(c.Data, "control.db"))
	return "sqlite://" + path, err
}

// Logger writes to w as the configuration says.
func (c *Config) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // validated
	o := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
