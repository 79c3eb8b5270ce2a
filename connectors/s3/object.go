package s3

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// id is a version's id as requests want it. The current one of a bucket without versions has none: what is asked of it
// is bound to its ETag instead.
func (v version) id() *string {
	if v.ID == "" || v.ID == "null" && v.Latest {
		return nil
	}
	return &v.ID
}

// locator is what tells a version from every other to who may list the bucket.
func (v version) locator() string {
	if v.ID == "" || v.ID == "null" {
		return strings.Trim(v.ETag, `"`)
	}
	return v.ID
}

func (b *Bucket) head(ctx context.Context, key string, v version) (*s3.HeadObjectOutput, error) {
	return b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key, VersionId: v.id(), ChecksumMode: types.ChecksumModeEnabled})
}

// properties reads the declared tags and metadata of one version; gone is one that is no longer there.
func (b *Bucket) properties(ctx context.Context, e *entity, key string, v version) (props map[string]string, gone bool, err error) {
	if v.Marker || len(e.props) == 0 {
		return nil, false, nil
	}
	props = map[string]string{}
	if e.needsMeta() {
		h, err := b.head(ctx, key, v)
		if isMissing(err) {
			return nil, true, nil
		} else if err != nil {
			return nil, false, fault(err)
		}
		for _, p := range e.props {
			for name, value := range h.Metadata {
				if !p.tag && strings.EqualFold(name, p.name) {
					props[p.field] = value
				}
			}
		}
	}
	if e.needsTags() {
		t, err := b.client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &b.name, Key: &key, VersionId: v.id()})
		if isMissing(err) && codeOf(err) != "NoSuchTagSet" {
			return nil, true, nil
		} else if err != nil && codeOf(err) != "NoSuchTagSet" {
			return nil, false, fault(err)
		}
		if err == nil {
			for _, p := range e.props {
				for _, tag := range t.TagSet {
					if p.tag && aws.ToString(tag.Key) == p.name {
						props[p.field] = aws.ToString(tag.Value)
					}
				}
			}
		}
	}
	return props, false, nil
}

// locks are what may keep versions of a bucket from being deleted.
type locks struct {
	versions bool // single ones, under Object Lock
	mfa      bool // all of them: only the root account deletes versions and markers
}

// locks reads them.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/MultiFactorAuthenticationDelete.html
func (b *Bucket) locks(ctx context.Context) (locks, error) {
	versions, err := b.lockable(ctx)
	if err != nil {
		return locks{}, err
	}
	out, err := b.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &b.name})
	if isDenied(err) || isUnsupported(err) {
		return locks{versions: versions}, nil // the deletes themselves will tell
	} else if err != nil {
		return locks{}, fault(err)
	}
	return locks{versions, out.MFADelete == types.MFADeleteStatusEnabled}, nil
}

// lockable reports whether versions of the bucket may be locked. Who may not ask is told yes: each version is then
// looked at.
func (b *Bucket) lockable(ctx context.Context) (bool, error) {
	out, err := b.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &b.name})
	switch {
	case err == nil:
		return out.ObjectLockConfiguration != nil && out.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled, nil
	case isMissing(err), isUnsupported(err), codeOf(err) == "ObjectLockConfigurationNotFoundError", codeOf(err) == "InvalidRequest":
		return false, nil
	case isDenied(err):
		return true, nil
	}
	return false, fault(err)
}

// locked says why a version cannot be deleted yet; nil when it can. Governance mode counts: Lethe has no right to bypass
// it, and takes none. HeadObject would say it at once, but not to who may not ask, nor on every server.
func (b *Bucket) locked(ctx context.Context, l locks, key string, v version) (*dsr.Exception, error) {
	if l.mfa {
		return &dsr.Exception{Cause: dsr.CauseMFADelete}, nil
	}
	if !l.versions || v.Marker { // markers cannot be locked
		return nil, nil
	}
	hold, err := b.client.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{Bucket: &b.name, Key: &key, VersionId: v.id()})
	if err != nil && !isUnlocked(err) {
		return nil, fault(err)
	}
	if err == nil && hold.LegalHold != nil && hold.LegalHold.Status == types.ObjectLockLegalHoldStatusOn {
		return &dsr.Exception{Cause: dsr.CauseLegalHold}, nil
	}
	date, err := b.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &b.name, Key: &key, VersionId: v.id()})
	if err != nil && !isUnlocked(err) {
		return nil, fault(err)
	}
	if err == nil && date.Retention != nil {
		if until := aws.ToTime(date.Retention.RetainUntilDate); until.After(b.now()) {
			return &dsr.Exception{Cause: dsr.CauseObjectLock, Ends: &until}, nil
		}
	}
	return nil, nil
}

