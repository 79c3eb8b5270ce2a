package s3

import (
	"context"
	"fmt"
	"slices"

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

// lifecycleRule is what a rule of the map is as a lifecycle rule. A replaced version goes the day after it was replaced:
// its own time cannot be told, only how long it has been noncurrent, so that it would otherwise stay for a second period;
// a statutory minimum is kept.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
func (e *entity) lifecycleRule(r connectors.Rule) types.LifecycleRule {
	n := days(r.Class.Period)
	return types.LifecycleRule{
		ID: aws.String("lethe-" + r.Name), Status: types.ExpirationStatusEnabled,
		Filter:                         &types.LifecycleRuleFilter{Prefix: aws.String(e.pattern.prefix)},
		Expiration:                     &types.LifecycleExpiration{Days: aws.Int32(n)},
		NoncurrentVersionExpiration:    &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(max(1, days(r.Class.Minimum)))},
		AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(min(n, abortAfter))},
	}
}

// same reports whether a lifecycle rule says what is wanted, and nothing more.
func same(want, have types.LifecycleRule) bool {
	prefix := func(r types.LifecycleRule) string {
		if r.Filter != nil && r.Filter.Prefix != nil {
			return *r.Filter.Prefix
		}
		return aws.ToString(r.Prefix) //nolint:staticcheck // some servers answer in the form from before Filter
	}
	plain := have.Filter == nil || have.Filter.And == nil && have.Filter.Tag == nil && have.Filter.ObjectSizeGreaterThan == nil && have.Filter.ObjectSizeLessThan == nil
	return plain && want.Status == have.Status && prefix(want) == prefix(have) &&
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
	for range mostConflicts {
		rules, size, err := b.lifecycleRules(ctx)
		if err != nil {
			return m, err
		}
		i := slices.IndexFunc(rules, func(r types.LifecycleRule) bool { return aws.ToString(r.ID) == *want.ID })
		if i >= 0 && same(want, rules[i]) {
			var done []connectors.Tally
			if held > 0 {
				done = []connectors.Tally{{Entity: e.Name, Method: dsr.Held, Rows: held}}
			}
			return m, j.Journal.Save(ctx, []byte("{}"), done)
		}
		if i >= 0 {
			rules[i] = want
		} else {
			rules = append(rules, want)
		}
		j.Journal.Step(StepIntent)
		if err := ctx.Err(); err != nil {
			return m, err
		}
		_, err = b.client.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
			Bucket: &b.name, TransitionDefaultMinimumObjectSize: size, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules},
		})
		if err != nil && !isConflict(err) {
			return m, fault(err)
		}
		m.Transactions++
	} // read again: somebody else may have set the bucket's rules at the same moment
	return m, &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the bucket does not keep its lifecycle rule", Hint: "Somebody else may be setting the bucket's rules: they are set all together."}
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
// held itself.
func (b *Bucket) reached(ctx context.Context, e *entity, h connectors.Holds) (int64, error) {
	frozen := slices.ContainsFunc(h.Entities, func(f connectors.Frozen) bool { return f.Entity == e.Name })
	batch := members(e, h.Subjects)
	if !frozen && len(batch) == 0 {
		return 0, nil
	}
	l := newLocating(b.newPass(e, batch, connectors.Holds{}, locks{}), "", true)
	if err := l.run(ctx); err != nil {
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
