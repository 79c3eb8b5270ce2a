package s3_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/s3"
)

func TestGrantsAreWhatTheMapNeeds(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	sys := lake()
	sys.Entities[0].Rules = []connectors.Rule{expiring()}
	sys.Entities = append([]connectors.Entity{avatars().Entities[0]}, sys.Entities...)
	sys.Settings = s.settings()
	sys.Settings["bucket"], sys.Settings["expected_bucket_owner"] = "example-lake", "123456789012"
	by := map[string][]string{}
	for _, st := range policyOf(t, s.open(t, sys, connectors.Options{})).Statement {
		require.Equal(t, "Allow", st.Effect)
		by[st.Sid] = st.Resource
		if strings.HasPrefix(st.Action[0], "s3:") {
			require.Equal(t, "123456789012", st.Condition["StringEquals"]["s3:ResourceAccount"])
		}
		for _, a := range st.Action {
			require.NotContains(t, a, "*")
			require.NotContains(t, a, "Bypass")
		}
	}
	require.Equal(t, []string{"arn:aws:s3:::example-lake/avatars/*/*", "arn:aws:s3:::example-lake/events/*"}, by["DeleteMappedObjects"])
	require.Equal(t, []string{"arn:aws:s3:::example-lake/events/*"}, by["RewriteMappedObjects"])
	require.Equal(t, []string{"arn:aws:s3:::example-lake"}, by["SetLifecycleRules"])
	whole := avatars()
	whole.Settings = s.settings()
	actions := policyOf(t, s.open(t, whole, connectors.Options{})).actions()
	require.Contains(t, actions, "kms:Decrypt", "an export reads encrypted objects")
	for _, a := range []string{"kms:GenerateDataKey", "s3:PutObject", "s3:PutLifecycleConfiguration"} {
		require.NotContains(t, actions, a)
	}
}

// policy is what Grants prints.
type policy struct {
	Version   string
	Statement []struct {
		Sid, Effect      string
		Action, Resource []string
		Condition        map[string]map[string]any
	}
}

func policyOf(t *testing.T, b *s3.Bucket) policy {
	t.Helper()
	text, err := b.Grants(background, "role/lethe")
	require.NoError(t, err)
	var p policy
	require.NoError(t, json.Unmarshal([]byte(text), &p))
	return p
}

