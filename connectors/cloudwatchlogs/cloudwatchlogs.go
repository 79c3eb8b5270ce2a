// Package cloudwatchlogs is the connector of Amazon CloudWatch Logs.
package cloudwatchlogs

import "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

// Logs is the connector of the log groups of one account and region.
type Logs struct{ client *cloudwatchlogs.Client }
