package cloudwatchserver

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

type named struct {
	LogGroupName  string `json:"logGroupName"`
	LogStreamName string `json:"logStreamName"`
}

func (s *Server) group(name string) (*group, error) {
	if g := s.groups[name]; g != nil {
		return g, nil
	}
	return nil, notFound("log group")
}

// groupName is what a log group may be called, at most 512 characters (API_CreateLogGroup).
var groupName = regexp.MustCompile(`^[.\-_/#A-Za-z0-9]{1,512}$`)

// createLogGroup makes a group whose events do not expire (API_CreateLogGroup).
func (s *Server) createLogGroup(in named) (any, error) {
	if !groupName.MatchString(in.LogGroupName) {
		return nil, invalid("1 validation error detected: logGroupName")
	}
	if s.groups[in.LogGroupName] != nil {
		return nil, &fault{"ResourceAlreadyExistsException", "The specified log group already exists"}
	}
	s.made(in.LogGroupName)
	return nil, nil
}

// deleteLogGroup also deletes its events for good (API_DeleteLogGroup).
func (s *Server) deleteLogGroup(in named) (any, error) {
	g, err := s.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	delete(s.groups, g.name)
	return nil, nil
}

type logGroup struct {
	Name       string `json:"logGroupName"`
	ARN        string `json:"logGroupArn"`
	Created    int64  `json:"creationTime"`
	Retention  int    `json:"retentionInDays,omitempty"` // absent: for ever
	Policy     string `json:"retentionPolicyName,omitempty"`
	Protection string `json:"dataProtectionStatus,omitempty"`
	Class      string `json:"logGroupClass"`
	Bytes      int64  `json:"storedBytes"`
}

type listing struct {
	LogGroupName        string `json:"logGroupName"`
	LogGroupNamePrefix  string `json:"logGroupNamePrefix"`
	LogStreamNamePrefix string `json:"logStreamNamePrefix"`
	OrderBy             string `json:"orderBy"`
	Descending          bool   `json:"descending"`
	Limit               int    `json:"limit"`
	NextToken           string `json:"nextToken"`
}

// describeLogGroups lists groups by name, at most 50 a page (API_DescribeLogGroups).
func (s *Server) describeLogGroups(in listing) (any, error) {
	names := slices.Sorted(maps.Keys(s.groups))
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, in.LogGroupNamePrefix) })
	var out struct {
		Groups []logGroup `json:"logGroups"`
		Token  string     `json:"nextToken,omitempty"`
	}
	page, token, err := s.page(in, names)
	if err != nil {
		return nil, err
	}
	out.Token = token
	for _, n := range page {
		g := s.groups[n]
		l := logGroup{
			Name: g.name, ARN: g.arn(), Created: g.created.UnixMilli(), Retention: g.retention, Policy: g.policy, Class: "STANDARD",
		}
		if g.protected {
			l.Protection = "ACTIVATED"
		}
		for _, e := range g.events {
			l.Bytes += int64(len(e.message)) + perEvent
		}
		out.Groups = append(out.Groups, l)
	}
	return out, nil
}

// page cuts a list that is sorted by name: the token is the last name that was shown, and expires.
func (s *Server) page(in listing, names []string) (page []string, token string, err error) {
	const most = 50
	n := in.Limit
	if n < 0 || n > most {
		return nil, "", invalid("1 validation error detected: limit")
	}
	if n == 0 {
		n = most
	}
	if s.Page > 0 {
		n = min(n, s.Page)
	}
	if in.NextToken != "" {
		var at position
		if err := s.open(in.NextToken, &at); err != nil {
			return nil, "", err
		}
		i := slices.Index(names, at.Name)
		if i < 0 { // it has gone since
			i, _ = slices.BinarySearch(names, at.Name)
			i--
		}
		names = names[i+1:]
	}
	if len(names) <= n {
		return names, "", nil
	}
	return names[:n], s.seal(position{Name: names[n-1]}), nil
}

// position is what a paging token says.
type position struct {
	Issued time.Time
	Name   string // last name shown
	// of FilterLogEvents: the last event shown, how many empty pages are still to come, and the request
	At, Ingested time.Time
	Seq          int64
	Empty        int
	Request      string
}

func (s *Server) seal(p position) string {
	p.Issued = s.now()
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // cannot happen: strings and times
	}
	return base64.StdEncoding.EncodeToString(b)
}