func (p policy) actions() []string {
	var out []string
	for _, s := range p.Statement {
		out = append(out, s.Action...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// actionsOf are the actions that a call needs: what is asked of a version has an action of its own.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
func actionsOf(operation string, input any) []string {
	version := func(id *string, action string) []string {
		if id == nil {
			return []string{"s3:" + action}
		}
		return []string{"s3:" + strings.Replace(action, "Object", "ObjectVersion", 1)}
	}
	written := func(tags *string, acl []*string, sse types.ServerSideEncryption) []string {
		out := []string{"s3:PutObject"}
		if tags != nil {
			out = append(out, "s3:PutObjectTagging")
		}
		if slices.ContainsFunc(acl, func(g *string) bool { return g != nil }) {
			out = append(out, "s3:PutObjectAcl")
		}
		if sse == types.ServerSideEncryptionAwsKms {
			out = append(out, "kms:GenerateDataKey", "kms:Decrypt")
		}
		return out
	}
	switch in := input.(type) {
	case *awss3.GetObjectInput:
		return version(in.VersionId, "GetObject")
	case *awss3.HeadObjectInput:
		return version(in.VersionId, "GetObject")
	case *awss3.GetObjectTaggingInput:
		return version(in.VersionId, "GetObjectTagging")
	case *awss3.GetObjectAclInput:
		return version(in.VersionId, "GetObjectAcl")
	case *awss3.DeleteObjectInput:
		return version(in.VersionId, "DeleteObject")
	case *awss3.DeleteObjectsInput:
		var out []string
		for _, o := range in.Delete.Objects {
			out = append(out, version(o.VersionId, "DeleteObject")...)
		}
		return out
	case *awss3.PutObjectInput:
		return written(in.Tagging, []*string{in.GrantFullControl, in.GrantRead, in.GrantReadACP, in.GrantWriteACP}, in.ServerSideEncryption)
	case *awss3.CreateMultipartUploadInput:
		return written(in.Tagging, []*string{in.GrantFullControl, in.GrantRead, in.GrantReadACP, in.GrantWriteACP}, in.ServerSideEncryption)
	}
	if action, ok := map[string]string{
		"ListObjectsV2": "ListBucket", "ListObjectVersions": "ListBucketVersions", "ListMultipartUploads": "ListBucketMultipartUploads",
		"UploadPart": "PutObject", "CompleteMultipartUpload": "PutObject", "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
		"GetBucketReplication": "GetReplicationConfiguration", "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
		"PutBucketLifecycleConfiguration": "PutLifecycleConfiguration", "GetBucketNotificationConfiguration": "GetBucketNotification",
	}[operation]; ok {
		return []string{"s3:" + action}
	}
	return []string{"s3:" + operation} // the others are called as their actions are
}

// within fails a test that calls what the policy of its map does not allow: every test of this package is one of that too.
func within(t *testing.T, b *s3.Bucket) {
	t.Helper()
	allowed := policyOf(t, b).actions()
	b.Observe(func(operation string, input any) {
		for _, a := range actionsOf(operation, input) {
			if !slices.Contains(allowed, a) {
				t.Errorf("%s needs %s, which the printed policy does not have", operation, a)
			}
		}
	})
}

// Every action of the policy is called, and none else (within). What the server does not know, a front answers.
func TestGrantsHaveNothingThatIsNotCalled(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var called, allowed []string
	for _, versioned := range []bool{true, false} {
		s := newStore(t, versioned)
		if versioned {
			s = newStore(t, true, locked)
		}
		s.put(t, "events/a", []byte(event("42", "x")+event("1", "y")))
		s.put(t, "events/a", []byte(event("42", "x")+event("1", "y")), tag("team", "red"))
		s.put(t, "events/large", []byte(event("42", strings.Repeat("x", 6<<20))+event("1", "y")))
		s.put(t, "letters/a", []byte("x"), meta("customer", "42"))
		s.put(t, "avatars/42/a", []byte("x"))
		s.put(t, "avatars/42/b", []byte("x"), func(in *awss3.PutObjectInput) {
			if versioned { // this one stays below, and a marker hides it
				in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn
			}
		})
		s.put(t, "avatars/42/b", []byte("x"))
		s.begin(t, "avatars/42/half")
		f := newFront(t, s)
		f.after = func(r *http.Response) error {
			if strings.HasPrefix(r.Request.URL.Path, "/"+s.Name+"/events/") && r.Request.Method == http.MethodHead {
				r.Header.Set("X-Amz-Server-Side-Encryption", "aws:kms")
				r.Header.Set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "arn:aws:kms:eu-north-1:123456789012:key/1")
			}
			return nil
		}
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			q := r.URL.Query()
			switch {
			case q.Has("ownershipControls"):
				_, _ = w.Write([]byte(`<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>`))
			case q.Has("acl"):
				_, _ = w.Write([]byte(aclOf(everyone)))
			case q.Has("lifecycle"):
				_, _ = w.Write([]byte(`<LifecycleConfiguration/>`))
			default:
				return false
			}
			return true
		}
		sys := lake()
		sys.Entities[0].Rules = []connectors.Rule{expiring()}
		sys.Entities = []connectors.Entity{avatars().Entities[0], sys.Entities[0], avatars().Entities[1]}
		sys.Settings = f.settings(s)
		b := s.open(t, sys, connectors.Options{})
		b.Parts(5<<20, 5<<20)
		b.Observe(func(operation string, input any) {
			mu.Lock()
			defer mu.Unlock()
			called = append(called, actionsOf(operation, input)...)
		})
		batch := connectors.Batch{subject("a", "user_id", "42")}
		_, err := b.Check(background)
		require.NoError(t, err)
		_, err = b.Locate(background, connectors.Query{Batch: batch})
		require.NoError(t, err)
		j := connectortest.NewJournal()
		require.NoError(t, b.Export(background, connectors.Job{Batch: batch, Journal: j}, connectortest.NewSinks(j).For))
		erase(t, b, batch)
		_, err = b.Sweep(background, connectors.SweepJob{Entity: "events", Rule: expiring(), Cut: past, Journal: connectortest.NewJournal()})
		require.Error(t, err, "the front forgets what is set")
		allowed = policyOf(t, b).actions()
	}
	slices.Sort(called)
	require.Equal(t, allowed, slices.Compact(called))
}
