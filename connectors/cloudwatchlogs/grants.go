package cloudwatchlogs

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/dsr"
)

type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid      string
	Effect   string
	Action   []string
	Resource []string
}

var identity = regexp.MustCompile(`^arn:(aws[a-z-]*):(?:iam|sts)::(\d{12}):\S+$`)

// Grants returns the IAM policy, to be attached to an identity, that gives it what the map's methods and rules need and
// no more. Principal is the identity's ARN, whose account the policy then names, or its name. It asks AWS nothing.
func (l *Logs) Grants(_ context.Context, principal string) (string, error) {
	if principal == "" {
		return "", refused("principal", "is missing", "write arn:aws:iam::123456789012:role/lethe")
	}
	partition, account := "aws", "*"
	if m := identity.FindStringSubmatch(principal); m != nil {
		partition, account = m[1], m[2]
	}
	arn := func(group, rest string) string {
		return strings.Join([]string{"arn", partition, "logs", l.region, account, "log-group", group, rest}, ":")
	}
	var search, streams, unmask, remove, retain []string
	for i := range l.entities {
		e := &l.entities[i]
		group := arn(e.group, "*")
		search, unmask = append(search, group), append(unmask, group)
		if e.pattern != nil {
			streams = append(streams, group)
			if e.Erase == dsr.Delete || sweeps(e) {
				remove = append(remove, arn(e.group, "log-stream:"+e.pattern.Prefix()+"*"))
			}
		}
		if e.expires() != nil {
			retain = append(retain, group)
		}
	}
	p := policy{Version: "2012-10-17"}
	allow := func(sid string, resources []string, actions ...string) {
		if len(resources) == 0 {
			return
		}
		slices.Sort(resources)
		p.Statement = append(p.Statement, statement{sid, "Allow", actions, slices.Compact(resources)})
	}
	// DescribeLogGroups lists groups, so it is granted on all of them.
	allow("List", []string{arn("*", "*")}, "logs:DescribeLogGroups")
	allow("Search", search, "logs:DescribeSubscriptionFilters", "logs:FilterLogEvents")
	allow("Unmask", unmask, "logs:Unmask") // has a meaning only where a data protection policy masks
	allow("ListStreams", streams, "logs:DescribeLogStreams")
	allow("DeleteStreams", remove, "logs:DeleteLogStream")
	allow("SetRetention", retain, "logs:PutRetentionPolicy", "logs:DeleteRetentionPolicy")
	b, err := json.MarshalIndent(p, "", "  ")
	return string(b) + "\n", err
}
