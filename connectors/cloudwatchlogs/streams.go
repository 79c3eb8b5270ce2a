package cloudwatchlogs

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// stream is one log stream that fits an entity's pattern.
type stream struct {
	name   string
	values []string  // of the pattern's identifiers
	last   time.Time // of its newest event, as far as the service knows; when it was made, while it has none
}

// listing is how far a list of streams, by name, has come. It can be stored.
type listing struct {
	Token string    `json:"token,omitempty"`
	Taken time.Time `json:"taken,omitzero"`
	After string    `json:"after,omitempty"` // last name that was listed; names before it are passed over
}

// nextStreams reads one page of the streams that fit an entity's pattern, and moves the listing behind it. Streams are
// listed under the pattern's fixed beginning and never under a subject's value: a value has other spellings than the one
// that Lethe knows.
func (l *Logs) nextStreams(ctx context.Context, e *entity, at *listing) (page []stream, done bool, err error) {
	now := l.now()
	if at.Token != "" && now.Sub(at.Taken) >= tokenLife {
		at.Token = ""
	}
	in := &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: &e.group}
	if prefix := e.pattern.Prefix(); prefix != "" {
		in.LogStreamNamePrefix = &prefix
	}
	if at.Token != "" {
		in.NextToken = &at.Token
	}
	out, err := l.client.DescribeLogStreams(ctx, in)
	if at.Token != "" && isInvalid(err) {
		in.NextToken = nil
		out, err = l.client.DescribeLogStreams(ctx, in)
	}
	if err != nil {
		return nil, false, classify("DescribeLogStreams", err)
	}
	for _, s := range out.LogStreams {
		name := str(s.LogStreamName)
		if name <= at.After {
			continue
		}
		at.After = name
		values, ok := e.pattern.Match(name)
		if !ok {
			continue
		}
		last := s.LastEventTimestamp
		if last == nil {
			last = s.CreationTime
		}
		page = append(page, stream{name, values, time.UnixMilli(num(last)).UTC()})
	}
	at.Token, at.Taken = str(out.NextToken), now
	return page, at.Token == "", nil
}

// eachStream calls fn with all pages of an entity's streams.
func (l *Logs) eachStream(ctx context.Context, e *entity, fn func([]stream) error) error {
	var at listing
	for {
		page, done, err := l.nextStreams(ctx, e, &at)
		if err == nil {
			err = fn(page)
		}
		if err != nil || done {
			return err
		}
	}
}

// people tells whose a stream is.
type people struct {
	sys    *connectors.System
	refs   map[dsr.Identifier][]string // by name and normalised value
	tenant map[string]string           // by ref
}

func newPeople(sys *connectors.System, b connectors.Batch) *people {
	p := &people{sys: sys, refs: map[dsr.Identifier][]string{}, tenant: map[string]string{}}
	for _, s := range b {
		p.tenant[s.Ref] = s.Tenant
		for _, id := range s.Identifiers {
			k := p.key(id.Name, id.Value.Reveal())
			if !slices.Contains(p.refs[k], s.Ref) {
				p.refs[k] = append(p.refs[k], s.Ref)
			}
		}
	}
	return p
}

// of returns the refs of the subjects whose stream it is.
func (p *people) of(e *entity, s *stream) []string {
	var out []string
	for i, name := range e.pattern.Identifiers() {
		for _, ref := range p.refs[p.key(name, s.values[i])] {
			if !slices.Contains(out, ref) && p.reaches(e, s, ref) {
				out = append(out, ref)
			}
		}
	}
	return out
}

// reaches reports whether a stream is of the subject's tenant.
func (p *people) reaches(e *entity, s *stream, ref string) bool {
	if p.sys.TenantName == "" || e.Shared {
		return true
	}
	i := slices.Index(e.pattern.Identifiers(), e.Tenant)
	return i >= 0 && p.key(p.sys.TenantName, s.values[i]) == p.key(p.sys.TenantName, p.tenant[ref])
}

func (p *people) key(name, value string) dsr.Identifier {
	return dsr.Identifier{Name: name, Value: dsr.NewSecret(records.Normalise(p.sys.Identifiers[name], value))}
}

// held tells which streams of an entity a hold covers: all of it where a hold on the entity has no condition or one that
// a stream's name cannot answer, because keeping too much is the mistake that can be mended.
type held struct {
	all    bool
	people *people
	when   []map[string][]string // conditions on identifiers of the pattern: name -> normalised values
}

func (l *Logs) held(e *entity, h connectors.Holds) *held {
	out := &held{people: newPeople(l.sys, h.Subjects)}
	for _, f := range h.Entities {
		if f.Entity != e.Name {
			continue
		}
		values := map[string][]string{}
		for _, c := range f.When {
			if len(c.Values) == 0 || !slices.Contains(e.pattern.Identifiers(), c.Field) {
				values = nil
				break
			}
			for _, v := range c.Values {
				values[c.Field] = append(values[c.Field], records.Normalise(l.sys.Identifiers[c.Field], v))
			}
		}
		if len(values) == 0 {
			out.all = true
		}
		out.when = append(out.when, values)
	}
	return out
}

func (h *held) covers(e *entity, s *stream) bool {
	if h.all || len(h.people.of(e, s)) > 0 {
		return true
	}
	return slices.ContainsFunc(h.when, func(values map[string][]string) bool {
		for name, wanted := range values {
			v := records.Normalise(h.people.sys.Identifiers[name], s.values[slices.Index(e.pattern.Identifiers(), name)])
			if !slices.Contains(wanted, v) {
				return false
			}
		}
		return true
	})
}
