package cloudwatchlogs

import (
	"context"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// A group that is deleted takes its events with it, so that nothing is left to erase or to find. That a group is not
// there says so only when the same account and Region had it: another one's credentials would show no group either, and
// a search there is none. An erasure therefore spools the ARN of every group that it has seen.

// see notes for [Logs.gone] that a group was there.
func see(ctx context.Context, e *entity, g *group, b connectors.Batch, j connectors.Journal) error {
	for _, s := range b {
		if err := j.Spool(ctx, s.Ref, e.Name, []connectors.Key{connectors.Key(g.arn)}); err != nil {
			return err
		}
	}
	return nil
}

// gone reports whether an error means that an entity's group was deleted after an erasure of everybody in the batch saw
// it. Where the account has no group at all by now nothing tells which account it is, and the answer is no.
func (l *Logs) gone(ctx context.Context, e *entity, b connectors.Batch, keys connectors.Keys, err error) (bool, error) {
	if dsr.CodeOf(err) != CodeNoGroup || keys == nil {
		return false, nil
	}
	here, there := "", false
	if err := l.eachGroup(ctx, "", func(g *group) bool {
		there, here = there || g.name == e.group, home(g.arn)
		return !there && g.name <= e.group // sorted by name
	}); err != nil || there || here == "" {
		return false, err
	}
	seen := map[string]bool{}
	if err := keys.Each(ctx, e.Name, func(subject string, keys []connectors.Key) error {
		for _, k := range keys {
			seen[subject] = seen[subject] || home(string(k)) == here
		}
		return nil
	}); err != nil {
		return false, err
	}
	for _, s := range b {
		if !seen[s.Ref] {
			return false, nil
		}
	}
	return true, nil
}

// home is the beginning of an ARN that names partition, service, Region and account; empty when it is none.
func home(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 || parts[4] == "" {
		return ""
	}
	return strings.Join(parts[:5], ":")
}
