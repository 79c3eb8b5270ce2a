package s3

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// version is one version of an object, or a delete marker. In a bucket without versions its ID is "null".
type version struct {
	ID       string
	ETag     string
	Size     int64
	Modified time.Time
	Class    string
	Marker   bool
	Latest   bool
}

// object is all versions and delete markers of one key, newest first.
type object struct {
	Key      string
	Versions []version
}

// upload is a multipart upload that nobody finished: it holds data that no list of objects shows.
type upload struct {
	Key, ID string
	Begun   time.Time
}

// walk calls fn for every key that begins with one of the prefixes and lies after the given key, in the order of keys.
// Prefixes are sorted, and none begins with another.
func (b *Bucket) walk(ctx context.Context, prefixes []string, after string, fn func(object) error) error {
	for _, prefix := range prefixes {
		if after >= prefix && !strings.HasPrefix(after, prefix) {
			continue // all of its keys lie before
		}
		marker := ""
		if strings.HasPrefix(after, prefix) {
			marker = after
		}
		if err := b.walkPrefix(ctx, prefix, marker, fn); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bucket) walkPrefix(ctx context.Context, prefix, after string, fn func(object) error) error {
	in := &s3.ListObjectVersionsInput{Bucket: &b.name, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
	if after != "" {
		in.KeyMarker = &after
	}
	var open object // its versions may go on in the next page
	for {
		page, err := b.client.ListObjectVersions(ctx, in)
		if err != nil {
			return fault(err)
		}
		for _, o := range group(page) {
			if o.Key == after && after != "" { // some servers begin with the marker itself
				continue
			}
			if o.Key == open.Key {
				for _, v := range o.Versions { // some servers begin a page with the last version of the page before
					if !slices.ContainsFunc(open.Versions, func(seen version) bool { return seen.ID == v.ID }) {
						open.Versions = append(open.Versions, v)
					}
				}
				continue
			}
			if len(open.Versions) > 0 {
				if err := fn(open); err != nil {
					return err
				}
			}
			open = o
		}
		if !aws.ToBool(page.IsTruncated) {
			break
		}
		in.KeyMarker, in.VersionIdMarker = decoded(page.NextKeyMarker, page.EncodingType), page.NextVersionIdMarker
	}
	if len(open.Versions) > 0 {
		return fn(open)
	}
	return nil
}

// group brings versions and markers of a page together, by key and newest first.
func group(page *s3.ListObjectVersionsOutput) []object {
	byKey := map[string][]version{}
	var keys []string
	add := func(key *string, v version) {
		k := *decoded(key, page.EncodingType)
		if byKey[k] == nil {
			keys = append(keys, k)
		}
		byKey[k] = append(byKey[k], v)
	}
	for _, v := range page.Versions {
		add(v.Key, version{
			ID: aws.ToString(v.VersionId), ETag: aws.ToString(v.ETag), Size: aws.ToInt64(v.Size), Modified: aws.ToTime(v.LastModified),
			Class: string(v.StorageClass), Latest: aws.ToBool(v.IsLatest),
		})
	}
	for _, m := range page.DeleteMarkers {
		add(m.Key, version{
			ID: aws.ToString(m.VersionId), Modified: aws.ToTime(m.LastModified), Marker: true, Latest: aws.ToBool(m.IsLatest),
		})
	}
	slices.Sort(keys)
	out := make([]object, len(keys))
	for i, k := range keys {
		vs := byKey[k]
		slices.SortStableFunc(vs, func(x, y version) int {
			if x.Latest != y.Latest {
				if x.Latest {
					return -1
				}
				return 1
			}
			return cmp.Compare(y.Modified.UnixNano(), x.Modified.UnixNano())
		})
		for n := range vs {
			if vs[n].ID == "" {
				vs[n].ID = "null"
			}
		}
		out[i] = object{k, vs}
	}
	return out
}

func decoded(s *string, e types.EncodingType) *string {
	if s == nil || e != types.EncodingTypeUrl {
		return s
	}
	if u, err := url.QueryUnescape(*s); err == nil {
		return &u
	}
	return s
}

// uploads calls fn for every unfinished upload of a key that begins with one of the prefixes.
func (b *Bucket) uploads(ctx context.Context, prefixes []string, fn func(upload) error) error {
	for _, prefix := range prefixes {
		in := &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
		for {
			page, err := b.client.ListMultipartUploads(ctx, in)
			if err != nil {
				return fault(err)
			}
			for _, u := range page.Uploads {
				if err := fn(upload{*decoded(u.Key, page.EncodingType), aws.ToString(u.UploadId), aws.ToTime(u.Initiated)}); err != nil {
					return err
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				break
			}
			in.KeyMarker, in.UploadIdMarker = decoded(page.NextKeyMarker, page.EncodingType), page.NextUploadIdMarker
		}
	}
	return nil
}
