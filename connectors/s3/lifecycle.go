package s3

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// abortAfter is how many days an upload may stay unfinished under a lifecycle rule of Lethe's.
const abortAfter = 7

// checkLifecycle refuses a rule that no lifecycle rule of a bucket can say.
func (e *entity) checkLifecycle(r connectors.Rule) error {
	if !e.pattern.wholePrefix() {
		return invalid("", "expire takes a prefix and all below it: a lifecycle rule of a bucket knows no other pattern", "Write objects: events/**, or action: delete.")
	}
	if days(r.Class.Period) < 1 {
		return invalid("", "expire needs a period of a day at least", "Write action: delete.")
	}
	return nil
}

// days is the longest that a period can be: a bucket counts days, and nothing may go before its time.
func days(p retention.Period) int32 { return int32(366*p.Years + 31*p.Months + p.Days) }

// lifecycleID is what the lifecycle rule of a rule of the map is called.
func lifecycleID(r connectors.Rule) string { return "lethe-" + r.Name }

// lifecycleRule is what a rule of the map is as a lifecycle rule. A replaced version goes the day after it was replaced:
// its own time cannot be told, only how long it has been noncurrent, so that it would otherwise stay for a second period;
// a statutory minimum is kept.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
func (e *entity) lifecycleRule(r connectors.Rule) types.LifecycleRule {
	n := days(r.Class.Period)
	return types.LifecycleRule{
		ID: aws.String(lifecycleID(r)), Status: types.ExpirationStatusEnabled,
		Filter:                         &types.LifecycleRuleFilter{Prefix: aws.String(e.pattern.prefix)},
		Expiration:                     &types.LifecycleExpiration{Days: aws.Int32(n)},
		NoncurrentVersionExpiration:    &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(max(1, days(r.Class.Minimum)))},
		AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(min(n, abortAfter))},
	}
}

// same reports whether a lifecycle rule says what is wanted, and nothing more.
func same(want, have types.LifecycleRule) bool {
	plain := have.Filter == nil || have.Filter.And == nil && have.Filter.Tag == nil && have.Filter.ObjectSizeGreaterThan == nil && have.Filter.ObjectSizeLessThan == nil
	return plain && want.Status == have.Status && prefixOf(want) == prefixOf(have) &&
		have.Expiration != nil && aws.ToInt32(want.Expiration.Days) == aws.ToInt32(have.Expiration.Days) &&
		have.NoncurrentVersionExpiration != nil && have.NoncurrentVersionExpiration.NewerNoncurrentVersions == nil &&
		aws.ToInt32(want.NoncurrentVersionExpiration.NoncurrentDays) == aws.ToInt32(have.NoncurrentVersionExpiration.NoncurrentDays) &&
		have.AbortIncompleteMultipartUpload != nil &&
		aws.ToInt32(want.AbortIncompleteMultipartUpload.DaysAfterInitiation) == aws.ToInt32(have.AbortIncompleteMultipartUpload.DaysAfterInitiation)
}

// compareLifecycle reports a rule of the map that the bucket does not carry out.
func (c *checking) compareLifecycle(e *entity, r connectors.Rule, have []types.LifecycleRule) {
	if r.Action != retention.Expire {
		return
	}
	want := e.lifecycleRule(r)
	if !slices.ContainsFunc(have, func(h types.LifecycleRule) bool { return aws.ToString(h.ID) == *want.ID && same(want, h) }) {
		c.add("lifecycle-differs", connectors.Warning, e.Name, fmt.Sprintf("the bucket has no lifecycle rule %q that deletes after %d days", *want.ID, *want.Expiration.Days),
			"The next sweep of the rule sets it.")
	}
}

// setLifecycle is a Sweep of a rule that leaves the deleting to the bucket: it compares the bucket's lifecycle rule with
// the rule and sets it where it differs. Rules of others stay as they are. While a hold reaches the entity the bucket's rule
// is disabled, for a bucket knows of no holds.
func (b *Bucket) setLifecycle(ctx context.Context, e *entity, j connectors.SweepJob) (connectors.SweepMeasures, error) {
	var m connectors.SweepMeasures
	held, err := b.reached(ctx, e, j.Held)
	if err != nil {
		return m, err
	}
	want := e.lifecycleRule(j.Rule)
	if held > 0 {
		want.Status = types.ExpirationStatusDisabled
	}
	intent := func() error { // what is set next must not miss a hold that was placed meanwhile
		if err := j.Journal.Save(ctx, []byte("{}"), nil); err != nil {
			return err
		}
		j.Journal.Step(StepIntent)
		return ctx.Err()
	}
	set, err := b.putRule(ctx, want, intent)
	if set {
		m.Transactions++
	}
	if err != nil {
		return m, err
	}
	var done []connectors.Tally
	if held > 0 {
		done = []connectors.Tally{{Entity: e.Name, Method: dsr.Held, Rows: held}}
	}
	return m, j.Journal.Save(ctx, []byte("{}"), done)
}

