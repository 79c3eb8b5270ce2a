package s3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lethe-gdpr/lethe/connectors"
)

// sample bounds how many keys of an entity Check looks at.
const sample = 5000

// Check reports what of the bucket would keep copies, hold back deletes or hear of rewritten objects; see
// [connectors.Connector]. A setting that the server does not know, or that the role may not read, is a warning: it is
// not known that nothing is there.
func (b *Bucket) Check(ctx context.Context) ([]connectors.Finding, error) {
	c := &checking{b: b}
	for _, look := range []struct {
		what string
		fn   func(context.Context) error
	}{
		{"versioning", c.versioning},
		{"Object Lock", c.objectLock},
		{"replication", c.replication},
		{"lifecycle rules", c.lifecycle},
		{"event notifications", c.notifications},
		{"access logging", c.logging},
		{"object ownership", c.ownership},
	} {
		if err := c.setting(look.what, look.fn(ctx)); err != nil {
			return nil, err
		}
	}
	for i, e := range b.entities {
		for _, other := range b.entities[:i] {
			if e.pattern.Overlaps(other.pattern.Glob) { // each erases and sweeps by its own words, and holds its own
				c.add(connectors.FindTwoEntities, connectors.Error, e.Name, "a key may belong to "+other.Name+" too", "Write patterns that do not overlap.")
			}
		}
		if err := c.entity(ctx, e); err != nil {
			return nil, err
		}
	}
	return c.found, c.unmapped(ctx)
}

type checking struct {
	b     *Bucket
	found []connectors.Finding
}

func (c *checking) add(code string, s connectors.Severity, entity, msg, hint string) {
	c.found = append(c.found, connectors.Finding{Code: code, Severity: s, Entity: entity, Message: msg, Hint: hint})
}

// setting turns a setting that cannot be read into a finding.
func (c *checking) setting(what string, err error) error {
	switch {
	case err == nil, isMissing(err):
		return nil
	case isUnsupported(err):
		c.add("unknown-setting", connectors.Warning, "", "the server does not say whether the bucket has "+what, "See for yourself that nothing of the kind keeps or copies objects.")
		return nil
	case isDenied(err):
		c.add("unreadable-setting", connectors.Warning, "", "the role may not read the bucket's "+what, "Compare its policy with what lethe grants prints.")
		return nil
	}
	return fault(err)
}

func (c *checking) versioning(ctx context.Context) error {
	out, err := c.b.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &c.b.name})
	if err == nil && out.MFADelete == types.MFADeleteStatusEnabled {
		c.add("mfa-delete", connectors.Error, "", "MFA delete is on: only the bucket's root account can delete versions, and every erasure waits for that", "Turn MFA delete off, or let the root account delete.")
	}
	return err
}

func (c *checking) objectLock(ctx context.Context) error {
	out, err := c.b.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &c.b.name})
	if codeOf(err) == "InvalidRequest" { // as some servers say where it is off
		return nil
	}
	if err != nil || out.ObjectLockConfiguration == nil {
		return err
	}
	msg := "Object Lock is on: a version under a retention date or a legal hold stays until that ends, and so does the request"
	if r := out.ObjectLockConfiguration.Rule; r != nil && r.DefaultRetention != nil {
		d := r.DefaultRetention
		period := fmt.Sprintf("%d days", aws.ToInt32(d.Days))
		if d.Years != nil {
			period = fmt.Sprintf("%d years", *d.Years)
		}
		msg += fmt.Sprintf("; every new version, rewritten ones too, is locked for %s (%s)", period, strings.ToLower(string(d.Mode)))
	}
	c.add("object-lock", connectors.Warning, "", msg, "Lethe has no right to bypass governance mode, and takes none.")
	return nil
}

func (c *checking) replication(ctx context.Context) error {
	to, err := c.b.replicas(ctx)
	for _, name := range to {
		c.add("replication", connectors.Warning, "", "the bucket replicates to the "+name+"; deletes of versions are not replicated",
			"Map the destination as a system of its own, or name it in copies.")
	}
	return err
}

