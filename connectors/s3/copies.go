package s3

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lethe-gdpr/lethe/connectors/arn"
	"github.com/lethe-gdpr/lethe/dsr"
)

// copies are where the bucket hands objects on to: what replicates from it, and who hears of each object that is written
// or removed, a rewritten one too, and may copy it. What the server does not know has none; what the role may not read is
// a finding of Check.
func (b *Bucket) copies(ctx context.Context) ([]dsr.Copy, error) {
	var out []dsr.Copy
	replicas, err := b.replicas(ctx)
	if err != nil && !isMissing(err) && !isUnsupported(err) && !isDenied(err) {
		return nil, fault(err)
	}
	for _, to := range replicas {
		out = append(out, dsr.Copy{System: b.sys.Name, What: "replication of the bucket " + b.name, Recipient: to})
	}
	listeners, err := b.listeners(ctx)
	if err != nil && !isMissing(err) && !isUnsupported(err) && !isDenied(err) {
		return nil, fault(err)
	}
	for _, to := range listeners {
		out = append(out, dsr.Copy{System: b.sys.Name, What: "event notification of the bucket " + b.name, Recipient: to})
	}
	return out, nil
}

// home is the account that owns the bucket; empty where the map does not say.
func (b *Bucket) home() string { return setting(b.sys, "expected_bucket_owner") }

// replicas names, in words, where the bucket replicates to.
func (b *Bucket) replicas(ctx context.Context) ([]string, error) {
	out, err := b.client.GetBucketReplication(ctx, &s3.GetBucketReplicationInput{Bucket: &b.name})
	if err != nil || out.ReplicationConfiguration == nil {
		return nil, err
	}
	var to []string
	for _, r := range out.ReplicationConfiguration.Rules {
		if r.Status == types.ReplicationRuleStatusEnabled && r.Destination != nil {
			to = append(to, arn.Words(aws.ToString(r.Destination.Bucket), b.home()))
		}
	}
	return to, nil
}

// listeners names, in words, who is sent event notifications.
func (b *Bucket) listeners(ctx context.Context) ([]string, error) {
	out, err := b.client.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &b.name})
	if err != nil {
		return nil, err
	}
	var to []string
	for _, c := range out.LambdaFunctionConfigurations {
		to = append(to, arn.Words(aws.ToString(c.LambdaFunctionArn), b.home()))
	}
	for _, c := range out.QueueConfigurations {
		to = append(to, arn.Words(aws.ToString(c.QueueArn), b.home()))
	}
	for _, c := range out.TopicConfigurations {
		to = append(to, arn.Words(aws.ToString(c.TopicArn), b.home()))
	}
	if out.EventBridgeConfiguration != nil {
		to = append(to, "Amazon EventBridge")
	}
	return to, nil
}
