package dbtest

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Bucket is one bucket on a real S3 server. The server wants paths: http://host/bucket/key.
type Bucket struct {
	Name, Endpoint, Region string
	AccessKey, Secret      string
	Client                 *s3.Client
}

// S3 returns a fresh, empty bucket, which goes with everything in it when the test ends. It is not versioned: a test
// that wants that says so with [Bucket.Version], or creates the bucket with Object Lock.
func S3(t testing.TB, create ...func(*s3.CreateBucketInput)) *Bucket {
	t.Helper()
	u := server(t, "LETHE_TEST_S3_URL")
	b := &Bucket{Name: strings.ReplaceAll(freshName(t), "_", "-"), Region: "us-east-1", AccessKey: u.User.Username()}
	b.Secret, _ = u.User.Password()
	u.User = nil
	b.Endpoint = u.String()
	b.Client = s3.New(s3.Options{
		BaseEndpoint: aws.String(b.Endpoint), Region: b.Region, UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: b.AccessKey, SecretAccessKey: b.Secret}, nil
		}),
	})
	in := &s3.CreateBucketInput{Bucket: aws.String(b.Name)}
	for _, c := range create {
		c(in)
	}
	if _, err := b.Client.CreateBucket(context.Background(), in); err != nil {
		t.Fatalf("create a bucket: %v", err)
	}
	t.Cleanup(b.remove)
	return b
}

// Version turns versioning on.
func (b *Bucket) Version(t testing.TB) {
	t.Helper()
	_, err := b.Client.PutBucketVersioning(context.Background(), &s3.PutBucketVersioningInput{
		Bucket:                  aws.String(b.Name),
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		t.Fatalf("turn versioning on: %v", err)
	}
}

// remove empties the bucket as far as its locks allow; what is locked goes with the server.
func (b *Bucket) remove() {
	ctx, name := context.Background(), aws.String(b.Name)
	uploads, err := b.Client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: name})
	if err == nil {
		for _, u := range uploads.Uploads {
			_, _ = b.Client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: name, Key: u.Key, UploadId: u.UploadId})
		}
	}
	for pages := s3.NewListObjectVersionsPaginator(b.Client, &s3.ListObjectVersionsInput{Bucket: name}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return
		}
		var all []types.ObjectIdentifier
		for _, v := range page.Versions {
			all = append(all, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
		}
		for _, m := range page.DeleteMarkers {
			all = append(all, types.ObjectIdentifier{Key: m.Key, VersionId: m.VersionId})
		}
		if len(all) > 0 {
			_, _ = b.Client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
				Bucket: name, BypassGovernanceRetention: aws.Bool(true), Delete: &types.Delete{Objects: all, Quiet: aws.Bool(true)},
			})
		}
	}
	_, _ = b.Client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: name})
}
