package s3

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
)

// Describe lists the mapped entities with their declared fields, and what else lies at the top of the bucket: "name/"
// for keys that begin so, "/" for keys without a slash. Objects are not counted: a bucket does not say.
func (b *Bucket) Describe(ctx context.Context) (connectors.Schema, error) {
	var out connectors.Schema
	for _, e := range b.entities {
		s := connectors.EntitySchema{Name: e.Name}
		for _, f := range e.Fields {
			s.Columns = append(s.Columns, connectors.Column{Name: f.Name, Type: "field", Class: connectors.ClassText, Nullable: true})
		}
		out.Entities = append(out.Entities, s)
	}
	in := &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: aws.String(""), Delimiter: aws.String("/"), EncodingType: types.EncodingTypeUrl}
	loose := false
	for pages := s3.NewListObjectsV2Paginator(b.client, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return connectors.Schema{}, fault(err)
		}
		for _, p := range page.CommonPrefixes {
			if top := *decoded(p.Prefix, page.EncodingType); !b.covers(top) {
				out.Entities = append(out.Entities, connectors.EntitySchema{Name: shown(top)})
			}
		}
		for _, o := range page.Contents {
			key := *decoded(o.Key, page.EncodingType)
			loose = loose || !slices.ContainsFunc(b.entities, func(e *entity) bool { _, ok := e.pattern.Match(key); return ok })
		}
	}
	if loose {
		out.Entities = append(out.Entities, connectors.EntitySchema{Name: "/"})
	}
	slices.SortFunc(out.Entities, func(x, y connectors.EntitySchema) int { return cmp.Compare(x.Name, y.Name) })
	out.Entities = slices.CompactFunc(out.Entities, func(x, y connectors.EntitySchema) bool { return x.Name == y.Name })
	return out, nil
}

// covers reports whether some entity has keys below a prefix.
func (b *Bucket) covers(prefix string) bool {
	return slices.ContainsFunc(b.entities, func(e *entity) bool {
		return strings.HasPrefix(e.pattern.prefix, prefix) || strings.HasPrefix(prefix, e.pattern.prefix)
	})
}

// shown is a prefix as a finding may name it: one that looks like a value stands as *.
func shown(prefix string) string {
	if strings.Contains(prefix, "@") || records.LongestNumber(prefix) > 4 {
		return "*/"
	}
	return prefix
}
