// Package cloudwatchlogs is the connector of Amazon CloudWatch Logs. Two kinds of Entity live in a log group: streams
// that belong to one subject, which DeleteLogStream deletes with all that is in them, and single events, which nobody can
// delete: they go with the group's retention. The verbs are in locate.go, erase.go, verify.go, export.go and sweep.go;
// how events and streams are read is in events.go and streams.go.
//
// No identifier is ever part of a filter pattern, though that would make searching cheaper: filter patterns tell cases
// apart and know nothing of the escapes of JSON, so matches would be lost, and the parameters of requests are
// kept by CloudTrail, where an erasure must not write the identifiers that it erases.
package cloudwatchlogs

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/smithy-go/logging"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Logs is the connector of log groups of one account and Region.
type Logs struct {
	client   *cloudwatchlogs.Client
	http     *awshttp.BuildableClient
	sys      *connectors.System
	region   string
	now      func() time.Time
	entities []entity // sorted by name
}

var (
	_ connectors.Connector = (*Logs)(nil)
	_ connectors.Exporter  = (*Logs)(nil)
	_ connectors.Eraser    = (*Logs)(nil)
	_ connectors.Sweeper   = (*Logs)(nil)
	_ connectors.Granter   = (*Logs)(nil)
)

// entity is one Entity of the map: streams when pattern is set, events otherwise.
type entity struct {
	*connectors.Entity
	group   string
	filter  string
	pattern *records.Glob
	layout  *records.Layout
}

// Kinds are the connectors of this package.
func Kinds() []connectors.Kind {
	entityKeys := []connectors.Setting{
		{Name: "group", Required: true, Type: "string", Doc: "Name of the log group.", Parse: parseGroup},
		{
			Name: "streams", Type: "string", Parse: parseStreams,
			Doc: "Names of the log streams that belong to one subject: app/{user_id}/*. They are deleted whole.",
		},
		{Name: "filter", Type: "string", Doc: "CloudWatch filter pattern; events that it does not match are not searched."},
	}
	for _, s := range records.Settings() {
		if s.Name != "compression" { // an event is never compressed
			entityKeys = append(entityKeys, s)
		}
	}
	return []connectors.Kind{{
		Name: "cloudwatchlogs",
		SystemKeys: []connectors.Setting{
			{Name: "region", Type: "string", Doc: "AWS region of the log groups; from the environment when absent."},
			{Name: "endpoint", Type: "string", Doc: "URL of the service, where it is not the region's own."},
			{Name: "access_key", Type: "string", Secret: true, Doc: "Access key; without it the process's AWS identity is used."},
			{Name: "secret_key", Secret: true, Type: "string", Doc: "Secret of access_key."},
		},
		EntityKeys: entityKeys,
		Flat:       true,
		Expires:    true,
		Open: func(ctx context.Context, s *connectors.System, o connectors.Options) (connectors.Connector, error) {
			return Open(ctx, s, o)
		},
	}}
}

// Retries of a call that was throttled or failed in passing: with doubling pauses these take about ten seconds, and
// after the first throttling the SDK keeps below the rate that AWS lets through (adaptive mode).
const (
	attempts = 6
	mostWait = 5 * time.Second
)

// Open validates the system's settings and every entity's. It does not connect.
func Open(ctx context.Context, s *connectors.System, o connectors.Options) (*Logs, error) {
	return open(ctx, s, o, retry.NewAdaptiveMode(func(m *retry.AdaptiveModeOptions) {
		m.StandardOptions = append(m.StandardOptions, func(so *retry.StandardOptions) {
			so.MaxAttempts, so.MaxBackoff = attempts, mostWait
		})
	}))
}

func open(ctx context.Context, s *connectors.System, o connectors.Options, retryer aws.RetryerV2) (*Logs, error) {
	l := &Logs{sys: s, region: text(s.Settings, "region"), now: o.Now}
	if l.now == nil {
		l.now = time.Now
	}
	for i := range s.Entities {
		e, err := newEntity(s, &s.Entities[i], o)
		if err != nil {
			return nil, err
		}
		l.entities = append(l.entities, e)
	}
	if err := l.conflicts(); err != nil {
		return nil, err
	}
	if err := l.connect(ctx, retryer); err != nil {
		return nil, err
	}
	return l, nil
}

