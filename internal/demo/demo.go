// Package demo is Lethe's main job in one process: a made-up helpdesk, an access and an erasure request for a person
// who is all over it, and what came of them. It uses the API as everybody else would, with the keys of two persons.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/config"
)

// Options are what the demo was told.
type Options struct {
	Dir    string // where files go; empty is a temporary folder, which is removed at the end but with Exit
	Exit   bool   // end instead of serving on
	JSON   bool   // print one object on Out, and the rest on Log
	Listen string // address of the API; empty is a free loopback port
	Lethe  string // how this program is called, for the commands to try
	// S3 makes the command that starts this program again as the demo's S3 server, where it must call [ServeS3].
	S3 func() *exec.Cmd
	// Serve keeps the app running until ctx ends; not called with Exit.
	Serve  func(ctx context.Context, a *app.App) error
	Out    io.Writer
	Log    io.Writer
	Logger *slog.Logger // nil logs nothing
}

// Result is what the demo prints with JSON.
type Result struct {
	Access    AccessResult    `json:"access"`
	Erasure   ErasureResult   `json:"erasure"`
	Retention RetentionResult `json:"retention"`
	Seconds   float64         `json:"seconds"`
}

// AccessResult is what came of the access request.
type AccessResult struct {
	State   client.State `json:"state"`
	Package string       `json:"package"`
	Records int64        `json:"records"`
}

// ErasureResult is what came of the erasure request. Pseudonymized counts rows of which only fields changed.
type ErasureResult struct {
	State         client.State `json:"state"`
	Found         int64        `json:"found"`
	Deleted       int64        `json:"deleted"`
	Pseudonymized int64        `json:"pseudonymized"`
	Kept          int64        `json:"kept"`
	Expiring      int64        `json:"expiring"` // cannot be deleted singly
	Residue       int64        `json:"residue"`
	Systems       []string     `json:"systems"`
	DeferredUntil *time.Time   `json:"deferred_until,omitempty"` // when what expires is searched for again
}

// complete reports whether both requests ended as they should: the erasure waits only for the log group's retention.
func (r *Result) complete() bool {
	return r.Access.State == client.StateCompleted && r.Erasure.State == client.StateDeferred &&
		r.Erasure.DeferredUntil != nil && r.Erasure.Residue == 0 && r.Retention.Deleted > 0 && r.Retention.DueAfter == 0
}

// Files of the demo in its folder.
const (
	HelpdeskFile  = "helpdesk.db"
	AnalyticsFile = "analytics.db"
	MapFile       = "lethe.yaml"
	PackageFile   = "copy-of-the-data.zip"
	EnvFile       = "env" // for a shell; written when the demo serves on
	dataFolder    = "lethe-data"
)

// Run does it all. It returns when ctx ends, or at once with Exit.
func Run(ctx context.Context, o Options) (err error) {
	started := time.Now()
	d := &demo{o: o, out: o.Out, dir: o.Dir, now: started.UTC()}
	if o.JSON {
		d.out = o.Log
	}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "lethe-demo-"); err != nil {
			return err
		}
		if !o.Exit { // else somebody wants to look at what was printed
			defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
		}
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.bucket.stop(), d.groups.stop()) }()
	if err := d.prepare(ctx); err != nil {
		return err
	}
	a, err := app.New(ctx, app.Options{Config: d.config(), Env: d.env, Logger: o.Logger})
	if err != nil {
		return err
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		err = errors.Join(err, a.Stop(last))
	}()
	if err := a.Start(ctx); err != nil {
		return err
	}
	if err := d.signIn(ctx, a.URL()); err != nil {
		return err
	}
	result, err := d.work(ctx)
	if err != nil {
		return err
	}
	result.Seconds = time.Since(started).Seconds()
	if o.JSON {
		if err := json.NewEncoder(o.Out).Encode(result); err != nil {
			return err
		}
	}
	d.say("\nThat took %.1f seconds.\n", result.Seconds)
	if !result.complete() {
		return errors.New("the demo's requests did not end as they should")
	}
	if o.Exit {
		d.say("The files are in %s.\n", d.dir)
		return nil
	}
	if err := d.tryThis(a.URL()); err != nil {
		return err
	}
	return o.Serve(ctx, a)
}

