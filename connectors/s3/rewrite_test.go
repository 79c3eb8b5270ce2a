package s3_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
)

// Grantees of an ACL, as GetObjectAcl writes them.
const (
	everyone = `xsi:type="Group"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>`
	partner  = `xsi:type="CanonicalUser"><ID>partner</ID>`
	owner    = `xsi:type="CanonicalUser"><ID>owner</ID>`
)

// aclOf is an answer of GetObjectAcl: the owner's full control, and what others may read.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAcl.html
func aclOf(readers ...string) string {
	grant := func(grantee, permission string) string {
		return `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ` + grantee + `</Grantee><Permission>` + permission + `</Permission></Grant>`
	}
	out := `<AccessControlPolicy><Owner><ID>owner</ID></Owner><AccessControlList>` + grant(owner, "FULL_CONTROL")
	for _, r := range readers {
		out += grant(r, "READ")
	}
	return out + `</AccessControlList></AccessControlPolicy>`
}

// What AWS says of an object and the server of the tests does not is put into the answers on their way, and what is sent
// with the new content is looked at: the headers of PutObject and CreateMultipartUpload.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
func TestSettingsOfAWSSurviveARewriting(t *testing.T) {
	t.Parallel()
	type headers map[string]string
	const (
		sse, kmsKey, bucketKey = "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "X-Amz-Server-Side-Encryption-Bucket-Key-Enabled"
		class, redirect        = "X-Amz-Storage-Class", "X-Amz-Website-Redirect-Location"
		full, read             = "X-Amz-Grant-Full-Control", "X-Amz-Grant-Read"
		key                    = "arn:aws:kms:eu-north-1:123456789012:key/1"
	)
	all := []string{
		sse, kmsKey, bucketKey, class, redirect, full, read, "X-Amz-Grant-Read-Acp", "X-Amz-Grant-Write-Acp", "X-Amz-Acl",
		"X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Retain-Until-Date", "X-Amz-Object-Lock-Legal-Hold", "Expires",
	}
	for name, c := range map[string]struct {
		head     headers // of the original
		acl      string
		enforced bool    // the bucket's owner owns every object
		want     headers // of what is written; what is in none of both must not be there
	}{
		"nothing":               {acl: aclOf(), want: headers{}},
		"SSE-S3":                {head: headers{sse: "AES256"}, want: headers{sse: "AES256"}},
		"SSE-KMS":               {head: headers{sse: "aws:kms", kmsKey: key, bucketKey: "true"}, want: headers{sse: "aws:kms", kmsKey: key, bucketKey: "true"}},
		"DSSE-KMS":              {head: headers{sse: "aws:kms:dsse", kmsKey: key}, want: headers{sse: "aws:kms:dsse", kmsKey: key}},
		"infrequent access":     {head: headers{class: "STANDARD_IA"}, want: headers{class: "STANDARD_IA"}},
		"intelligent tiering":   {head: headers{class: "INTELLIGENT_TIERING"}, want: headers{class: "INTELLIGENT_TIERING"}},
		"instant retrieval":     {head: headers{class: "GLACIER_IR"}, want: headers{class: "GLACIER_IR"}},
		"redirect":              {head: headers{redirect: "/elsewhere"}, want: headers{redirect: "/elsewhere"}},
		"expires":               {head: headers{"Expires": "Wed, 21 Oct 2037 07:28:00 GMT"}, want: headers{"Expires": "Wed, 21 Oct 2037 07:28:00 GMT"}},
		"read by everyone":      {acl: aclOf(everyone), want: headers{full: `id="owner"`, read: `uri="http://acs.amazonaws.com/groups/global/AllUsers"`}},
		"read by two":           {acl: aclOf(partner, everyone), want: headers{full: `id="owner"`, read: `id="partner", uri="http://acs.amazonaws.com/groups/global/AllUsers"`}},
		"the bucket's owner's":  {acl: aclOf(partner), enforced: true, want: headers{}},
		"a lock of the default": {head: headers{"X-Amz-Object-Lock-Mode": "GOVERNANCE", "X-Amz-Object-Lock-Retain-Until-Date": "2020-01-01T00:00:00Z"}, want: headers{}},
	} {
		for _, parts := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", in parts ", parts), func(t *testing.T) {
				t.Parallel()
				s := newStore(t, true)
				rest := event("1", strings.Repeat("stays", 1<<18))
				s.put(t, "events/a", []byte(event("42", "goes")+rest))
				f := newFront(t, s)
				var mu sync.Mutex
				var written []http.Header
				f.before = func(w http.ResponseWriter, r *http.Request) bool {
					q := r.URL.Query()
					switch {
					case q.Has("ownershipControls"):
						ownership := "ObjectWriter"
						if c.enforced || c.acl == "" {
							ownership = "BucketOwnerEnforced"
						}
						_, _ = w.Write([]byte(`<OwnershipControls><Rule><ObjectOwnership>` + ownership + `</ObjectOwnership></Rule></OwnershipControls>`))
						return true
					case q.Has("acl"):
						_, _ = w.Write([]byte(c.acl))
						return true
					case r.Method == http.MethodPut && !q.Has("partNumber"), r.Method == http.MethodPost && q.Has("uploads"):
						mu.Lock()
						written = append(written, r.Header.Clone())
						mu.Unlock()
					}
					return false
				}
				f.after = func(r *http.Response) error {
					if r.Request.Method == http.MethodHead {
						for name, v := range c.head {
							r.Header.Set(name, v)
						}
					}
					return nil
				}
				sys := lake()
				sys.Settings = f.settings(s)
				b := s.open(t, sys, connectors.Options{})
				if parts {
					b.Parts(1<<20, 5<<20)
				}
				j := erase(t, b, connectors.Batch{subject("a", "user_id", "42")})
				require.Equal(t, map[string]int64{"a events delete": 1}, sums(j.Tallies()))
				require.Len(t, written, 1)
				require.True(t, s.texts(t)["events/a"][0] == rest)
				got := headers{}
				for _, name := range all {
					if v := written[0].Get(name); v != "" && v != "STANDARD" { // which this server gives even where nobody asks
						got[name] = v
					}
				}
				require.Equal(t, c.want, got)
			})
		}
	}
}

