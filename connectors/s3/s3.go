// Package s3 is the connector of buckets: AWS, or any S3 API by endpoint.
package s3

import "github.com/aws/aws-sdk-go-v2/service/s3"

// Bucket is the connector of one bucket.
type Bucket struct{ client *s3.Client }
