package s3

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Nobody can read what is in an unfinished upload, its tags or its metadata: the parts are an object only once it is
// completed (https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html). Where the key does not name its
// owner, an upload that was under way while an erasure ran may bring the subject's records back after it. So Erase notes
// such uploads among the keys of the Journal, or aborts them from the age that the map gives; Verify says which of those
// noted are still under way. What one becomes is an object that is searched like any other. An upload begun later is a
// later write.

// abortUploads is the setting of an entity.
const abortUploads = "abort_uploads"

// blindUploads tells whether uploads of the entity may hold what is somebody's whom their key does not name.
func (e *entity) blindUploads() bool {
	return e.Keep == nil && (e.searched() || slices.ContainsFunc(e.props, func(p property) bool { return p.identifier != "" }))
}

// underHold tells whether a hold reaches the entity at all: nobody knows whose data an upload has.
func (p *pass) underHold() bool {
	return len(p.held.batch) > 0 || slices.ContainsFunc(p.holds.Entities, func(f connectors.Frozen) bool { return f.Entity == p.e.Name })
}

// old reports whether an upload is to be aborted by its age.
func (p *pass) old(u upload) bool {
	return p.e.abort > 0 && !u.Begun.Add(p.e.abort).After(p.b.now())
}

// unread calls fn for every unfinished upload of the entity that its key gives to nobody of the batch.
func (p *pass) unread(ctx context.Context, fn func(upload) error) error {
	return p.b.uploads(ctx, []string{p.e.pattern.prefix}, func(u upload) error {
		key, ok := p.e.pattern.Match(u.Key)
		if !ok || len(p.e.owners(p.people, key, nil)) > 0 {
			return nil
		}
		return fn(u)
	})
}

// notedUpload is an upload as it stands among the keys of a Journal.
type notedUpload struct{ Key, Upload string }

// noteUploads notes the uploads that are under way and returns those to be aborted.
func (w *work) noteUploads(ctx context.Context, p *pass) ([]victim, error) {
	if !p.e.blindUploads() {
		return nil, nil
	}
	var old []victim
	var noted []connectors.Key
	err := p.unread(ctx, func(u upload) error {
		if p.old(u) && !p.underHold() {
			v := victim{Key: u.Key, Upload: u.ID}
			for _, s := range p.people.batch {
				v.Refs = append(v.Refs, s.Ref)
			}
			old = append(old, v)
			return nil
		}
		k, err := json.Marshal(notedUpload{u.Key, u.ID})
		noted = append(noted, connectors.Key(k))
		return err
	})
	if err != nil || len(noted) == 0 {
		return old, err
	}
	for _, s := range p.people.batch {
		if err := w.journal.Spool(ctx, s.Ref, p.e.Name, noted); err != nil {
			return nil, err
		}
	}
	return old, nil
}

// uploads reports the noted uploads that are still under way.
func (v *verifying) uploads(ctx context.Context, p *pass, keys connectors.Keys) error {
	if !p.e.blindUploads() {
		return nil
	}
	noted := map[notedUpload][]int{} // to whom
	err := keys.Each(ctx, p.e.Name, func(ref string, page []connectors.Key) error {
		i := slices.IndexFunc(p.people.batch, func(s connectors.Subject) bool { return s.Ref == ref })
		for _, k := range page {
			var u notedUpload
			if err := json.Unmarshal([]byte(k), &u); err != nil {
				return connectors.Permanent(dsr.CodeInvalid, "the noted uploads cannot be read", "Retry the request.", nil)
			}
			if i >= 0 && !slices.Contains(noted[u], i) {
				noted[u] = append(noted[u], i)
			}
		}
		return nil
	})
	if err != nil || len(noted) == 0 {
		return err
	}
	return p.unread(ctx, func(u upload) error {
		for _, i := range noted[notedUpload{u.Key, u.ID}] {
			switch {
			case p.underHold():
				v.report(p, i, "", 1, &dsr.Exception{Cause: dsr.CauseHold})
			case p.old(u):
				v.report(p, i, "", 1, nil)
			case p.e.abort > 0:
				ends := u.Begun.Add(p.e.abort)
				v.report(p, i, "", 1, &dsr.Exception{Cause: dsr.CauseUpload, Ends: &ends})
			default:
				v.report(p, i, "", 1, &dsr.Exception{Cause: dsr.CauseUpload})
			}
		}
		return nil
	})
}