// The algorithm of an object's checksum is that of its successor, whole or in parts.
func TestChecksumsSurviveARewriting(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []types.ChecksumAlgorithm{
		types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256, types.ChecksumAlgorithmCrc64nvme,
	} {
		for _, parts := range []bool{false, true} {
			t.Run(fmt.Sprint(algorithm, ", in parts ", parts), func(t *testing.T) {
				t.Parallel()
				s := newStore(t, true)
				rest := event("1", strings.Repeat("stays", 1<<18))
				s.put(t, "events/a", []byte(event("42", "goes")+rest), func(in *awss3.PutObjectInput) { in.ChecksumAlgorithm = algorithm })
				b := s.open(t, lake(), connectors.Options{})
				if parts {
					b.Parts(1<<20, 5<<20)
				}
				erase(t, b, connectors.Batch{subject("a", "user_id", "42")})
				require.True(t, s.texts(t)["events/a"][0] == rest)
				h, err := s.Client.HeadObject(background, &awss3.HeadObjectInput{Bucket: &s.Name, Key: aws.String("events/a"), ChecksumMode: types.ChecksumModeEnabled})
				require.NoError(t, err)
				have := map[types.ChecksumAlgorithm]*string{
					types.ChecksumAlgorithmCrc32: h.ChecksumCRC32, types.ChecksumAlgorithmCrc32c: h.ChecksumCRC32C, types.ChecksumAlgorithmSha1: h.ChecksumSHA1,
					types.ChecksumAlgorithmSha256: h.ChecksumSHA256, types.ChecksumAlgorithmCrc64nvme: h.ChecksumCRC64NVME,
				}
				for a, sum := range have {
					require.Equal(t, a == algorithm, sum != nil, "%s", a)
				}
			})
		}
	}
}
