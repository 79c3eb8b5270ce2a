package cloudwatchlogs

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/arn"
	"github.com/lethe-gdpr/lethe/dsr"
)

// group is what the service says of a log group.
type group struct {
	name        string
	arn         string
	retention   int    // days; 0 keeps events for ever
	policy      string // account-level policy that the retention comes from
	protected   bool   // has or had a data protection policy, which masks what is read
	undeletable bool
	class       types.LogGroupClass
	bytes       int64
}

const (
	day = 24 * time.Hour
	// delay is how long events typically stay after their retention has ended, at most (API_PutRetentionPolicy).
	delay = 72 * time.Hour
)

// ends is when an event is gone; nil when the group keeps its events for ever.
func (g *group) ends(at time.Time) *time.Time {
	if g.retention == 0 {
		return nil
	}
	end := at.Add(time.Duration(g.retention)*day + delay)
	return &end
}

// group asks for one log group.
func (l *Logs) group(ctx context.Context, name string) (*group, error) {
	var found *group
	err := l.eachGroup(ctx, name, func(g *group) bool {
		if g.name == name {
			found = g
		}
		return found == nil && g.name <= name // sorted by name
	})
	if err == nil && found == nil {
		err = connectors.Permanent(CodeNoGroup, "the log group "+name+" does not exist",
			"correct the entity's group or the system's region", nil)
	}
	return found, err
}

// eachGroup calls fn for the groups whose names start with a prefix, by name, until it returns false.
func (l *Logs) eachGroup(ctx context.Context, prefix string, fn func(*group) bool) error {
	in := &cloudwatchlogs.DescribeLogGroupsInput{}
	if prefix != "" {
		in.LogGroupNamePrefix = &prefix
	}
	for {
		out, err := l.client.DescribeLogGroups(ctx, in)
		if err != nil {
			return classify("DescribeLogGroups", err)
		}
		for i := range out.LogGroups {
			g := &out.LogGroups[i]
			if !fn(&group{
				name: str(g.LogGroupName), arn: str(g.LogGroupArn), retention: int(num(g.RetentionInDays)),
				policy: str(g.RetentionPolicyName), protected: g.DataProtectionStatus != "",
				undeletable: g.DeletionProtectionEnabled != nil && *g.DeletionProtectionEnabled,
				class:       g.LogGroupClass, bytes: num(g.StoredBytes),
			}) {
				return nil
			}
		}
		if in.NextToken = out.NextToken; str(in.NextToken) == "" {
			return nil
		}
	}
}

// copies are where a group's events are shipped to as they arrive.
func (l *Logs) copies(ctx context.Context, name string) ([]dsr.Copy, error) {
	in := &cloudwatchlogs.DescribeSubscriptionFiltersInput{LogGroupName: &name}
	var out []dsr.Copy
	home := ""
	for {
		page, err := l.client.DescribeSubscriptionFilters(ctx, in)
		if err != nil {
			return nil, classify("DescribeSubscriptionFilters", err)
		}
		if len(page.SubscriptionFilters) > 0 && home == "" {
			g, err := l.group(ctx, name)
			if err != nil {
				return nil, err
			}
			home = arn.Account(g.arn)
		}
		for _, f := range page.SubscriptionFilters {
			out = append(out, dsr.Copy{
				System: l.sys.Name, What: "subscription " + str(f.FilterName) + " of the log group " + name, Recipient: arn.Words(str(f.DestinationArn), home),
			})
		}
		if in.NextToken = page.NextToken; str(in.NextToken) == "" {
			return out, nil
		}
	}
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func num[N int32 | int64](n *N) int64 {
	if n == nil {
		return 0
	}
	return int64(*n)
}