// isUnlocked: the version has no lock of the kind, or is gone, or the bucket has no locks at all.
func isUnlocked(err error) bool {
	return isMissing(err) || codeOf(err) == "NoSuchObjectLockConfiguration" || codeOf(err) == "InvalidRequest"
}

// archived says that a version has to be restored before it can be read.
func (b *Bucket) archived(ctx context.Context, key string, v version) (bool, error) {
	switch types.StorageClass(v.Class) {
	case types.StorageClassGlacier, types.StorageClassDeepArchive, types.StorageClassIntelligentTiering:
	default:
		return false, nil
	}
	h, err := b.head(ctx, key, v)
	if isMissing(err) {
		return false, nil
	} else if err != nil {
		return false, fault(err)
	}
	restored := strings.Contains(aws.ToString(h.Restore), `ongoing-request="false"`)
	deep := h.StorageClass == types.StorageClassGlacier || h.StorageClass == types.StorageClassDeepArchive || h.ArchiveStatus != ""
	return deep && !restored, nil
}

var (
	errGone     = errors.New("the version is no longer there")
	errChanged  = errors.New("somebody else wrote the object meanwhile")
	errArchived = errors.New("the version has to be restored first")
)

// tries bounds how often an object is read again after its connection broke.
const tries = 3

// read streams one version through fn, which is called again from the beginning when the connection breaks. It returns
// errGone, errChanged or errArchived for what is not a fault. name is the key with an ending that tells its compression.
func (b *Bucket) read(ctx context.Context, key string, v version, fn func(name string, r io.Reader) error) error {
	for try := 1; ; try++ {
		in := &s3.GetObjectInput{Bucket: &b.name, Key: &key, VersionId: v.id()}
		if v.id() == nil && v.ETag != "" {
			in.IfMatch = &v.ETag
		}
		out, err := b.client.GetObject(ctx, in)
		switch {
		case isMissing(err):
			return errGone
		case isConflict(err):
			return errChanged
		case codeOf(err) == "InvalidObjectState":
			return errArchived
		case err != nil:
			return fault(err)
		}
		src := &source{r: out.Body, left: aws.ToInt64(out.ContentLength)}
		err = fn(compressed(key, aws.ToString(out.ContentEncoding)), src)
		_ = out.Body.Close()
		if src.err == nil || err == nil || ctx.Err() != nil {
			return err
		}
		if try == tries {
			return broken()
		}
	}
}

// compressed adds the ending of a compression that only the object's Content-Encoding tells.
func compressed(key, encoding string) string {
	for enc, ending := range map[string]string{"gzip": ".gz", "zstd": ".zst"} {
		if encoding == enc && !strings.HasSuffix(key, ending) {
			return key + ending
		}
	}
	return key
}

// source tells a broken connection from a damaged object: both end a reader of records early.
type source struct {
	r    io.Reader
	left int64
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// each calls fn for every item on so many goroutines and waits for all. After the first error nothing new is begun; it
// is returned.
func each[T any](ctx context.Context, workers int, items []T, fn func(ctx context.Context, i int, item T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(workers, len(items)) {
		wg.Go(func() {
			for i := range next {
				if err := fn(ctx, i, items[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range items {
		if ctx.Err() != nil {
			break
		}
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// member marks an error as one subject's.
func member(ref, entity string, err error) error {
	return &connectors.SubjectError{Subject: ref, Entity: entity, Err: err}
}

// over reports whether a slice is over.
func (b *Bucket) over(deadline time.Time) bool {
	return !deadline.IsZero() && !b.now().Before(deadline)
}
