package cloudwatchserver

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

type group struct {
	name      string
	created   time.Time
	retention int    // days; 0 keeps events for ever
	policy    string // name of the account-level retention policy that overrides the group's own
	protected bool
	streams   map[string]*stream
	events    []*event // by timestamp, ingestion, sequence: the order of API_FilterLogEvents
	ships     []subscription
}

type stream struct {
	name    string
	created time.Time
}

type event struct {
	at, ingested time.Time
	seq          int64 // of its PutLogEvents, then its place in it
	stream       string
	message      string
}

type subscription struct {
	FilterName     string `json:"filterName"`
	LogGroupName   string `json:"logGroupName"`
	DestinationArn string `json:"destinationArn"`
}

func (e *event) compare(o *event) int {
	return cmp.Or(e.at.Compare(o.at), e.ingested.Compare(o.ingested), cmp.Compare(e.seq, o.seq))
}

// day is the unit of retention.
const day = 24 * time.Hour

// expire removes the events that their group's retention, and the delay after it, no longer keep. They are gone for
// good: a longer retention that is set later does not bring them back (API_PutRetentionPolicy).
func (s *Server) expire() {
	for _, g := range s.groups {
		if g.retention == 0 {
			continue
		}
		oldest := s.now().Add(-time.Duration(g.retention)*day - s.Delay)
		n := 0
		for n < len(g.events) && !g.events[n].at.After(oldest) {
			n++
		}
		g.events = g.events[n:]
	}
}

func (s *Server) add(g *group, stream string, at time.Time, message string) {
	s.seq++
	e := &event{at: at.Truncate(time.Millisecond).UTC(), ingested: s.now().Truncate(time.Millisecond).UTC(), seq: s.seq, stream: stream, message: message}
	i, _ := slices.BinarySearchFunc(g.events, e, (*event).compare)
	g.events = slices.Insert(g.events, i, e)
}

// Put adds an event as if it had been ingested now, however old it is; PutLogEvents takes none from more than 14 days
// ago. The group and the stream are made when missing.
func (s *Server) Put(groupName, streamName string, at time.Time, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.made(groupName)
	if g.streams[streamName] == nil {
		g.streams[streamName] = &stream{streamName, s.now()}
	}
	s.add(g, streamName, at, message)
}

func (s *Server) made(name string) *group {
	g := s.groups[name]
	if g == nil {
		g = &group{name: name, created: s.now(), streams: map[string]*stream{}}
		s.groups[name] = g
	}
	return g
}

// Delete removes a group with everything in it.
func (s *Server) Delete(groupName string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.groups, groupName)
}

// Retain sets a group's retention in days; 0 is for ever. The group is made when missing.
func (s *Server) Retain(groupName string, days int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made(groupName).retention = days
}

// Retention is a group's retention in days; 0 is for ever.
func (s *Server) Retention(groupName string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made(groupName).retention
}

// Govern puts a group under an account-level retention policy, which overrides what PutRetentionPolicy sets
// (API_PutAccountPolicy).
func (s *Server) Govern(groupName, policy string, days int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.made(groupName)
	g.policy, g.retention = policy, days
}

// Protect gives a group a data protection policy that masks e-mail addresses for whoever does not ask to unmask them
// ("Help protect sensitive log data with masking").
func (s *Server) Protect(groupName string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made(groupName).protected = true
}

// Ship gives a group a subscription filter (API_SubscriptionFilter).
func (s *Server) Ship(groupName, filter, destination string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.made(groupName)
	g.ships = append(g.ships, subscription{filter, groupName, destination})
}

// Event is what a group holds.
type Event struct {
	Stream  string
	At      time.Time
	Message string
}

// Dump returns the events of a group that have not gone, in their order.
func (s *Server) Dump(groupName string) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	var out []Event
	if g := s.groups[groupName]; g != nil {
		for _, e := range g.events {
			out = append(out, Event{e.stream, e.at, e.message})
		}
	}
	return out
}

// Streams returns the names of a group's streams, sorted.
func (s *Server) Streams(groupName string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[groupName]
	if g == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(g.streams))
}

// email is what the data protection policy of [Server.Protect] masks.
var email = regexp.MustCompile(`[\w.+-]+@[\w.-]+\w`)

func (g *group) shown(e *event, unmask bool) string {
	if !g.protected || unmask {
		return e.message
	}
	return email.ReplaceAllStringFunc(e.message, func(m string) string { return strings.Repeat("*", len(m)) })
}

func (g *group) arn() string { return "arn:aws:logs:eu-north-1:123456789012:log-group:" + g.name }

// id is unique in the account.
func (e *event) id() string { return fmt.Sprintf("%056d", e.seq) }