// putRule puts one lifecycle rule among the bucket's where it is not as wanted, and looks whether it took: somebody else
// may set the bucket's rules at the same moment, and they are set all together. before is called before each put.
func (b *Bucket) putRule(ctx context.Context, want types.LifecycleRule, before func() error) (set bool, err error) {
	for range mostConflicts {
		rules, size, err := b.lifecycleRules(ctx)
		if err != nil {
			return set, err
		}
		i := slices.IndexFunc(rules, func(r types.LifecycleRule) bool { return aws.ToString(r.ID) == *want.ID })
		if i >= 0 && same(want, rules[i]) {
			return set, nil
		}
		if i >= 0 {
			rules[i] = want
		} else {
			rules = append(rules, want)
		}
		if err := before(); err != nil {
			return set, err
		}
		_, err = b.client.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
			Bucket: &b.name, TransitionDefaultMinimumObjectSize: size, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules},
		})
		if err != nil && !isConflict(err) {
			return set, fault(err)
		}
		set = true
	}
	return set, &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the bucket does not keep its lifecycle rule", Hint: "Somebody else may be setting the bucket's rules: they are set all together."}
}

// Heed disables a rule's lifecycle rule while a hold may cover something that it deletes. See [connectors.Heeder].
func (b *Bucket) Heed(ctx context.Context, j connectors.HeedJob) (connectors.Heeded, error) {
	var out connectors.Heeded
	e := b.entity(j.Entity)
	if e == nil || j.Held.Empty() {
		return out, nil
	}
	rules, _, err := b.lifecycleRules(ctx)
	if err != nil {
		if j.Rule == nil && connectors.IsPermanent(err) { // the server has none, or the role may not ask: Check says so
			err = nil
		}
		return out, err
	}
	rules = slices.DeleteFunc(rules, func(r types.LifecycleRule) bool { return !e.deletedBy(r) })
	if len(rules) == 0 {
		return out, nil
	}
	held, err := j.MayHold(ctx, func(ctx context.Context) (bool, error) {
		n, err := b.reached(ctx, e, j.Held)
		return n > 0, err
	})
	if err != nil || !held {
		return out, err
	}
	for _, r := range rules {
		if j.Rule == nil || aws.ToString(r.ID) != lifecycleID(*j.Rule) {
			out.Stay = append(out.Stay, fmt.Sprintf("the lifecycle rule %q", aws.ToString(r.ID)))
			continue
		}
		want := e.lifecycleRule(*j.Rule)
		want.Status = types.ExpirationStatusDisabled
		if out.Lifted, err = b.putRule(ctx, want, ctx.Err); err != nil {
			return out, err
		}
	}
	return out, nil
}

// deletedBy reports whether a lifecycle rule of the bucket may delete something of the entity's.
func (e *entity) deletedBy(r types.LifecycleRule) bool {
	deletes := r.Expiration != nil && (r.Expiration.Days != nil || r.Expiration.Date != nil) || r.NoncurrentVersionExpiration != nil
	prefix := prefixOf(r)
	return deletes && r.Status == types.ExpirationStatusEnabled &&
		(strings.HasPrefix(prefix, e.pattern.prefix) || strings.HasPrefix(e.pattern.prefix, prefix))
}

// prefixOf is the prefix of the keys that a lifecycle rule is about.
func prefixOf(r types.LifecycleRule) string {
	switch {
	case r.Filter != nil && r.Filter.Prefix != nil:
		return *r.Filter.Prefix
	case r.Filter != nil && r.Filter.And != nil:
		return aws.ToString(r.Filter.And.Prefix)
	}
	return aws.ToString(r.Prefix) //nolint:staticcheck // some servers answer in the form from before Filter
}

func (b *Bucket) lifecycleRules(ctx context.Context) ([]types.LifecycleRule, types.TransitionDefaultMinimumObjectSize, error) {
	out, err := b.client.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &b.name})
	switch {
	case err == nil:
		return out.Rules, out.TransitionDefaultMinimumObjectSize, nil
	case codeOf(err) == "NoSuchLifecycleConfiguration":
		return nil, "", nil
	case isUnsupported(err):
		return nil, "", connectors.Permanent(dsr.CodeInvalid, "the server has no lifecycle rules", "Write action: delete.", nil)
	}
	return nil, "", fault(err)
}

// reached counts what of an entity holds cover: versions that belong to somebody held, or records; all when the entity is
// held itself. What cannot be read may be held, and counts as one.
func (b *Bucket) reached(ctx context.Context, e *entity, h connectors.Holds) (int64, error) {
	frozen := slices.ContainsFunc(h.Entities, func(f connectors.Frozen) bool { return f.Entity == e.Name })
	batch := members(e, h.Subjects)
	if !frozen && len(batch) == 0 {
		return 0, nil
	}
	l := newLocating(b.newPass(e, batch, connectors.Holds{}, locks{}), "", true)
	if err := l.run(ctx); connectors.IsPermanent(err) {
		return 1, nil
	} else if err != nil {
		return 0, err
	}
	if frozen {
		return max(1, l.total), nil
	}
	var n int64
	for _, c := range l.counts {
		n += c.Rows
	}
	return n, nil
}
