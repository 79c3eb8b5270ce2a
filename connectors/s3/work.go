package s3

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// work is one call of Erase or Sweep. Its journal is used by one goroutine; objects are worked by several.
type work struct {
	b        *Bucket
	journal  connectors.Journal
	deadline time.Time
	stop     func() bool
	lock     locks
	most     int64 // rows that a Sweep may take; 0 is any number
	cp       checkpoint
	measures connectors.SweepMeasures
}

var errFull = errors.New("the chunk is full")

// collect lists the next chunk of an entity's keys: as many as one chunk takes, and for records as many bytes. last is
// the key up to which the list was read; end tells that it is the entity's last.
func (w *work) collect(ctx context.Context, p *pass, prefixes []string) (objects []object, last string, end bool, err error) {
	last = w.cp.After
	var bytes int64
	versions, seen := 0, 0
	err = w.b.walk(ctx, prefixes, w.cp.After, func(o object) error {
		last = o.Key
		seen++
		if _, ok := p.e.pattern.Match(o.Key); ok {
			objects = append(objects, o)
			versions += len(o.Versions)
			if p.finder != nil {
				for _, v := range o.Versions {
					bytes += v.Size
				}
			}
		}
		if versions >= w.b.sizes.keys || bytes >= w.b.sizes.bytes || seen%1000 == 0 && w.over() {
			return errFull
		}
		return nil
	})
	if errors.Is(err, errFull) {
		return objects, last, false, nil
	}
	return objects, last, true, err
}

// next are the keys of the next chunk, or those of the last one that others wrote to meanwhile.
func (w *work) next(ctx context.Context, p *pass, prefixes []string) (objects []object, last string, end bool, err error) {
	if len(w.cp.Again) == 0 {
		return w.collect(ctx, p, prefixes)
	}
	keys := slices.Compact(slices.Sorted(slices.Values(w.cp.Again)))
	for _, key := range keys {
		err := w.b.walkPrefix(ctx, key, "", func(o object) error {
			if o.Key == key {
				objects = append(objects, o)
			}
			return errFull // it is the first
		})
		if err != nil && !errors.Is(err, errFull) {
			return nil, "", false, err
		}
	}
	return objects, w.cp.Last, w.cp.End, nil
}

// look finds out, together, what the chunk's keys are to the batch; nil for one that does not fit the pattern. An object
// that cannot be read as the map says fails every member of the batch, for nobody knows whose records are in it; the
// other objects are worked.
func (w *work) look(ctx context.Context, p *pass, objects []object) ([]*surveyed, error) {
	seen := make([]*surveyed, len(objects))
	err := w.apart(ctx, p, objects, func(ctx context.Context, i int, o object) (err error) {
		seen[i], err = p.look(ctx, o)
		if err != nil {
			seen[i] = nil
		}
		return err
	})
	return seen, err
}

// apart calls fn for objects together. One that cannot be worked for good is a failure of its own; the others are worked.
func (w *work) apart(ctx context.Context, p *pass, objects []object, fn func(ctx context.Context, i int, o object) error) error {
	faults := make([]error, len(objects))
	err := each(ctx, p.workers, objects, func(ctx context.Context, i int, o object) error {
		err := fn(ctx, i, o)
		if connectors.IsPermanent(err) && dsr.CodeOf(err) != dsr.CodeForbidden {
			faults[i], err = err, nil
		}
		return err
	})
	for _, f := range faults {
		if f != nil {
			w.failAll(p, f)
		}
	}
	return err
}

func (w *work) failAll(p *pass, err error) {
	for _, s := range p.people.batch {
		w.cp.fail(s.Ref, p.e.Name, err, false)
	}
}

// leave counts a content that a Sweep cannot work, and returns its tally. err is permanent.
func (w *work) leave(p *pass, err error) connectors.Tally {
	_ = w.cp.Left.Note(err)
	return p.tally("", dsr.Failed, 1)[0]
}

// save makes what was done durable.
func (w *work) save(ctx context.Context, done []connectors.Tally) error {
	w.cp.Went += connectors.Taken(done)
	return save(ctx, w.journal, &w.cp, done)
}

func (w *work) over() bool { return w.b.over(w.deadline) || w.stop != nil && w.stop() }

// decided is what happens to the keys of a chunk.
type decided struct {
	rewrites []rewriting
	victims  []victim
	stays    []connectors.Tally // what is tallied though nothing has to be done for it any more: kept records
	left     connectors.Failures
}

func (d *decided) add(o decided) {
	d.rewrites, d.victims = append(d.rewrites, o.rewrites...), append(d.victims, o.victims...)
	for _, t := range o.stays {
		d.stays = tallied(d.stays, t)
	}
	d.left.Add(o.left...)
}