// connect prepares the client; nothing is sent.
func (l *Logs) connect(ctx context.Context, retryer aws.RetryerV2) error {
	endpoint, key, secret := text(l.sys.Settings, "endpoint"), text(l.sys.Settings, "access_key"), text(l.sys.Settings, "secret_key")
	if u, err := url.Parse(endpoint); err != nil || endpoint != "" && (u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https") {
		return refused("endpoint", "is not the URL of a server", "write https://host:port; keys go into access_key and secret_key")
	}
	if (key == "") != (secret == "") {
		return refused("access_key", "needs secret_key, and the other way round", "give both or none")
	}
	l.http = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = cmp.Or(l.sys.Limits.Statement, 30*time.Second)
	})
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(l.http), awsconfig.WithLogger(logging.Nop{}),
		awsconfig.WithRetryer(func() aws.Retryer { return retryer }),
	}
	if l.region != "" {
		options = append(options, awsconfig.WithRegion(l.region))
	}
	if key != "" {
		options = append(options, awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(key, secret, "")))
	}
	config, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil { // of a profile that cannot be read; it may quote the file
		return refused("region", "the AWS configuration of this process cannot be read", "check AWS_PROFILE and the files that it names")
	}
	if l.region = config.Region; l.region == "" {
		return refused("region", "is missing and not in the environment either", "write region: eu-north-1")
	}
	l.client = cloudwatchlogs.NewFromConfig(config, func(o *cloudwatchlogs.Options) {
		if endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	return nil
}

// Close releases connections.
func (l *Logs) Close() error {
	l.http.GetTransport().CloseIdleConnections()
	return nil
}

func text(settings map[string]any, name string) string {
	s, _ := settings[name].(string)
	return s
}

func refused(field, msg, hint string) error {
	return &dsr.Error{Code: dsr.CodeInvalid, Field: field, Msg: msg, Hint: hint}
}

// newEntity refuses what CloudWatch Logs cannot do.
func newEntity(s *connectors.System, e *connectors.Entity, o connectors.Options) (entity, error) {
	at := "entities." + e.Name
	out := entity{Entity: e, group: text(e.Settings, "group"), filter: text(e.Settings, "filter")}
	if _, err := parseGroup(out.group); err != nil {
		return out, refused(at+".group", "is not the name of a log group", "")
	}
	streams := text(e.Settings, "streams")
	switch {
	case len(e.Masks) > 0 || e.Erase == dsr.Mask:
		return out, refused(at+".mask", "an event cannot be changed", "write erase: expire, or keep without mask")
	case streams == "" && e.Erase == dsr.Delete:
		return out, refused(at+".erase", "single events cannot be deleted",
			"write erase: expire, or streams: with an identifier where a log stream belongs to one person")
	case streams != "" && e.Erase == dsr.Expire:
		return out, refused(at+".erase", "streams of one person can be deleted", "write erase: delete")
	case streams != "" && (out.filter != "" || len(e.Fields) > 0 || len(e.Mentions) > 0):
		return out, refused(at+".streams", "streams are deleted whole, whatever is in them", "remove filter, fields and mentions")
	}
	var err error
	if streams != "" {
		if out.pattern, err = newPattern(streams); err != nil {
			return out, err
		}
	} else if out.layout, err = records.NewLayout(s, e, o); err != nil {
		return out, err
	}
	for _, r := range e.Rules {
		if err := out.ruleHolds(r); err != nil {
			return out, err
		}
	}
	return out, nil
}

// entity returns the named one, or nil.
func (l *Logs) entity(name string) *entity {
	for i := range l.entities {
		if l.entities[i].Name == name {
			return &l.entities[i]
		}
	}
	return nil
}

// groups are the names of the mapped log groups, sorted.
func (l *Logs) groups() []string {
	var out []string
	for _, e := range l.entities {
		out = append(out, e.group)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// scoped are the subjects of a batch that an entity is worked for.
func scoped(b connectors.Batch, e *entity) connectors.Batch {
	var out connectors.Batch
	for _, s := range b {
		if s.Entities == nil || s.Entities[e.Name] {
			out = append(out, s)
		}
	}
	return out
}

// checkTenants refuses a subject without a tenant where the map has tenants.
func (l *Logs) checkTenants(b connectors.Batch) error {
	for _, s := range b {
		if l.sys.TenantName != "" && s.Tenant == "" {
			return connectors.Permanent(dsr.CodeInvalid, "a subject has no tenant", "File the request for a tenant.", nil)
		}
	}
	return nil
}
