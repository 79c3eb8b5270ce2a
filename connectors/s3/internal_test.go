package s3

import (
	"context"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Chunks makes chunks of so many versions, and of hardly any bytes.
func (b *Bucket) Chunks(keys int) { b.sizes.keys, b.sizes.bytes = keys, int64(keys)*1000 }

// Parts makes objects above the size be written in parts of so many bytes.
func (b *Bucket) Parts(above, part int64) { b.sizes.multipart, b.sizes.part = above, part }

// Observe tells of every call of the API before it is sent.
func (b *Bucket) Observe(fn func(operation string, input any)) {
	o := b.client.Options()
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("observe", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			fn(awsmiddleware.GetOperationName(ctx), in.Parameters)
			return next.HandleInitialize(ctx, in)
		}), middleware.Before)
	})
	b.client = s3.New(o)
}

func person(id string) connectors.Batch {
	return connectors.Batch{{Ref: "s", Identifiers: []dsr.Identifier{{Name: "user_id", Value: dsr.NewSecret(id)}}}}
}
