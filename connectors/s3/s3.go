// Package s3 is the connector of buckets: AWS, or any S3 API by endpoint. An entity without a format is whole objects,
// which belong to whom their key, tags or metadata name and go in every version; an entity with a format is records
// inside objects, which are rewritten in place (rewrite.go). Every verb walks all versions of every key (list.go): a
// subject may stand only in what is no longer current.
package s3

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

const (
	defaultConnections = 4
	defaultHeader      = 30 * time.Second // longest wait for the first byte of an answer
	attempts           = 4                // calls of the SDK before a fault is the engine's
)

// Bucket is the connector of one bucket. It connects at its first use.
type Bucket struct {
	sys      *connectors.System
	name     string
	aws      bool // no endpoint of its own: Amazon S3
	client   *s3.Client
	http     *awshttp.BuildableClient
	entities []*entity // sorted by name
	now      func() time.Time
	sizes    sizes
	acls     struct {
		sync.Mutex
		known, used bool
		at          time.Time
	}
}

// sizes bound what is held in memory and what one chunk holds; tests make them small.
type sizes struct {
	multipart int64 // objects above it are written in parts
	part      int64 // least size of a part
	budget    int64 // bytes of objects that are being written, all together
	keys      int   // keys of one chunk
	bytes     int64 // stored bytes of one chunk of records: about what a slice can read
}

var defaultSizes = sizes{multipart: 64 << 20, part: 16 << 20, budget: 64 << 20, keys: 1000, bytes: 256 << 20}

var (
	_ connectors.Connector = (*Bucket)(nil)
	_ connectors.Exporter  = (*Bucket)(nil)
	_ connectors.Eraser    = (*Bucket)(nil)
	_ connectors.Sweeper   = (*Bucket)(nil)
	_ connectors.Granter   = (*Bucket)(nil)
)

// Kinds are the connectors of this package.
func Kinds() []connectors.Kind {
	entity := append([]connectors.Setting{{
		Name: "objects", Required: true, Type: "string", Parse: parseObjects,
		Doc: "Pattern of keys: * is any text without a slash, ** any text, {identifier} an identifier's value.",
	}, {
		Name: abortUploads, Type: "duration",
		Doc: "Age, as 168h, from which an erasure aborts unfinished uploads that may hold anybody's records; without it erasures wait for them.",
	}}, records.Settings()...)
	return []connectors.Kind{{
		Name: "s3", Flat: true, Expires: true, EntityKeys: entity, Open: open,
		SystemKeys: []connectors.Setting{
			{Name: "bucket", Required: true, Type: "string", Doc: "Name of the bucket."},
			{Name: "region", Type: "string", Doc: "AWS region of the bucket; from the environment when absent."},
			{Name: "endpoint", Type: "string", Doc: "URL of another S3 server than Amazon's."},
			{Name: "path_style", Type: "boolean", Doc: "Ask for http://host/bucket/key; most servers but Amazon's want that."},
			{Name: "expected_bucket_owner", Type: "string", Doc: "AWS account that must own the bucket: every call fails if another does."},
			{Name: "access_key", Type: "string", Secret: true, Doc: "Access key of another server; Amazon's come from the environment, a profile or a role."},
			{Name: "secret_key", Type: "string", Secret: true, Doc: "Secret of access_key."},
		},
	}}
}

func open(ctx context.Context, s *connectors.System, o connectors.Options) (connectors.Connector, error) {
	b, err := Open(ctx, s, o)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Open validates the system's settings. It does not connect: an unreachable bucket is an error of the verbs.
func Open(ctx context.Context, sys *connectors.System, o connectors.Options) (*Bucket, error) {
	b := &Bucket{sys: sys, now: o.Now, sizes: defaultSizes}
	if b.now == nil {
		b.now = time.Now
	}
	b.name = setting(sys, "bucket")
	switch {
	case b.name == "":
		return nil, invalid("bucket", "is missing", "Name the bucket.")
	case strings.HasSuffix(b.name, "--x-s3"):
		return nil, invalid("bucket", "is a directory bucket, which has no versions and lists without order", "Map a general purpose bucket.")
	}
	for i := range sys.Entities {
		e, err := newEntity(sys, &sys.Entities[i], o)
		if err != nil {
			return nil, err
		}
		b.entities = append(b.entities, e)
	}
	if err := b.connect(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// connect prepares the client; nothing is sent.
func (b *Bucket) connect(ctx context.Context) error {
	endpoint, region := setting(b.sys, "endpoint"), setting(b.sys, "region")
	if endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			return invalid("endpoint", "is not the URL of a server", "Write https://host:port; the keys go into access_key and secret_key.")
		}
		if region == "" {
			region = "us-east-1" // other servers want some region in the signature
		}
	}
	b.aws = endpoint == ""
	key, secret := setting(b.sys, "access_key"), setting(b.sys, "secret_key")
	if (key == "") != (secret == "") {
		return invalid("access_key", "needs secret_key, and the other way round", "Give both or none.")
	}
	header := b.sys.Limits.Statement
	if header <= 0 {
		header = defaultHeader
	}
	b.http = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = header
		t.MaxIdleConnsPerHost = 2 * b.connections()
	}).WithDialerOptions(func(d *net.Dialer) { d.Timeout = 10 * time.Second })
	load := []func(*awsconfig.LoadOptions) error{awsconfig.WithHTTPClient(b.http), awsconfig.WithLogger(logging.Nop{})}
	if region != "" {
		load = append(load, awsconfig.WithRegion(region))
	}
	if key != "" {
		load = append(load, awsconfig.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key, SecretAccessKey: secret, Source: "data map"}, nil
		})))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil { // of a profile that cannot be read; it may quote the file
		return invalid("region", "the AWS configuration of this process cannot be read", "Check AWS_PROFILE and the files it names.")
	}
	if cfg.Region == "" {
		return invalid("region", "is missing and not in the environment either", "Name the AWS region of the bucket.")
	}
	b.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
		o.UsePathStyle, _ = b.sys.Settings["path_style"].(bool)
		o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) { r.MaxAttempts = attempts })
		o.DisableLogOutputChecksumValidationSkipped = true
		if owner := setting(b.sys, "expected_bucket_owner"); owner != "" {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("X-Amz-Expected-Bucket-Owner", owner))
		}
	})
	return nil
}

// Close releases the connections.
func (b *Bucket) Close() error {
	b.http.GetTransport().CloseIdleConnections()
	return nil
}

func (b *Bucket) connections() int {
	if n := b.sys.Limits.Connections; n > 0 {
		return n
	}
	return defaultConnections
}

// tenants refuses a subject without its tenant: nothing would keep the work to one.
func (b *Bucket) tenants(batch connectors.Batch) error {
	for _, s := range batch {
		if b.sys.TenantName != "" && s.Tenant == "" {
			return connectors.Permanent(dsr.CodeInvalid, "a subject has no tenant", "File the request for a tenant.", nil)
		}
	}
	return nil
}

func (b *Bucket) entity(name string) *entity {
	for _, e := range b.entities {
		if e.Name == name {
			return e
		}
	}
	return nil
}

func setting(sys *connectors.System, name string) string {
	v, _ := sys.Settings[name].(string)
	return v
}

func invalid(field, msg, hint string) error {
	return &dsr.Error{Code: dsr.CodeInvalid, Field: field, Msg: msg, Hint: hint}
}
