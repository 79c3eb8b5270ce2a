package cloudwatchserver

import (
	"slices"
	"strings"
	"time"
)

// Limits of a batch and of a page (API_PutLogEvents, API_FilterLogEvents).
const (
	mostBatch  = 10_000
	batchBytes = 1 << 20
	eventBytes = 1 << 20
	perEvent   = 26 // bytes that each event counts besides its message
	mostPage   = 10_000
	pageBytes  = 1 << 20
)

type putLogEvents struct {
	named
	LogEvents []struct {
		Timestamp int64  `json:"timestamp"`
		Message   string `json:"message"`
	} `json:"logEvents"`
}

type rejected struct {
	TooNew  *int `json:"tooNewLogEventStartIndex,omitempty"`
	TooOld  *int `json:"tooOldLogEventEndIndex,omitempty"`
	Expired *int `json:"expiredLogEventEndIndex,omitempty"`
}

// putLogEvents takes a batch in the order of time. Events from more than two hours ahead, from more than 14 days ago, or
// from before the group's retention are rejected, the others taken (API_PutLogEvents, API_RejectedLogEventsInfo).
func (s *Server) putLogEvents(in putLogEvents) (any, error) {
	g, err := s.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	if g.streams[in.LogStreamName] == nil {
		return nil, notFound("log stream")
	}
	if n := len(in.LogEvents); n == 0 || n > mostBatch {
		return nil, invalid("1 validation error detected: logEvents")
	}
	size := 0
	for i, e := range in.LogEvents {
		size += len(e.Message) + perEvent
		if size > batchBytes || len(e.Message) == 0 || len(e.Message) > eventBytes {
			return nil, invalid("Upload too large, or an event is empty or too large")
		}
		if i > 0 && e.Timestamp < in.LogEvents[i-1].Timestamp {
			return nil, invalid("Log events in a single PutLogEvents request must be in chronological order.")
		}
	}
	var out struct {
		Rejected *rejected `json:"rejectedLogEventsInfo,omitempty"`
	}
	var r rejected
	now := s.now()
	for i, e := range in.LogEvents {
		at := time.UnixMilli(e.Timestamp)
		next := i + 1
		switch {
		case at.After(now.Add(2 * time.Hour)):
			if r.TooNew == nil {
				r.TooNew = &i
			}
		case at.Before(now.Add(-14 * day)):
			r.TooOld = &next
		case g.retention > 0 && at.Before(now.Add(-time.Duration(g.retention)*day)):
			r.Expired = &next
		default:
			s.add(g, in.LogStreamName, at, e.Message)
		}
	}
	if r != (rejected{}) {
		out.Rejected = &r
	}
	return out, nil
}

type filterLogEvents struct {
	LogGroupName        string   `json:"logGroupName"`
	LogStreamNames      []string `json:"logStreamNames"`
	LogStreamNamePrefix string   `json:"logStreamNamePrefix"`
	StartTime           int64    `json:"startTime"`
	EndTime             *int64   `json:"endTime"`
	FilterPattern       string   `json:"filterPattern"`
	Limit               int      `json:"limit"`
	NextToken           string   `json:"nextToken"`
	Unmask              bool     `json:"unmask"`
}

// request is what a token belongs to: the page after it must be asked with the same parameters.
func (in *filterLogEvents) request() string {
	return strings.Join(append([]string{in.LogGroupName, in.LogStreamNamePrefix, in.FilterPattern}, in.LogStreamNames...), "\n")
}

type filteredEvent struct {
	ID        string `json:"eventId"`
	Stream    string `json:"logStreamName"`
	Timestamp int64  `json:"timestamp"`
	Ingestion int64  `json:"ingestionTime"`
	Message   string `json:"message"`
}

// filterLogEvents returns up to 10,000 events or 1 MB, oldest first; a page may be partly full or empty while a token
// says that there is more; without a token it was the last. Both ends of the time range are inside it. Stream names and
// a prefix exclude each other. (API_FilterLogEvents)
func (s *Server) filterLogEvents(in filterLogEvents) (any, error) {
	g, err := s.group(in.LogGroupName)
	switch {
	case err != nil:
		return nil, err
	case len(in.LogStreamNames) > 0 && in.LogStreamNamePrefix != "":
		return nil, invalid("logStreamNames and logStreamNamePrefix cannot both be given")
	case len(in.LogStreamNames) > 100 || in.Limit < 0 || in.Limit > mostPage:
		return nil, invalid("1 validation error detected")
	}
	for _, n := range in.LogStreamNames {
		if g.streams[n] == nil {
			return nil, notFound("log stream")
		}
	}
	matches, err := parseFilter(in.FilterPattern)
	if err != nil {
		return nil, err
	}
	from := position{Empty: s.EmptyPages, Request: in.request()}
	if in.NextToken != "" {
		if err := s.open(in.NextToken, &from); err != nil {
			return nil, err
		}
		if from.Request != in.request() {
			return nil, invalid("The specified nextToken is invalid.")
		}
	}
	var out struct {
		Events []filteredEvent `json:"events"`
		Token  string          `json:"nextToken,omitempty"`
	}
	out.Events = []filteredEvent{}
	if from.Empty > 0 {
		from.Empty--
		out.Token = s.seal(from)
		return out, nil
	}
	most := mostPage
	for _, n := range []int{in.Limit, s.Page} {
		if n > 0 {
			most = min(most, n)
		}
	}
	size, last := 0, &event{at: from.At, ingested: from.Ingested, seq: from.Seq}
	for _, e := range g.events {
		ms := e.at.UnixMilli()
		if e.compare(last) <= 0 || ms < in.StartTime || in.EndTime != nil && ms > *in.EndTime ||
			len(in.LogStreamNames) > 0 && !slices.Contains(in.LogStreamNames, e.stream) ||
			!strings.HasPrefix(e.stream, in.LogStreamNamePrefix) || !matches(e.message) {
			continue
		}
		size += len(e.message) + perEvent
		if len(out.Events) == most || size > pageBytes && len(out.Events) > 0 {
			out.Token = s.seal(position{At: last.at, Ingested: last.ingested, Seq: last.seq, Empty: s.EmptyPages, Request: in.request()})
			break
		}
		last = e
		out.Events = append(out.Events, filteredEvent{
			e.id(), e.stream, ms, e.ingested.UnixMilli(), g.shown(e, in.Unmask),
		})
	}
	return out, nil
}