// rows are those that would go or change.
func (d *decided) rows() (n int64) {
	for _, r := range d.rewrites {
		n += connectors.Taken(r.Tallies)
	}
	for _, v := range d.victims {
		n += connectors.Taken(v.Tallies)
	}
	return n
}

// together lets what stays of a key be counted with its rewriting: a key that is looked at again is counted then.
func (d decided) together() decided {
	if len(d.rewrites) > 0 {
		d.rewrites[0].Stays, d.stays = d.stays, nil
		d.rewrites[0].Left, d.left = d.left, nil
	}
	return d
}

// chunk carries out what was decided for the keys up to last.
func (w *work) chunk(ctx context.Context, p *pass, d decided, last string, end bool) error {
	cp := &w.cp
	if w.most > 0 && cp.Went+d.rows() > w.most {
		return connectors.OverMost(p.e.Name)
	}
	rewrites, again, err := w.beginLarge(ctx, p, &d)
	if err != nil {
		return err
	}
	cp.Again, cp.Last, cp.End, cp.Stays = again, last, end, d.stays
	cp.Left.Add(d.left...)
	if len(rewrites)+len(d.victims) > 0 {
		began := w.b.now()
		cp.Open, cp.Rewrite, cp.Remove = true, rewrites, d.victims
		if err := w.save(ctx, nil); err != nil {
			return err
		}
		w.journal.Step(StepIntent)
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(rewrites) > 0 {
			if err := w.rewriteAll(ctx, p); err != nil {
				return err
			}
		}
		if err := w.removeAll(ctx, p, false); err != nil {
			return err
		}
		w.measures.Transactions++
		w.measures.Longest = max(w.measures.Longest, w.b.now().Sub(began))
	} else if err := w.finish(ctx, nil); err != nil {
		return err
	}
	if w.over() {
		return connectors.ErrYield
	}
	return nil
}

// removeAll is the last step of a chunk.
func (w *work) removeAll(ctx context.Context, p *pass, resolved bool) error {
	done, err := w.remove(ctx, p, resolved)
	if err != nil {
		return err
	}
	w.journal.Step(StepRemoved)
	return w.finish(ctx, done)
}

// finish moves on to the next chunk, or to those keys of this one that others wrote to meanwhile.
func (w *work) finish(ctx context.Context, done []connectors.Tally) error {
	cp := &w.cp
	for _, t := range cp.Stays {
		done = tallied(done, t)
	}
	cp.Open, cp.Remove, cp.Stays = false, nil, nil
	if len(cp.Again) > 0 {
		if cp.Conflicts++; cp.Conflicts > mostConflicts {
			cp.Conflicts = 0
			if err := w.save(ctx, done); err != nil {
				return err
			}
			return &dsr.Error{Code: dsr.CodeUnavailable, Msg: "others keep writing to an object of " + cp.Entity, Hint: "It is tried again."}
		}
		return w.save(ctx, done)
	}
	cp.After, cp.Uploads, cp.Conflicts = cp.Last, cp.End, 0
	return w.save(ctx, done)
}

// beginLarge opens the uploads of large objects before the intent is saved. It leaves out, and names, what others wrote
// meanwhile. One that a Sweep cannot begin is left.
func (w *work) beginLarge(ctx context.Context, p *pass, d *decided) (out []rewriting, again []string, err error) {
	for _, r := range d.rewrites {
		if w.b.large(r.Version) {
			err = w.b.begin(ctx, p.e, &r)
			switch {
			case errors.Is(err, errGone), errors.Is(err, errChanged):
				again = append(again, r.Key)
				continue
			case p.sweeps && connectors.IsPermanent(err):
				d.add(decided{stays: append(r.Stays, p.tally("", dsr.Failed, 1)...), left: r.Left})
				_ = d.left.Note(p.e.damaged(r.Key, r.Version, nil, err))
				continue
			case err != nil:
				return nil, nil, err
			}
		}
		out = append(out, r)
	}
	return out, again, nil
}