func (c *checking) lifecycle(ctx context.Context) error {
	out, err := c.b.client.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &c.b.name})
	if err != nil {
		return err
	}
	for _, r := range out.Rules {
		if r.Status != types.ExpirationStatusEnabled {
			continue
		}
		var classes []string
		for _, t := range r.Transitions {
			classes = append(classes, string(t.StorageClass))
		}
		for _, t := range r.NoncurrentVersionTransitions {
			classes = append(classes, string(t.StorageClass))
		}
		if slices.Contains(classes, string(types.StorageClassGlacier)) || slices.Contains(classes, string(types.StorageClassDeepArchive)) {
			c.add("lifecycle-archives", connectors.Warning, "", fmt.Sprintf("the lifecycle rule %q moves objects to an archive, where they cannot be searched", aws.ToString(r.ID)),
				"Records in archived objects wait until somebody restores them.")
		}
	}
	for _, e := range c.b.entities {
		for _, rule := range e.Rules {
			c.compareLifecycle(e, rule, out.Rules)
		}
	}
	return nil
}

func (c *checking) notifications(ctx context.Context) error {
	to, err := c.b.listeners(ctx)
	if len(to) > 0 {
		c.add("event-notifications", connectors.Warning, "",
			"the bucket sends event notifications ("+strings.Join(to, ", ")+"): a rewritten object is a new one to who listens, and may be copied again",
			"Have listeners leave out what Lethe's role wrote, or name what they copy in copies.")
	}
	return err
}

func (c *checking) logging(ctx context.Context) error {
	out, err := c.b.client.GetBucketLogging(ctx, &s3.GetBucketLoggingInput{Bucket: &c.b.name})
	if err == nil && out.LoggingEnabled != nil {
		c.add("access-logging", connectors.Warning, "", "the bucket writes access logs to "+aws.ToString(out.LoggingEnabled.TargetBucket)+": keys stand in them",
			"Where keys hold identifiers, map the log's bucket too, or name it in copies.")
	}
	return err
}

func (c *checking) ownership(ctx context.Context) error {
	out, err := c.b.client.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: &c.b.name})
	if err != nil || out.OwnershipControls == nil {
		return err
	}
	for _, r := range out.OwnershipControls.Rules {
		if r.ObjectOwnership == types.ObjectOwnershipObjectWriter {
			c.add("object-ownership", connectors.Warning, "", "objects belong to the account that writes them: a rewritten object is of Lethe's account",
				"Set the bucket's object ownership to BucketOwnerEnforced or BucketOwnerPreferred.")
		}
	}
	return nil
}

// entity looks at the first keys of an entity.
func (c *checking) entity(ctx context.Context, e *entity) error {
	seen, fit, archived := 0, 0, 0
	err := c.b.walk(ctx, []string{e.pattern.prefix}, "", func(o object) error {
		if _, ok := e.pattern.Match(o.Key); ok {
			fit++
			for _, v := range o.Versions {
				if v.Class == string(types.StorageClassGlacier) || v.Class == string(types.StorageClassDeepArchive) {
					archived++
				}
			}
		}
		if seen++; seen >= sample {
			return errFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFull) {
		return err
	}
	if fit == 0 {
		c.add("no-objects", connectors.Warning, e.Name, "no key fits the pattern", "Check objects: it is compared with the whole key.")
	}
	if archived > 0 && (e.layout != nil || len(e.props) > 0) {
		c.add("archived", connectors.Warning, e.Name, fmt.Sprintf("%d of the first versions are archived: what is in them cannot be searched", archived),
			"Restore them before a request, or map their prefix as whole objects.")
	}
	if !e.blindUploads() {
		return nil
	}
	n := 0
	err = c.b.uploads(ctx, []string{e.pattern.prefix}, func(u upload) error {
		if _, ok := e.pattern.Match(u.Key); ok {
			n++
		}
		return nil
	})
	if n > 0 {
		c.add("unfinished-uploads", connectors.Warning, e.Name, fmt.Sprintf("%d multipart uploads are unfinished: nobody can see whose records are in them", n),
			"Erasures wait for them: set abort_uploads, or a lifecycle rule that aborts them after some days.")
	}
	return err
}

// unmapped names what lies in the bucket and under no entity, by the part of the key before the first slash.
func (c *checking) unmapped(ctx context.Context) error {
	schema, err := c.b.Describe(ctx)
	for _, s := range schema.Entities {
		if c.b.entity(s.Name) != nil {
			continue
		}
		if _, ignored := c.b.sys.Ignored[s.Name]; !ignored {
			c.add("unmapped-objects", connectors.Warning, s.Name, "objects that no entity covers", "Map them, or list the name under ignore with the reason.")
		}
	}
	return err
}
