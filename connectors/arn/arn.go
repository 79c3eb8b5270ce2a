// Package arn says in words what an Amazon resource name names, for people who read a plan or a certificate.
package arn

import "strings"

// kinds are what a service's resources are called.
var kinds = map[string]string{
	"events":   "EventBridge event bus",
	"firehose": "Firehose stream",
	"kinesis":  "Kinesis stream",
	"lambda":   "Lambda function",
	"logs":     "CloudWatch Logs destination",
	"s3":       "S3 bucket",
	"sns":      "SNS topic",
	"sqs":      "SQS queue",
}

// prefixes stand before a resource's name, where its service puts one.
var prefixes = []string{"function:", "deliverystream/", "stream/", "destination:", "event-bus/"}

// Words returns the kind and the name: "SQS queue orders". Of the account nothing is said but that it is another one than
// home; an empty home is unknown. What is not an ARN comes back as it is.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
func Words(arn, home string) string {
	parts := strings.SplitN(arn, ":", 6) // arn:partition:service:region:account:resource
	if len(parts) < 6 || parts[0] != "arn" {
		return arn
	}
	service, account, name := parts[2], parts[4], parts[5]
	for _, p := range prefixes {
		name = strings.TrimPrefix(name, p)
	}
	kind := kinds[service]
	if kind == "" {
		kind = service
	}
	if home != "" && account != "" && account != home {
		return kind + " " + name + " of another AWS account"
	}
	return kind + " " + name
}

// Account is the account that an ARN names; empty where it names none.
func Account(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	return ""
}