// rewriteAll carries out the chunk's rewritings, and saves what they did together with what has to go for it.
func (w *work) rewriteAll(ctx context.Context, p *pass) error {
	cp := &w.cp
	results := make([]rewritten, len(cp.Rewrite))
	faults := make([]error, len(cp.Rewrite))
	room := newBudget(w.b.sizes.budget)
	// each reads and writes at once: two connections
	err := each(ctx, max(1, p.workers/2), cp.Rewrite, func(ctx context.Context, i int, r rewriting) (err error) {
		need := r.Version.Size
		if r.Upload != "" {
			need = 2 * w.b.sizes.part
		}
		defer room.take(need)()
		results[i], err = w.b.rewrite(ctx, p.e, p.finderOf(r.Version), r)
		if connectors.IsPermanent(err) && ctx.Err() == nil {
			faults[i], err = p.e.damaged(r.Key, r.Version, p.people.batch, err), nil
		}
		return err
	})
	if err != nil {
		return err
	}
	var done []connectors.Tally
	for i, r := range cp.Rewrite {
		res := results[i]
		switch {
		case faults[i] != nil && p.sweeps:
			for _, t := range append(r.Stays, w.leave(p, faults[i])) {
				done = tallied(done, t)
			}
			cp.Left.Add(r.Left...)
		case faults[i] != nil:
			w.failAll(p, faults[i])
		case res.done:
			cp.Left.Add(r.Left...)
			for _, t := range append(p.counted(res.tallies), r.Stays...) {
				done = tallied(done, t)
			}
			w.measures.Bytes += res.bytes
			if res.id != nil && *res.id != r.Version.ID {
				cp.Remove = append(cp.Remove, replaced(r))
			}
		default:
			settled, old, err := w.settle(ctx, p, r)
			if err != nil {
				return err
			}
			for _, t := range settled {
				done = tallied(done, t)
			}
			cp.Remove, cp.Again = append(cp.Remove, old...), append(cp.Again, r.Key)
		}
	}
	w.journal.Step(StepRewritten)
	cp.Rewrite = nil
	if err := w.save(ctx, done); err != nil {
		return err
	}
	w.journal.Step(StepRemoving)
	return ctx.Err()
}

// replaced is the version that a rewriting replaced. It was tallied with the rewriting.
func replaced(r rewriting) victim {
	v := victim{Key: r.Key, ID: r.Version.ID}
	for _, t := range r.Tallies {
		v.Refs = append(v.Refs, t.Subject)
	}
	return v
}

// settle finds out what became of a rewriting that was interrupted, or whose answer was lost: what it was to change minus
// what is still present. The version that was read goes once another has taken its place.
func (w *work) settle(ctx context.Context, p *pass, r rewriting) (done []connectors.Tally, old []victim, err error) {
	present := map[hit]int64{}
	now, err := w.b.head(ctx, r.Key, version{})
	switch {
	case isMissing(err): // deleted, or a marker is on top
	case err != nil:
		return nil, nil, fault(err)
	case aws.ToString(now.ETag) == r.Version.ETag && (now.VersionId == nil || *now.VersionId == r.Version.ID || r.Version.ID == "null"):
		return nil, nil, nil
	default:
		v := version{ID: aws.ToString(now.VersionId), ETag: aws.ToString(now.ETag), Latest: true, Size: aws.ToInt64(now.ContentLength)}
		reading, err := w.b.scan(ctx, p.e, p.finderOf(r.Version), r.Key, v)
		if err != nil {
			return nil, nil, p.e.damaged(r.Key, v, p.people.batch, err)
		}
		if reading != nil {
			for _, t := range p.counted(reading.totals.Tallies) {
				present[hit{t.Subject, t.Method}] += t.Rows
			}
		}
	}
	for _, t := range r.Tallies {
		if t.Rows -= present[hit{t.Subject, t.Method}]; t.Rows > 0 {
			t.Resolved = true
			done = append(done, t)
		}
	}
	if r.Version.ID != "" && r.Version.ID != "null" || now != nil && now.VersionId != nil && *now.VersionId != "null" {
		old = append(old, replaced(r))
	}
	return done, old, nil
}

// resume settles the chunk that an interruption left open. Objects that were to be rewritten are looked at again.
func (w *work) resume(ctx context.Context, p *pass) error {
	cp := &w.cp
	if !cp.Open {
		return nil
	}
	if len(cp.Rewrite) > 0 {
		var done []connectors.Tally
		for _, r := range cp.Rewrite {
			if r.Upload != "" {
				w.b.abort(ctx, r.Key, r.Upload)
			}
			settled, old, err := w.settle(ctx, p, r)
			if err != nil {
				return err
			}
			for _, t := range settled {
				done = tallied(done, t)
			}
			cp.Remove, cp.Again = append(cp.Remove, old...), append(cp.Again, r.Key)
		}
		cp.Rewrite = nil
		if err := w.save(ctx, done); err != nil {
			return err
		}
		cp.Conflicts = 0
	}
	return w.removeAll(ctx, p, true)
}

// deleteMost is how many keys one DeleteObjects takes.
const deleteMost = 1000

