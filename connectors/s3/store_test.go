package s3_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/s3"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

func TestMain(m *testing.M) {
	if journal := os.Getenv(child); journal != "" {
		if err := runChild(journal); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dbtest.Main(m)
}

// store is a bucket on the real server, and what tests do to it without the connector.
type store struct {
	*dbtest.Bucket
	versioned bool
}

func newStore(t *testing.T, versioned bool, create ...func(*awss3.CreateBucketInput)) *store {
	t.Helper()
	s := &store{dbtest.S3(t, create...), versioned}
	if versioned && len(create) == 0 {
		s.Version(t)
	}
	return s
}

func locked(in *awss3.CreateBucketInput) { in.ObjectLockEnabledForBucket = aws.Bool(true) }

// settings are those of the bucket in a data map.
func (s *store) settings() map[string]any {
	return map[string]any{
		"bucket": s.Name, "endpoint": s.Endpoint, "region": s.Region, "path_style": true, "access_key": s.AccessKey, "secret_key": s.Secret,
	}
}

func (s *store) open(t *testing.T, sys *connectors.System, o connectors.Options) *s3.Bucket {
	t.Helper()
	sys.Connector = "s3"
	if sys.Settings == nil {
		sys.Settings = s.settings()
	}
	b, err := s3.Open(context.Background(), sys, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	within(t, b)
	return b
}

func (s *store) put(t *testing.T, key string, body []byte, with ...func(*awss3.PutObjectInput)) *awss3.PutObjectOutput {
	t.Helper()
	in := &awss3.PutObjectInput{Bucket: &s.Name, Key: &key, Body: bytes.NewReader(body)}
	for _, w := range with {
		w(in)
	}
	out, err := s.Client.PutObject(context.Background(), in)
	require.NoError(t, err)
	return out
}

// delete does what an application does: in a versioned bucket it only adds a marker.
func (s *store) delete(t *testing.T, key string) {
	t.Helper()
	_, err := s.Client.DeleteObject(context.Background(), &awss3.DeleteObjectInput{Bucket: &s.Name, Key: &key})
	require.NoError(t, err)
}

func (s *store) begin(t *testing.T, key string) {
	t.Helper()
	up, err := s.Client.CreateMultipartUpload(context.Background(), &awss3.CreateMultipartUploadInput{Bucket: &s.Name, Key: &key})
	require.NoError(t, err)
	_, err = s.Client.UploadPart(context.Background(), &awss3.UploadPartInput{
		Bucket: &s.Name, Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte("half a picture")),
	})
	require.NoError(t, err)
}

// place is one version or marker that a bucket has.
type place struct {
	key, id        string
	marker, latest bool
}

func (s *store) places(t *testing.T) []place {
	t.Helper()
	var out []place
	for pages := awss3.NewListObjectVersionsPaginator(s.Client, &awss3.ListObjectVersionsInput{Bucket: &s.Name}); pages.HasMorePages(); {
		page, err := pages.NextPage(context.Background())
		require.NoError(t, err)
		for _, v := range page.Versions {
			out = append(out, place{*v.Key, *v.VersionId, false, *v.IsLatest})
		}
		for _, m := range page.DeleteMarkers {
			out = append(out, place{*m.Key, *m.VersionId, true, *m.IsLatest})
		}
	}
	slices.SortStableFunc(out, func(x, y place) int { return cmp.Compare(x.key, y.key) })
	return slices.Compact(out) // the server begins a page with the last version of the page before
}

func (s *store) uploads(t *testing.T) []string {
	t.Helper()
	out, err := s.Client.ListMultipartUploads(context.Background(), &awss3.ListMultipartUploadsInput{Bucket: &s.Name})
	require.NoError(t, err)
	var keys []string
	for _, u := range out.Uploads {
		keys = append(keys, *u.Key)
	}
	return keys
}

func (s *store) get(t *testing.T, p place) []byte {
	t.Helper()
	in := &awss3.GetObjectInput{Bucket: &s.Name, Key: &p.key}
	if p.id != "null" {
		in.VersionId = &p.id
	}
	out, err := s.Client.GetObject(context.Background(), in)
	require.NoError(t, err)
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	return b
}

// purge removes every version of a key.
func (s *store) purge(t *testing.T, key string) {
	t.Helper()
	for _, p := range s.places(t) {
		if p.key == key {
			_, err := s.Client.DeleteObjects(context.Background(), &awss3.DeleteObjectsInput{
				Bucket: &s.Name, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: &p.key, VersionId: &p.id}}},
			})
			require.NoError(t, err)
		}
	}
}

// backend is the bucket as the conformance suite sees it.
func (s *store) backend() connectortest.Backend {
	c := connectortest.Contents{
		Write:  func(t *testing.T, name string, content []byte) { s.put(t, name, content) },
		Remove: func(t *testing.T, name string) { s.purge(t, name) },
		Read: func(t *testing.T) map[string][][]byte {
			out := map[string][][]byte{}
			for _, p := range s.places(t) {
				if !p.marker {
					out[p.key] = append(out[p.key], s.get(t, p))
				}
			}
			return out
		},
		Stands: func(t *testing.T, name string, line int) map[string]string {
			h, err := s.Client.HeadObject(context.Background(), &awss3.HeadObjectInput{Bucket: &s.Name, Key: &name})
			require.NoError(t, err)
			version := strings.Trim(*h.ETag, `"`)
			if s.versioned {
				version = *h.VersionId
			}
			return map[string]string{"from_object": name, "from_version": version, "from_line": fmt.Sprint(line)}
		},
	}
	b := connectortest.Blobs(c)
	b.Blind = true
	b.Open = func(t *testing.T, sys *connectors.System, o connectors.Options, chunk int) connectors.Connector {
		for i := range sys.Entities {
			sys.Entities[i].Settings = map[string]any{"objects": sys.Entities[i].From() + "/**", "format": "jsonl"}
		}
		conn := s.open(t, sys, o)
		if chunk > 0 {
			conn.Chunks(chunk)
		}
		return conn
	}
	return b
}

func openErr(sys *connectors.System) (*s3.Bucket, error) {
	return s3.Open(context.Background(), sys, connectors.Options{})
}
