package demo

import (
	"bytes"
	"compress/gzip"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lethe-gdpr/lethe/internal/s3server"
)

// Of the S3 server's child process. It is told the rest by its environment, so that no secret is on a command line.
const (
	bucketName   = "example-helpdesk"
	bucketRegion = "eu-north-1"
	bucketKey    = "lethe-demo"
	bucketFolder = "bucket"
	secretName   = "LETHE_DEMO_S3_SECRET" //nolint:gosec // a variable's name
	listenName   = "LETHE_DEMO_S3_LISTEN"
	folderName   = "LETHE_DEMO_S3_DIR"
)

// ServeS3 is what the child process does that Options.S3 starts: it runs the demo's S3 server until its standard input
// ends, as it does when the demo is gone, however it went.
func ServeS3(ctx context.Context, stdin io.Reader) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		stop()
	}()
	return s3server.Serve(ctx, s3server.Options{
		Dir: os.Getenv(folderName), Listen: os.Getenv(listenName), AccessKey: bucketKey, Secret: os.Getenv(secretName),
		Region: bucketRegion,
	})
}

// bucket is the running S3 server.
type bucket struct {
	endpoint, secret string
	client           *s3.Client
	cmd              *exec.Cmd
	stdin            io.Closer
}

// startBucket starts the server and waits until it answers.
func (d *demo) startBucket(ctx context.Context) (err error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	b := &bucket{endpoint: "http://" + address, secret: crand.Text(), cmd: d.o.S3()}
	b.cmd.Env = append(os.Environ(), folderName+"="+d.file(bucketFolder), listenName+"="+address, secretName+"="+b.secret)
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := b.cmd.Start(); err != nil {
		return fmt.Errorf("start the S3 server: %w", err)
	}
	d.bucket = b
	b.client = s3.New(s3.Options{
		BaseEndpoint: &b.endpoint, Region: bucketRegion, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(bucketKey, b.secret, ""),
	})
	ctx, stop := context.WithTimeout(ctx, startWithin)
	defer stop()
	for {
		if answers(ctx, b.endpoint) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the S3 server did not start within %s", startWithin)
		case <-time.After(startPoll):
		}
	}
}

const (
	startWithin = 15 * time.Second
	startPoll   = 10 * time.Millisecond
)

func answers(ctx context.Context, endpoint string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, endpoint, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil
}

// freeAddress finds a loopback port that nobody has.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// stop ends the server: its standard input ends.
func (b *bucket) stop() error {
	if b == nil {
		return nil
	}
	err := b.stdin.Close()
	var exit *exec.ExitError
	if wait := b.cmd.Wait(); !errors.As(wait, &exit) { // how it ended does not matter: it had to
		err = errors.Join(err, wait)
	}
	return err
}

// fill stores attachments by customer and a lake of events by day, in a bucket that keeps old versions.
func (b *bucket) fill(ctx context.Context, now time.Time) error {
	if _, err := b.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucketName)}); err != nil {
		return err
	}
	_, err := b.client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket:                  aws.String(bucketName),
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		return err
	}
	for i := range attachedBy {
		id := subjectID - attachedBy/2 + i
		for n := range 1 + i%2 {
			key := fmt.Sprintf("attachments/%d/screenshot-%d.txt", id, n+1)
			for version := range 2 { // uploaded again: the first version stays behind
				body := fmt.Sprintf("screenshot of %s, upload %d\n", email(id), version+1)
				if err := b.put(ctx, key, "text/plain", []byte(body)); err != nil {
					return err
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(31, 31)) //nolint:gosec // made-up events need no secrecy
	for day := range lakeDays {
		at := now.AddDate(0, 0, -day-1)
		body, err := events(rng, at)
		if err != nil {
			return err
		}
		if err := b.put(ctx, at.Format("events/2006/01/02.jsonl.gz"), "application/x-ndjson", body); err != nil {
			return err
		}
	}
	return nil
}

// Sizes of the bucket.
const (
	attachedBy = 12 // customers with attachments
	lakeDays   = 14
	dayEvents  = 300
)

// events are one day of the lake, as the application's shipper writes them.
func events(rng *rand.Rand, day time.Time) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	enc := json.NewEncoder(z)
	for i := range dayEvents {
		id := 1 + rng.IntN(customers)
		if i%60 == 7 {
			id = subjectID
		}
		e := map[string]any{
			"at": day.Add(time.Duration(i) * time.Minute).Format(time.RFC3339), "type": "page.viewed",
			"user": map[string]any{"id": id, "email": email(id)}, "path": fmt.Sprintf("/tickets/%d", rng.IntN(900)),
		}
		if err := enc.Encode(e); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return out.Bytes(), err
}

func (b *bucket) put(ctx context.Context, key, contentType string, body []byte) error {
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: aws.String(bucketName), Key: &key, ContentType: &contentType, Body: bytes.NewReader(body),
	})
	if err != nil {
		return fmt.Errorf("fill the bucket: %w", err)
	}
	return nil
}
