package s3

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// statement is one statement of an IAM policy.
type statement struct {
	Sid, Effect      string
	Action, Resource []string
	Condition        map[string]map[string]any `json:",omitempty"`
}

// Grants returns the IAM policy of the least privilege that the map needs, to be attached to the principal's role. What
// a policy cannot say, such as the keys of KMS, stands as a statement with a resource to be filled in.
func (b *Bucket) Grants(_ context.Context, _ string) (string, error) {
	bucket := "arn:aws:s3:::" + b.name
	var readable, deletable, writable []string
	expires := false
	prefixes := []string{""} // the top of the bucket, for check and drift
	for _, e := range b.entities {
		prefixes = append(prefixes, e.pattern.prefix+"*")
		keys := bucket + "/" + e.pattern.arn()
		readable = append(readable, keys)
		rules := func(a retention.Action) bool {
			return slices.ContainsFunc(e.Rules, func(r connectors.Rule) bool { return r.Action == a })
		}
		expires = expires || rules(retention.Expire)
		if e.Erase == dsr.Delete && e.Keep == nil || rules(retention.Delete) || e.layout != nil {
			deletable = append(deletable, keys)
		}
		if e.layout != nil {
			writable = append(writable, keys)
		}
	}
	statements := []statement{
		{
			Sid: "ReadTheBucketsSettings", Effect: "Allow", Resource: []string{bucket},
			Action: []string{
				"s3:GetBucketLogging", "s3:GetBucketNotification", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketOwnershipControls",
				"s3:GetBucketVersioning", "s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration",
			},
		},
		{
			Sid: "ListEveryVersionAndUpload", Effect: "Allow", Resource: []string{bucket},
			Action: []string{"s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions"},
			// a HEAD of what is gone has no prefix, and is answered 403 where it may not list
			Condition: map[string]map[string]any{"StringLikeIfExists": {"s3:prefix": prefixes}},
		},
	}
	if len(readable) > 0 {
		statements = append(statements, statement{
			Sid: "ReadMappedObjects", Effect: "Allow", Resource: readable,
			Action: []string{
				"s3:GetObject", "s3:GetObjectLegalHold", "s3:GetObjectRetention", "s3:GetObjectTagging", "s3:GetObjectVersion", "s3:GetObjectVersionTagging",
			},
		})
	}
	if len(deletable) > 0 {
		statements = append(statements, statement{
			Sid: "DeleteMappedObjects", Effect: "Allow", Resource: deletable,
			Action: []string{"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:DeleteObjectVersion"},
		})
	}
	encryption := []string{"kms:Decrypt"} // to read at all: an export does
	if len(writable) > 0 {
		statements = append(statements, statement{
			Sid: "RewriteMappedObjects", Effect: "Allow", Resource: writable,
			Action: []string{"s3:GetObjectAcl", "s3:GetObjectVersionAcl", "s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectTagging"},
		})
		encryption = append(encryption, "kms:GenerateDataKey")
	}
	if len(readable) > 0 {
		statements = append(statements, statement{
			Sid: "UseTheKeysOfEncryptedObjects", Effect: "Allow", Action: encryption,
			Resource:  []string{"arn:aws:kms:REGION:ACCOUNT:key/KEY-ID-OF-THE-BUCKET-OR-REMOVE-THIS-STATEMENT"},
			Condition: map[string]map[string]any{"StringLike": {"kms:ViaService": "s3.*.amazonaws.com"}},
		})
	}
	if expires {
		statements = append(statements, statement{Sid: "SetLifecycleRules", Effect: "Allow", Resource: []string{bucket}, Action: []string{"s3:PutLifecycleConfiguration"}})
	}
	if owner := setting(b.sys, "expected_bucket_owner"); owner != "" {
		for i := range statements {
			if strings.HasPrefix(statements[i].Action[0], "s3:") {
				if statements[i].Condition == nil {
					statements[i].Condition = map[string]map[string]any{}
				}
				statements[i].Condition["StringEquals"] = map[string]any{"s3:ResourceAccount": owner}
			}
		}
	}
	out, err := json.MarshalIndent(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", statements}, "", "  ")
	return string(out) + "\n", err
}

// placeholder is an identifier's place in a pattern.
var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// arn is the pattern as a policy's resource says it: * is any text, slashes too, so that it covers what the pattern does.
// A segment ** may stand for none, and then its slash is not there either.
func (p *pattern) arn() string {
	out := placeholder.ReplaceAllString(p.String(), "*")
	out = strings.ReplaceAll(out, "**/", "**")
	for strings.Contains(out, "**") {
		out = strings.ReplaceAll(out, "**", "*")
	}
	return out
}
