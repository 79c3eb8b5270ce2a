package s3server_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// The connector of buckets rests on these: a server that lost one of them would make its tests say nothing.
func TestTheServerDoesWhatTheConnectorRestsOn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := dbtest.S3(t, func(in *s3.CreateBucketInput) { in.ObjectLockEnabledForBucket = aws.Bool(true) })
	name, key := aws.String(b.Name), aws.String("a/b.txt")
	put := func(body string, with ...func(*s3.PutObjectInput)) (*s3.PutObjectOutput, error) {
		in := &s3.PutObjectInput{Bucket: name, Key: key, Body: bytes.NewReader([]byte(body))}
		for _, w := range with {
			w(in)
		}
		return b.Client.PutObject(ctx, in)
	}
	first, err := put("one", func(in *s3.PutObjectInput) {
		in.Metadata, in.Tagging = map[string]string{"who": "42"}, aws.String("team=red")
	})
	require.NoError(t, err)
	second, err := put("two", func(in *s3.PutObjectInput) { in.IfMatch = first.ETag })
	require.NoError(t, err)
	_, err = put("three", func(in *s3.PutObjectInput) { in.IfMatch = first.ETag })
	require.ErrorContains(t, err, "PreconditionFailed")

	_, err = b.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: name, Key: key})
	require.NoError(t, err)
	list, err := b.Client.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: name})
	require.NoError(t, err)
	require.Len(t, list.Versions, 2)
	require.Len(t, list.DeleteMarkers, 1)

	old, err := b.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: name, Key: key, VersionId: first.VersionId})
	require.NoError(t, err)
	body, err := io.ReadAll(old.Body)
	require.NoError(t, err)
	require.Equal(t, "one", string(body))
	require.Equal(t, map[string]string{"who": "42"}, old.Metadata)
	tags, err := b.Client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: name, Key: key, VersionId: first.VersionId})
	require.NoError(t, err)
	require.Len(t, tags.TagSet, 1)

	_, err = b.Client.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{
		Bucket: name, Key: key, VersionId: second.VersionId,
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: aws.Time(time.Now().Add(time.Hour))},
	})
	require.NoError(t, err)
	gone, err := b.Client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: name, Delete: &types.Delete{Objects: []types.ObjectIdentifier{
		{Key: key, VersionId: first.VersionId}, {Key: key, VersionId: second.VersionId},
	}}})
	require.NoError(t, err)
	require.Len(t, gone.Deleted, 1)
	require.Len(t, gone.Errors, 1)
	require.Equal(t, *second.VersionId, *gone.Errors[0].VersionId)

	up, err := b.Client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: name, Key: aws.String("unfinished")})
	require.NoError(t, err)
	uploads, err := b.Client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: name})
	require.NoError(t, err)
	require.Len(t, uploads.Uploads, 1)
	require.Equal(t, *up.UploadId, *uploads.Uploads[0].UploadId)
}
