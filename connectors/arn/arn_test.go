package arn_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors/arn"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ arn, home, want string }{
		{"arn:aws:sqs:eu-north-1:123456789012:orders", "", "SQS queue orders"},
		{"arn:aws:sqs:eu-north-1:123456789012:orders", "123456789012", "SQS queue orders"},
		{"arn:aws:sns:eu-north-1:210987654321:orders", "123456789012", "SNS topic orders of another AWS account"},
		{"arn:aws:lambda:eu-north-1:123456789012:function:resize:live", "", "Lambda function resize:live"},
		{"arn:aws-cn:s3:::example-copy", "123456789012", "S3 bucket example-copy"},
		{"arn:aws:firehose:eu-north-1:123456789012:deliverystream/lake", "", "Firehose stream lake"},
		{"arn:aws:kinesis:eu-north-1:123456789012:stream/lake", "", "Kinesis stream lake"},
		{"arn:aws:logs:eu-north-1:123456789012:destination:audit", "", "CloudWatch Logs destination audit"},
		{"arn:aws:states:eu-north-1:123456789012:stateMachine:x", "", "states stateMachine:x"},
		{"https://queue.example.com/q", "", "https://queue.example.com/q"},
	} {
		require.Equal(t, c.want, arn.Words(c.arn, c.home))
	}
	require.Equal(t, "123456789012", arn.Account("arn:aws:logs:eu-north-1:123456789012:log-group:/shop/web:*"))
	require.Empty(t, arn.Account("/shop/web"))
}