// open reads a token. A token expires after 24 hours (API_FilterLogEvents, API_DescribeLogStreams: nextToken).
func (s *Server) open(token string, p *position) error {
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil || json.Unmarshal(b, p) != nil || s.now().Sub(p.Issued) > 24*time.Hour {
		return invalid("The specified nextToken is invalid.")
	}
	return nil
}

// allowed are the periods that a group may have (API_PutRetentionPolicy).
var allowed = []int{
	1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
}

type retentionPolicy struct {
	LogGroupName    string `json:"logGroupName"`
	RetentionInDays int    `json:"retentionInDays"`
}

// putRetentionPolicy succeeds without effect where an account-level policy applies (API_PutRetentionPolicy).
func (s *Server) putRetentionPolicy(in retentionPolicy) (any, error) {
	g, err := s.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(allowed, in.RetentionInDays) {
		return nil, invalid("1 validation error detected: retentionInDays")
	}
	if g.policy == "" {
		g.retention = in.RetentionInDays
	}
	return nil, nil
}

// deleteRetentionPolicy keeps events for ever (API_DeleteRetentionPolicy).
func (s *Server) deleteRetentionPolicy(in named) (any, error) {
	g, err := s.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	if g.policy == "" {
		g.retention = 0
	}
	return nil, nil
}

// createLogStream refuses a colon and an asterisk in a name (API_CreateLogStream).
func (s *Server) createLogStream(in named) (any, error) {
	g, err := s.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	if n := len(in.LogStreamName); n == 0 || n > 512 || strings.ContainsAny(in.LogStreamName, ":*") {
		return nil, invalid("1 validation error detected: logStreamName")
	}
	if g.streams[in.LogStreamName] != nil {
		return nil, &fault{"ResourceAlreadyExistsException", "The specified log stream already exists"}
	}
	g.streams[in.LogStreamName] = &stream{in.LogStreamName, s.now()}
	return nil, nil
}

// deleteLogStream also deletes its events for good (API_DeleteLogStream).
func (s *Server) deleteLogStream(in named) (any, error) {
	g, err := s.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	if g.streams[in.LogStreamName] == nil {
		return nil, notFound("log stream")
	}
	delete(g.streams, in.LogStreamName)
	g.events = slices.DeleteFunc(g.events, func(e *event) bool { return e.stream == in.LogStreamName })
	return nil, nil
}

type logStream struct {
	Name       string `json:"logStreamName"`
	Created    int64  `json:"creationTime"`
	FirstEvent int64  `json:"firstEventTimestamp,omitempty"`
	LastEvent  int64  `json:"lastEventTimestamp,omitempty"`
}

// describeLogStreams lists streams by name, at most 50 a page; a prefix cannot be had in the order of events
// (API_DescribeLogStreams), which this server does not have.
func (s *Server) describeLogStreams(in listing) (any, error) {
	g, err := s.group(in.LogGroupName)
	switch {
	case err != nil:
		return nil, err
	case cmp.Or(in.OrderBy, "LogStreamName") != "LogStreamName" || in.Descending:
		return nil, invalid("this server lists streams by name only")
	}
	names := slices.Sorted(maps.Keys(g.streams))
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, in.LogStreamNamePrefix) })
	var out struct {
		Streams []logStream `json:"logStreams"`
		Token   string      `json:"nextToken,omitempty"`
	}
	page, token, err := s.page(in, names)
	if err != nil {
		return nil, err
	}
	out.Token = token
	for _, n := range page {
		l := logStream{Name: n, Created: g.streams[n].created.UnixMilli()}
		for _, e := range g.events {
			if e.stream != n || e.ingested.After(s.now().Add(-s.Lag)) {
				continue
			}
			if l.FirstEvent == 0 {
				l.FirstEvent = e.at.UnixMilli()
			}
			l.LastEvent = e.at.UnixMilli()
		}
		out.Streams = append(out.Streams, l)
	}
	return out, nil
}

// describeSubscriptionFilters lists at most 50 a page (API_DescribeSubscriptionFilters).
func (s *Server) describeSubscriptionFilters(in listing) (any, error) {
	g, err := s.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	byName := map[string]subscription{}
	for _, f := range g.ships {
		byName[f.FilterName] = f
	}
	page, token, err := s.page(in, slices.Sorted(maps.Keys(byName)))
	if err != nil {
		return nil, err
	}
	var out struct {
		Filters []subscription `json:"subscriptionFilters"`
		Token   string         `json:"nextToken,omitempty"`
	}
	out.Token = token
	for _, n := range page {
		out.Filters = append(out.Filters, byName[n])
	}
	return out, nil
}
