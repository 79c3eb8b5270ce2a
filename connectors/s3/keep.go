package s3

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// kept is what of an object survives its rewriting besides its bytes: headers, metadata, tags, grants, encryption and
// storage class. Object Lock is no part of it: a version under a lock is not rewritten, and the bucket's default applies
// to the new version by itself.
type kept struct {
	head   *s3.HeadObjectOutput
	tags   *string
	grants grants
}

// grants are an ACL as request headers: given with the put, so that there is no moment without them.
type grants struct{ full, read, readACP, writeACP *string }

func (b *Bucket) keep(ctx context.Context, e *entity, key string, v version) (*kept, error) {
	h, err := b.head(ctx, key, v)
	if isMissing(err) {
		return nil, errGone
	} else if err != nil {
		return nil, fault(err)
	}
	if v.id() == nil && aws.ToString(h.ETag) != v.ETag {
		return nil, errChanged
	}
	k := &kept{head: h}
	if e.byAge() && h.Metadata[storedAt] == "" {
		h.Metadata = maps.Clone(h.Metadata)
		if h.Metadata == nil {
			h.Metadata = map[string]string{}
		}
		h.Metadata[storedAt] = aws.ToTime(h.LastModified).UTC().Format(time.RFC3339)
	}
	t, err := b.client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &b.name, Key: &key, VersionId: v.id()})
	switch {
	case err == nil && len(t.TagSet) > 0:
		q := url.Values{}
		for _, tag := range t.TagSet {
			q.Set(aws.ToString(tag.Key), aws.ToString(tag.Value))
		}
		k.tags = aws.String(strings.ReplaceAll(q.Encode(), "+", "%20")) // not every server reads + as a space
	case err != nil && codeOf(err) != "NoSuchTagSet" && !isUnsupported(err):
		return nil, fault(err)
	}
	if k.grants, err = b.grantsOf(ctx, key, v); err != nil {
		return nil, err
	}
	return k, nil
}

// grantsOf reads an object's ACL. A bucket whose owner owns everything has none worth keeping: every grant but the
// owner's own is written down.
func (b *Bucket) grantsOf(ctx context.Context, key string, v version) (grants, error) {
	acls, err := b.usesACLs(ctx)
	if err != nil || !acls {
		return grants{}, err
	}
	out, err := b.client.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: &b.name, Key: &key, VersionId: v.id()})
	if isUnsupported(err) {
		return grants{}, nil
	} else if err != nil {
		return grants{}, fault(err)
	}
	owner, others := "", false
	if out.Owner != nil {
		owner = aws.ToString(out.Owner.ID)
	}
	by := map[types.Permission][]string{}
	for _, g := range out.Grants {
		if g.Grantee == nil {
			continue
		}
		switch {
		case g.Grantee.URI != nil:
			by[g.Permission] = append(by[g.Permission], fmt.Sprintf("uri=%q", *g.Grantee.URI))
			others = true
		case g.Grantee.ID != nil:
			by[g.Permission] = append(by[g.Permission], fmt.Sprintf("id=%q", *g.Grantee.ID))
			others = others || *g.Grantee.ID != owner || g.Permission != types.PermissionFullControl
		}
	}
	if !others {
		return grants{}, nil
	}
	header := func(p types.Permission) *string {
		if len(by[p]) == 0 {
			return nil
		}
		return aws.String(strings.Join(by[p], ", "))
	}
	return grants{
		full: header(types.PermissionFullControl), read: header(types.PermissionRead),
		readACP: header(types.PermissionReadAcp), writeACP: header(types.PermissionWriteAcp),
	}, nil
}

// usesACLs reports whether objects of the bucket may have grants of their own: not where the bucket's owner is enforced
// as theirs, which is the default of new buckets.
func (b *Bucket) usesACLs(ctx context.Context) (bool, error) {
	b.acls.Lock()
	defer b.acls.Unlock()
	if b.acls.known && b.now().Sub(b.acls.at) < time.Minute {
		return b.acls.used, nil
	}
	out, err := b.client.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: &b.name})
	used := true // buckets from before the setting
	switch {
	case err == nil && out.OwnershipControls != nil:
		for _, r := range out.OwnershipControls.Rules {
			used = used && r.ObjectOwnership != types.ObjectOwnershipBucketOwnerEnforced
		}
	case isMissing(err):
	case isUnsupported(err):
		used = false
	case err != nil:
		return false, fault(err)
	}
	b.acls.known, b.acls.at, b.acls.used = true, b.now(), used
	return used, nil
}

// checksum is the algorithm of the original; the SDK's default where it has none.
func (k *kept) checksum() types.ChecksumAlgorithm {
	switch h := k.head; {
	case h.ChecksumSHA256 != nil:
		return types.ChecksumAlgorithmSha256
	case h.ChecksumSHA1 != nil:
		return types.ChecksumAlgorithmSha1
	case h.ChecksumCRC32C != nil:
		return types.ChecksumAlgorithmCrc32c
	case h.ChecksumCRC64NVME != nil:
		return types.ChecksumAlgorithmCrc64nvme
	}
	return types.ChecksumAlgorithmCrc32
}

func (k *kept) expires() *time.Time {
	if t, err := time.Parse(time.RFC1123, aws.ToString(k.head.ExpiresString)); err == nil {
		return &t
	}
	return nil
}

func (k *kept) put(bucket, key string) *s3.PutObjectInput {
	h := k.head
	return &s3.PutObjectInput{
		Bucket: &bucket, Key: &key, ContentType: h.ContentType, CacheControl: h.CacheControl, ContentEncoding: h.ContentEncoding,
		ContentDisposition: h.ContentDisposition, ContentLanguage: h.ContentLanguage, Expires: k.expires(),
		WebsiteRedirectLocation: h.WebsiteRedirectLocation, Metadata: h.Metadata, Tagging: k.tags,
		ServerSideEncryption: h.ServerSideEncryption, SSEKMSKeyId: h.SSEKMSKeyId, BucketKeyEnabled: h.BucketKeyEnabled,
		StorageClass: h.StorageClass, ChecksumAlgorithm: k.checksum(),
		GrantFullControl: k.grants.full, GrantRead: k.grants.read, GrantReadACP: k.grants.readACP, GrantWriteACP: k.grants.writeACP,
	}
}

func (k *kept) create(bucket, key string) *s3.CreateMultipartUploadInput {
	h := k.head
	return &s3.CreateMultipartUploadInput{
		Bucket: &bucket, Key: &key, ContentType: h.ContentType, CacheControl: h.CacheControl, ContentEncoding: h.ContentEncoding,
		ContentDisposition: h.ContentDisposition, ContentLanguage: h.ContentLanguage, Expires: k.expires(),
		WebsiteRedirectLocation: h.WebsiteRedirectLocation, Metadata: h.Metadata, Tagging: k.tags,
		ServerSideEncryption: h.ServerSideEncryption, SSEKMSKeyId: h.SSEKMSKeyId, BucketKeyEnabled: h.BucketKeyEnabled,
		StorageClass: h.StorageClass, ChecksumAlgorithm: k.checksum(),
		GrantFullControl: k.grants.full, GrantRead: k.grants.read, GrantReadACP: k.grants.readACP, GrantWriteACP: k.grants.writeACP,
	}
}
