package s3

import (
	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Chunks makes chunks of so many versions, and of hardly any bytes.
func (b *Bucket) Chunks(keys int) { b.sizes.keys, b.sizes.bytes = keys, int64(keys)*1000 }

// Parts makes objects above the size be written in parts of so many bytes.
func (b *Bucket) Parts(above, part int64) { b.sizes.multipart, b.sizes.part = above, part }

func person(id string) connectors.Batch {
	return connectors.Batch{{Ref: "s", Identifiers: []dsr.Identifier{{Name: "user_id", Value: dsr.NewSecret(id)}}}}
}
