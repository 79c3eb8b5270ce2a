package s3

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// maxParts is how many parts an upload may have.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const maxParts = 10_000

// rewriting is one object that is read, changed and put back. The put is conditional on what was read: when somebody
// else wrote the object meanwhile nothing happens.
type rewriting struct {
	Key     string
	Version version
	Tallies []connectors.Tally  // what the scan found: the intent
	Stays   []connectors.Tally  `json:",omitempty"` // what stays of the key, tallied with it
	Left    connectors.Failures `json:",omitempty"` // what cannot be worked of the key, counted with it
	// Upload is of a large object; it is begun before the intent is saved, so that a later call can abort it.
	Upload   string                  `json:",omitempty"`
	Checksum types.ChecksumAlgorithm `json:",omitempty"` // of its parts
}

// rewritten is what a rewriting did.
type rewritten struct {
	tallies []connectors.Tally
	id      *string // of the new version; nil in a bucket without versions
	// done: the object has changed. Otherwise somebody else wrote it, or a put was carried out whose answer was lost: it is
	// settled as after an interruption.
	done  bool
	bytes int64 // stored bytes that were freed
}

// large tells whether an object is written in parts.
func (b *Bucket) large(v version) bool { return v.Size > b.sizes.multipart }

// begin opens the upload of a large object.
func (b *Bucket) begin(ctx context.Context, e *entity, w *rewriting) error {
	k, err := b.keep(ctx, e, w.Key, w.Version)
	if err != nil {
		return err
	}
	out, err := b.client.CreateMultipartUpload(ctx, k.create(b.name, w.Key))
	if err != nil {
		return fault(err)
	}
	w.Upload, w.Checksum = aws.ToString(out.UploadId), k.checksum()
	return nil
}

// rewrite carries one rewriting out. The object that is put is complete or is not there: a reader never sees half of it.
func (b *Bucket) rewrite(ctx context.Context, e *entity, f *records.Finder, w rewriting) (rewritten, error) {
	var out rewritten
	var err error
	if w.Upload != "" {
		out, err = b.rewriteParts(ctx, f, w)
	} else {
		out, err = b.rewriteWhole(ctx, e, f, w)
	}
	if errors.Is(err, errGone) || errors.Is(err, errChanged) {
		return rewritten{}, nil
	}
	return out, err
}

func (b *Bucket) rewriteWhole(ctx context.Context, e *entity, f *records.Finder, w rewriting) (rewritten, error) {
	var buf bytes.Buffer
	var t records.Totals
	err := b.read(ctx, w.Key, w.Version, func(name string, r io.Reader) (err error) {
		buf.Reset()
		t, err = f.Rewrite(ctx, name, r, &buf)
		return err
	})
	if err != nil || !t.Changed {
		return rewritten{}, err
	}
	k, err := b.keep(ctx, e, w.Key, w.Version)
	if err != nil {
		return rewritten{}, err
	}
	in := k.put(b.name, w.Key)
	in.Body, in.ContentLength, in.IfMatch = bytes.NewReader(buf.Bytes()), aws.Int64(int64(buf.Len())), &w.Version.ETag
	put, err := b.client.PutObject(ctx, in)
	if isConflict(err) || isMissing(err) {
		return rewritten{}, nil
	} else if err != nil {
		return rewritten{}, fault(err)
	}
	return b.verified(ctx, w, put.VersionId, put.ETag, int64(buf.Len()), t)
}

// verified looks at what was put before anything that held the records is removed.
func (b *Bucket) verified(ctx context.Context, w rewriting, id, etag *string, size int64, t records.Totals) (rewritten, error) {
	v := version{ID: aws.ToString(id), ETag: aws.ToString(etag), Latest: true}
	h, err := b.head(ctx, w.Key, v)
	if isMissing(err) { // somebody else deleted it already
		return rewritten{tallies: t.Tallies, id: id, done: true, bytes: w.Version.Size}, nil
	} else if err != nil {
		return rewritten{}, fault(err)
	}
	if v.id() != nil && (aws.ToInt64(h.ContentLength) != size || aws.ToString(h.ETag) != v.ETag) {
		return rewritten{}, connectors.Permanent(dsr.CodeUnavailable, "the server does not hold what it was given", "Look at the object; its earlier version was left.", nil)
	}
	return rewritten{tallies: t.Tallies, id: id, done: true, bytes: max(0, w.Version.Size-size)}, nil
}