// stopWithin bounds the end of the demo.
const stopWithin = 15 * time.Second

type demo struct {
	o          Options
	out        io.Writer
	dir        string
	now        time.Time
	bucket     *bucket
	groups     *groups
	agent, dpo *client.Client
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

func (d *demo) file(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) config() config.Config {
	c := config.Default()
	c.Data, c.Map, c.Listen = d.file(dataFolder), d.file(MapFile), "127.0.0.1:0"
	if d.o.Listen != "" {
		c.Listen = d.o.Listen
	}
	return c
}

// variables are the environment of the demo's map.
var variables = []string{"HELPDESK_DSN", "ANALYTICS_DSN", "S3_ENDPOINT", "S3_SECRET", "WEB_LOGS", "CLOUDWATCH_ENDPOINT"}

// env looks up one of the variables.
func (d *demo) env(name string) (string, bool) {
	switch name {
	case "HELPDESK_DSN":
		return "sqlite://" + d.file(HelpdeskFile), true
	case "ANALYTICS_DSN":
		return "sqlite://" + d.file(AnalyticsFile), true
	case "S3_ENDPOINT":
		return d.bucket.endpoint, true
	case "S3_SECRET":
		return d.bucket.secret, true
	case "WEB_LOGS":
		return d.file(LogsFolder), true
	case "CLOUDWATCH_ENDPOINT":
		return d.groups.endpoint, true
	}
	return os.LookupEnv(name)
}

// prepare writes databases and map. It touches nothing that is there already.
func (d *demo) prepare(ctx context.Context) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{HelpdeskFile, AnalyticsFile, LogsFolder, bucketFolder, MapFile, PackageFile, dataFolder} {
		if _, err := os.Stat(d.file(name)); err == nil {
			return fmt.Errorf("%s exists already: give --dir an empty folder", d.file(name))
		}
	}
	if err := createHelpdesk(ctx, d.file(HelpdeskFile), d.now); err != nil {
		return fmt.Errorf("create the helpdesk: %w", err)
	}
	if err := createAnalytics(ctx, d.file(AnalyticsFile), d.now); err != nil {
		return fmt.Errorf("create the analytics: %w", err)
	}
	if err := d.startBucket(ctx); err != nil {
		return err
	}
	if err := d.bucket.fill(ctx, d.now); err != nil {
		return err
	}
	if err := createLogs(d.file(LogsFolder), d.now); err != nil {
		return fmt.Errorf("write the logs: %w", err)
	}
	if err := d.startGroups(ctx); err != nil {
		return err
	}
	if err := os.WriteFile(d.file(MapFile), []byte(mapText), 0o600); err != nil {
		return err
	}
	d.say("A helpdesk: %d customers in %s, an analytics database that knows only their devices,\n", customers, d.file(HelpdeskFile))
	d.say("a bucket with attachments and %d days of events, a web server's logs, and an application's log group.\n", lakeDays)
	d.say("%s tells Lethe where people are in them.\n", d.file(MapFile))
	return nil
}

// signIn makes the keys of two persons with the bootstrap key: one files, the other approves.
func (d *demo) signIn(ctx context.Context, url string) error {
	token, err := os.ReadFile(filepath.Join(d.file(dataFolder), app.BootstrapFile))
	if err != nil {
		return err
	}
	first, err := client.Connect(url, strings.TrimSpace(string(token)))
	if err != nil {
		return err
	}
	person := func(name string, role client.Role) (*client.Client, error) {
		made, err := client.Read[client.CreatedApiKey](first.CreateApiKey(ctx, &client.CreateApiKeyParams{}, client.NewApiKey{
			Principal: name, Type: client.PrincipalTypePerson, Roles: []client.Role{role},
		}))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(d.file(name+".key"), []byte(*made.Token+"\n"), 0o600); err != nil {
			return nil, err
		}
		return client.Connect(url, *made.Token)
	}
	if d.agent, err = person("agent", client.RoleOperator); err != nil {
		return err
	}
	d.dpo, err = person("officer", client.RoleDpo)
	return err
}
