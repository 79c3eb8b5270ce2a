// Package cloudwatchserver speaks the protocol of Amazon CloudWatch Logs inside a process, for tests and the demo: no
// emulator of it can be had otherwise. It is small on purpose: the actions that Lethe uses, with the rules that matter
// to an erasure (paging, throttling, retention, expiring tokens), each with the page of the API reference or the user
// guide that it comes from (https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/ and
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/). What has no page is not imitated. Everything is in memory.
package cloudwatchserver

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Server is an [http.Handler] that answers as one account and Region. Its fields are set before it serves; its methods
// may be called at any time.
type Server struct {
	// AccessKey and Secret, when both are set, are the one key whose signature is accepted. Without them every
	// well-formed signature is.
	AccessKey, Secret string
	// Delay is how long events stay after their retention has ended: up to 72 hours (API_PutRetentionPolicy). It is 72
	// hours unless set.
	Delay time.Duration
	// Lag is how far lastEventTimestamp of a log stream is behind: typically less than an hour (API_LogStream).
	Lag time.Duration
	// Page is the most that one page of any list has; 0 is what AWS documents.
	Page int
	// EmptyPages is how many pages without events FilterLogEvents answers before each page that may have some; a page may
	// be empty while there is more (API_FilterLogEvents).
	EmptyPages int

	now func() time.Time

	mu       sync.Mutex
	groups   map[string]*group
	seq      int64
	throttle int
	calls    []Call
}

// Call is one request that was answered, refused ones included.
type Call struct {
	Action string
	Body   string
}

// New returns an empty account that reads the time from now.
func New(now func() time.Time) *Server {
	return &Server{Delay: 72 * time.Hour, now: now, groups: map[string]*group{}}
}

// Throttle makes the next n requests fail with ThrottlingException (CommonErrors).
func (s *Server) Throttle(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.throttle = n
}

// Calls are the requests since the last call of Calls.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.calls
	s.calls = nil
	return out
}

// fault is an error of the API: its shape's name and a message.
type fault struct{ kind, msg string }

func (f *fault) Error() string { return f.kind + ": " + f.msg }

func invalid(msg string) error {
	return &fault{"InvalidParameterException", msg}
}

func notFound(what string) error {
	return &fault{"ResourceNotFoundException", "The specified " + what + " does not exist."}
}

// maxBody is above the largest batch of PutLogEvents, 1,048,576 bytes, as JSON.
const maxBody = 8 << 20

// ServeHTTP answers the JSON 1.1 protocol: POST to /, the action in X-Amz-Target.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		reply(w, nil, &fault{"SerializationException", "the body could not be read"})
		return
	}
	action, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "Logs_20140328.")
	if r.Method != http.MethodPost || !ok {
		reply(w, nil, &fault{"UnknownOperationException", ""})
		return
	}
	out, err := s.answer(r, action, body)
	reply(w, out, err)
}

func (s *Server) answer(r *http.Request, action string, body []byte) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, Call{action, string(body)})
	if err := s.authorise(r, body); err != nil {
		return nil, err
	}
	if s.throttle > 0 {
		s.throttle--
		return nil, &fault{"ThrottlingException", "Rate exceeded"}
	}
	do, ok := actions[action]
	if !ok {
		return nil, &fault{"UnknownOperationException", "this server does not have " + action}
	}
	s.expire()
	return do(s, body)
}

// actions are those that the server has, by name.
var actions = map[string]func(s *Server, body []byte) (any, error){
	"CreateLogGroup":              action((*Server).createLogGroup),
	"DeleteLogGroup":              action((*Server).deleteLogGroup),
	"DescribeLogGroups":           action((*Server).describeLogGroups),
	"PutRetentionPolicy":          action((*Server).putRetentionPolicy),
	"DeleteRetentionPolicy":       action((*Server).deleteRetentionPolicy),
	"CreateLogStream":             action((*Server).createLogStream),
	"DeleteLogStream":             action((*Server).deleteLogStream),
	"DescribeLogStreams":          action((*Server).describeLogStreams),
	"PutLogEvents":                action((*Server).putLogEvents),
	"FilterLogEvents":             action((*Server).filterLogEvents),
	"DescribeSubscriptionFilters": action((*Server).describeSubscriptionFilters),
}

// action reads a request's body into the input of do.
func action[In any](do func(*Server, In) (any, error)) func(*Server, []byte) (any, error) {
	return func(s *Server, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, &fault{"SerializationException", "the body is not the action's JSON"}
		}
		return do(s, in)
	}
}

// reply writes an answer or an error of the JSON 1.1 protocol.
func reply(w http.ResponseWriter, out any, err error) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	status := http.StatusOK
	if err != nil {
		f := err.(*fault) //nolint:errorlint // every error of this package is one, unwrapped
		status = http.StatusBadRequest
		out = map[string]string{"__type": f.kind, "message": f.msg}
	}
	w.WriteHeader(status)
	if out == nil {
		return // actions without output have an empty body
	}
	_ = json.NewEncoder(w).Encode(out)
}