// remove deletes the chunk's victims and returns what that was. Removing what is gone already is no failure; S3 does not
// say whether something was there, so two workers that do not know of each other may both count a version. One that cannot
// go fails its subjects and nobody else; a Sweep leaves it.
func (w *work) remove(ctx context.Context, p *pass, resolved bool) ([]connectors.Tally, error) {
	var done []connectors.Tally
	all := w.cp.Remove
	for len(all) > 0 {
		page := all[:min(deleteMost, len(all))]
		all = all[len(page):]
		faults, err := w.b.removePage(ctx, page)
		if err != nil {
			return nil, err
		}
		for i, v := range page {
			if faults[i] != nil {
				if p.sweeps {
					done = tallied(done, w.leave(p, faults[i]))
					continue
				}
				for _, ref := range v.Refs {
					w.cp.fail(ref, p.e.Name, faults[i], false)
				}
				continue
			}
			w.measures.Bytes += v.Size
			for _, t := range v.Tallies {
				t.Resolved = resolved
				done = tallied(done, t)
			}
		}
	}
	return done, nil
}

// removePage deletes up to a thousand. The answer has an error for each that cannot go; what may go at a second attempt
// is attempted again, and only that.
func (b *Bucket) removePage(ctx context.Context, page []victim) ([]error, error) {
	faults := make([]error, len(page))
	var left []int
	for i, v := range page {
		var err error
		switch {
		case v.Upload != "":
			_, err = b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: &v.Key, UploadId: &v.Upload})
		case v.ETag != "":
			_, err = b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &v.Key, IfMatch: &v.ETag})
			if isConflict(err) { // another's object by now, or one that Verify finds
				err = nil
			}
		default:
			if v.Hide {
				if _, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &v.Key}); err != nil {
					return nil, fault(err)
				}
			}
			left = append(left, i)
			continue
		}
		if err != nil && !isMissing(err) {
			if !isDenied(err) {
				return nil, fault(err)
			}
			faults[i] = fault(err)
		}
	}
	for attempt := 1; len(left) > 0; attempt++ {
		again, err := b.deleteVersions(ctx, page, left, faults)
		if err != nil {
			return nil, err
		}
		if left = again; len(left) > 0 && attempt == attempts {
			return nil, &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the server is too busy to delete", Hint: "It is tried again."}
		}
		if len(left) > 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Duration(attempt*attempt) * 100 * time.Millisecond):
			}
		}
	}
	return faults, nil
}

// deleteVersions sends one DeleteObjects for some of a page and returns those that are worth another attempt.
func (b *Bucket) deleteVersions(ctx context.Context, page []victim, which []int, faults []error) (again []int, err error) {
	type version struct{ key, id string }
	at := map[version]int{}
	in := &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &types.Delete{Quiet: aws.Bool(true)}}
	for _, i := range which {
		id := types.ObjectIdentifier{Key: &page[i].Key}
		if page[i].ID != "" {
			id.VersionId = &page[i].ID
		}
		in.Delete.Objects = append(in.Delete.Objects, id)
		at[version{page[i].Key, page[i].ID}] = i
	}
	out, err := b.client.DeleteObjects(ctx, in)
	if err != nil {
		return nil, fault(err)
	}
	for _, e := range out.Errors {
		i, ok := at[version{aws.ToString(e.Key), aws.ToString(e.VersionId)}]
		if !ok { // some servers leave the version out
			for v, n := range at {
				if v.key == aws.ToString(e.Key) {
					i, ok = n, true
				}
			}
		}
		if !ok {
			return nil, &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the server's answer to a delete names what was not asked"}
		}
		switch code := aws.ToString(e.Code); code {
		case "NoSuchKey", "NoSuchVersion":
		case "InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "503", "500":
			again = append(again, i)
		default:
			there, err := b.present(ctx, page[i])
			if err != nil {
				return nil, err
			}
			if !there { // some servers call that an error
				continue
			}
			faults[i] = connectors.Permanent(dsr.CodeForbidden, "a version cannot be deleted ("+code+")", "It may be locked since it was looked at, or the role may not delete versions.", nil)
		}
	}
	return again, nil
}

// present reports whether a version or a marker is still there.
func (b *Bucket) present(ctx context.Context, v victim) (bool, error) {
	_, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &v.Key, VersionId: &v.ID})
	switch {
	case err == nil, statusOf(err) == http.StatusMethodNotAllowed: // a marker answers so
		return true, nil
	case isMissing(err), statusOf(err) == http.StatusBadRequest:
		return false, nil
	case isDenied(err):
		return true, nil
	}
	return false, fault(err)
}