// rewriteParts streams: while one part is sent the next is made.
func (b *Bucket) rewriteParts(ctx context.Context, f *records.Finder, w rewriting) (rewritten, error) {
	p := &parts{b: b, ctx: ctx, key: w.Key, upload: w.Upload, checksum: w.Checksum, size: max(b.sizes.part, w.Version.Size/(maxParts*9/10))}
	var t records.Totals
	err := b.read(ctx, w.Key, w.Version, func(name string, r io.Reader) (err error) {
		if err := p.reset(); err != nil {
			return err
		}
		if t, err = f.Rewrite(ctx, name, r, p); err != nil {
			return err
		}
		return p.flush()
	})
	if werr := p.wait(); err == nil {
		err = werr
	}
	if err != nil || !t.Changed {
		b.abort(ctx, w.Key, w.Upload)
		return rewritten{}, err
	}
	done, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.name, Key: &w.Key, UploadId: &w.Upload, IfMatch: &w.Version.ETag,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: p.done},
	})
	if isConflict(err) || isMissing(err) {
		b.abort(ctx, w.Key, w.Upload)
		return rewritten{}, nil
	} else if err != nil {
		return rewritten{}, fault(err)
	}
	return b.verified(ctx, w, done.VersionId, done.ETag, p.total, t)
}

// abort drops an upload of ours. One that stays is met by the next erasure, like those of others (uploads.go).
func (b *Bucket) abort(ctx context.Context, key, upload string) {
	_, _ = b.client.AbortMultipartUpload(context.WithoutCancel(ctx), &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: &key, UploadId: &upload})
}

// parts is a writer that sends what it is given in parts.
type parts struct {
	b           *Bucket
	ctx         context.Context // of one rewriting: an io.Writer takes none
	key, upload string
	checksum    types.ChecksumAlgorithm
	size        int64
	buf, spare  []byte
	done        []types.CompletedPart
	total       int64
	sending     chan error // the part under way; nil when none is
}

// reset begins again from the first part: parts that are sent again replace the ones before.
func (p *parts) reset() error {
	if err := p.wait(); err != nil {
		return err
	}
	p.buf, p.done, p.total = p.buf[:0], nil, 0
	return nil
}

func (p *parts) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if p.buf == nil {
			p.buf = make([]byte, 0, p.size)
		}
		room := min(len(b), int(p.size)-len(p.buf))
		p.buf, b = append(p.buf, b[:room]...), b[room:]
		if int64(len(p.buf)) == p.size {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// flush sends the buffer as the next part once the one before it is sent. An object has one part at least.
func (p *parts) flush() error {
	if len(p.buf) == 0 && len(p.done) > 0 {
		return nil
	}
	if err := p.wait(); err != nil {
		return err
	}
	body, n := p.buf, int32(len(p.done)+1)
	p.total += int64(len(body))
	p.done = append(p.done, types.CompletedPart{PartNumber: &n})
	p.buf, p.spare = p.spare[:0], body
	sending := make(chan error, 1)
	p.sending = sending
	go func() {
		out, err := p.b.client.UploadPart(p.ctx, &s3.UploadPartInput{
			Bucket: &p.b.name, Key: &p.key, UploadId: &p.upload, PartNumber: &n, Body: bytes.NewReader(body),
			ChecksumAlgorithm: p.checksum, ContentLength: aws.Int64(int64(len(body))),
		})
		if err == nil {
			c := &p.done[n-1]
			c.ETag, c.ChecksumCRC32, c.ChecksumCRC32C, c.ChecksumCRC64NVME = out.ETag, out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME
			c.ChecksumSHA1, c.ChecksumSHA256 = out.ChecksumSHA1, out.ChecksumSHA256
		}
		sending <- fault(err)
	}()
	return nil
}

func (p *parts) wait() error {
	if p.sending == nil {
		return nil
	}
	err := <-p.sending
	p.sending = nil
	return err
}
