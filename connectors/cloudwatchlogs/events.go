package cloudwatchlogs

import (
	"context"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// event is one log event.
type event struct {
	id      string
	at      time.Time
	stream  string
	message string
}

// reading is one pass over events of a group, oldest first.
type reading struct {
	group  string
	filter string
	stream string // only this one
	unmask bool   // a data protection policy masks what Lethe looks for
}

// cursor is how far a reading has come. It can be stored: a paging token is good for 24 hours (API_FilterLogEvents), and
// without it the reading goes on from the time of the last event, past the events of that millisecond that were seen.
type cursor struct {
	Start int64     `json:"start,omitempty"` // milliseconds of the epoch; where the pages of Token began
	End   int64     `json:"end,omitempty"`   // newest event of this reading, so that it ends while others write
	Token string    `json:"token,omitempty"`
	Taken time.Time `json:"taken,omitzero"` // when the token was given
	Last  int64     `json:"last,omitempty"` // of the last event that was seen
	Seen  []string  `json:"seen,omitempty"` // ids of the events of that millisecond that were seen
}

const (
	tokenLife = 24 * time.Hour
	// aheadOfTime is how far in the future an event may be dated (API_PutLogEvents).
	aheadOfTime = 2 * time.Hour
)

// next reads one page, which may be empty, and moves the cursor behind it. Done says that it was the last.
func (l *Logs) next(ctx context.Context, r reading, at *cursor) (page []event, done bool, err error) {
	now := l.now()
	if at.End == 0 {
		at.End = now.Add(aheadOfTime).UnixMilli()
	}
	if at.Token != "" && now.Sub(at.Taken) >= tokenLife {
		at.Token, at.Start = "", at.Last
	}
	in := &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &r.group, StartTime: &at.Start, EndTime: &at.End, Unmask: r.unmask}
	if r.filter != "" {
		in.FilterPattern = &r.filter
	}
	if r.stream != "" {
		in.LogStreamNames = []string{r.stream}
	}
	if at.Token != "" {
		in.NextToken = &at.Token
	}
	out, err := l.client.FilterLogEvents(ctx, in)
	if at.Token != "" && isInvalid(err) { // it expired by the service's clock
		at.Token, at.Start = "", at.Last
		in.NextToken, in.StartTime = nil, &at.Start
		out, err = l.client.FilterLogEvents(ctx, in)
	}
	if err != nil {
		return nil, false, classify("FilterLogEvents", err)
	}
	for i := range out.Events {
		e := &out.Events[i]
		if e.Timestamp == nil || e.Message == nil || e.EventId == nil || e.LogStreamName == nil || !at.pass(*e.Timestamp, *e.EventId) {
			continue
		}
		page = append(page, event{*e.EventId, time.UnixMilli(*e.Timestamp).UTC(), *e.LogStreamName, *e.Message})
	}
	if str(out.NextToken) == "" {
		at.Token, at.Start = "", at.Last // whoever reads on finds what is new
		return page, true, nil
	}
	at.Token, at.Taken = *out.NextToken, now
	return page, false, nil
}

// pass notes an event, and reports whether it is a new one.
func (c *cursor) pass(ms int64, id string) bool {
	if ms != c.Last {
		c.Last, c.Seen = ms, nil
	}
	for _, s := range c.Seen {
		if s == id {
			return false
		}
	}
	c.Seen = append(c.Seen, id)
	return true
}

// search reads an entity's events and calls fn for every hit of the finder. It returns the fields with text that the map
// does not declare.
func (l *Logs) search(
	ctx context.Context, e *entity, g *group, f *records.Finder, fn func(*event, *records.Hit) error,
) (unsearched []string, err error) {
	var at cursor
	for {
		page, done, err := l.next(ctx, e.reading(g), &at)
		if err != nil {
			return nil, err
		}
		totals, err := scan(ctx, f, page, fn)
		if err != nil {
			return nil, err
		}
		unsearched = append(unsearched, totals.Unsearched...)
		slices.Sort(unsearched)
		unsearched = slices.Compact(unsearched)
		if done {
			return unsearched, nil
		}
	}
}

// reading is of an entity's events.
func (e *entity) reading(g *group) reading {
	return reading{group: g.name, filter: e.filter, unmask: g.protected}
}

// oneLine makes an event one line of as many bytes: between JSON's tokens a space is as good as a line break, and free
// text reads the same.
var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// scan calls fn for the hits in a page of events.
func scan(ctx context.Context, f *records.Finder, page []event, fn func(*event, *records.Hit) error) (records.Totals, error) {
	if len(page) == 0 {
		return records.Totals{}, nil
	}
	var sb strings.Builder
	starts := make([]int64, len(page))
	for i := range page {
		starts[i] = int64(sb.Len())
		sb.WriteString(oneLine.Replace(page[i].message))
		sb.WriteByte('\n')
	}
	var failed error // of fn
	totals, err := f.Scan(ctx, "", strings.NewReader(sb.String()), func(h *records.Hit) error {
		i := sort.Search(len(starts), func(i int) bool { return starts[i] > h.Offset }) - 1
		failed = fn(&page[i], h)
		return failed
	})
	if failed != nil {
		return totals, failed
	}
	if connectors.IsPermanent(err) {
		err = misfit(ctx, f, page, err)
	}
	return totals, err
}

// misfit finds the event that is not of the map's format, and says when it was: its stream may have a name in it.
func misfit(ctx context.Context, f *records.Finder, page []event, err error) error {
	for i := range page {
		if _, one := f.Scan(ctx, "", strings.NewReader(oneLine.Replace(page[i].message)+"\n"), nil); one != nil {
			return connectors.Permanent(dsr.CodeUnreadable,
				"the event of "+page[i].at.Format(time.RFC3339Nano)+" is not of the format that the map says",
				"narrow the entity with a filter to the events that are, and map the others as another entity",
				&dsr.Error{Code: dsr.CodeOf(one), Msg: "the record cannot be read"})
		}
	}
	return err
}
