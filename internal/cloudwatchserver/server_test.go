package cloudwatchserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/internal/cloudwatchserver"
)

type world struct {
	*cloudwatchserver.Server
	*cloudwatchlogs.Client
	mu  sync.Mutex
	now time.Time
}

var (
	ctx   = context.Background()
	start = time.Date(2026, time.March, 2, 8, 0, 0, 0, time.UTC)
)

const day = 24 * time.Hour

func setup(t *testing.T, key, secret string) *world {
	t.Helper()
	w := &world{now: start}
	w.Server = cloudwatchserver.New(func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	})
	w.AccessKey, w.Secret = "AKEXAMPLE", "not a secret"
	h := httptest.NewServer(w.Server)
	t.Cleanup(h.Close)
	w.Client = cloudwatchlogs.New(cloudwatchlogs.Options{
		Region: "eu-north-1", BaseEndpoint: &h.URL, Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""),
		Retryer: aws.NopRetryer{},
	})
	return w
}

func (w *world) move(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) put(t *testing.T, events ...types.InputLogEvent) *types.RejectedLogEventsInfo {
	t.Helper()
	out, err := w.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{
		LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), LogEvents: events,
	})
	require.NoError(t, err)
	return out.RejectedLogEventsInfo
}

func at(at time.Time, message string) types.InputLogEvent {
	return types.InputLogEvent{Timestamp: aws.Int64(at.UnixMilli()), Message: &message}
}

func (w *world) create(t *testing.T) {
	t.Helper()
	_, err := w.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("g")})
	require.NoError(t, err)
	_, err = w.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s")})
	require.NoError(t, err)
}

// messages reads all pages.
func (w *world) messages(t *testing.T, in *cloudwatchlogs.FilterLogEventsInput) []string {
	t.Helper()
	in.LogGroupName = aws.String("g")
	var out []string
	for {
		page, err := w.FilterLogEvents(ctx, in)
		require.NoError(t, err)
		for _, e := range page.Events {
			out = append(out, *e.Message)
		}
		if in.NextToken = page.NextToken; in.NextToken == nil {
			return out
		}
	}
}

func kind(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestSignature(t *testing.T) {
	t.Parallel()
	list := func(w *world) error {
		_, err := w.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("å ä")})
		return err
	}
	require.NoError(t, list(setup(t, "AKEXAMPLE", "not a secret")))
	require.Equal(t, "InvalidSignatureException", kind(list(setup(t, "AKEXAMPLE", "guess"))))
	require.Equal(t, "UnrecognizedClientException", kind(list(setup(t, "AKOTHER", "not a secret"))))
	open := setup(t, "AKANY", "any")
	open.AccessKey, open.Secret = "", ""
	require.NoError(t, list(open))
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
	r.Header.Set("X-Amz-Target", "Logs_20140328.DescribeLogGroups")
	answer := httptest.NewRecorder()
	open.ServeHTTP(answer, r)
	require.Equal(t, 400, answer.Code)
	require.Contains(t, answer.Body.String(), "IncompleteSignatureException")
}

func TestErrors(t *testing.T) {
	t.Parallel()
	w := setup(t, "AKEXAMPLE", "not a secret")
	w.create(t)
	g, none, bad := aws.String("g"), aws.String("none"), aws.String("a:b")
	for want, call := range map[string]func() error{
		"ResourceAlreadyExistsException": func() error {
			_, err := w.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: g})
			return err
		},
		"ResourceNotFoundException": func() error {
			_, err := w.DeleteLogStream(ctx, &cloudwatchlogs.DeleteLogStreamInput{LogGroupName: g, LogStreamName: none})
			return err
		},
		"InvalidParameterException": func() error {
			_, err := w.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: g, LogStreamName: bad})
			return err
		},
		"UnknownOperationException": func() error {
			_, err := w.DescribeQueries(ctx, &cloudwatchlogs.DescribeQueriesInput{})
			return err
		},
		"ThrottlingException": func() error {
			w.Throttle(1)
			_, err := w.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{})
			return err
		},
	} {
		require.Equal(t, want, kind(call()))
	}
	_, err := w.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: g, RetentionInDays: aws.Int32(2)})
	require.Equal(t, "InvalidParameterException", kind(err))
	_, err = w.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: none})
	require.Equal(t, "ResourceNotFoundException", kind(err))
}

func TestPutLogEvents(t *testing.T) {
	t.Parallel()
	w := setup(t, "AKEXAMPLE", "not a secret")
	w.create(t)
	require.Nil(t, w.put(t, at(start.Add(-14*day), "a"), at(start, "b"), at(start.Add(2*time.Hour), "c")))
	info := w.put(t, at(start.Add(-14*day-time.Second), "old"), at(start, "d"), at(start.Add(3*time.Hour), "new"))
	require.EqualValues(t, 1, *info.TooOldLogEventEndIndex)
	require.EqualValues(t, 2, *info.TooNewLogEventStartIndex)
	w.Retain("g", 1)
	info = w.put(t, at(start.Add(-day-time.Second), "expired"), at(start, "e"))
	require.EqualValues(t, 1, *info.ExpiredLogEventEndIndex)
	w.Retain("g", 0)
	_, err := w.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{
		LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), LogEvents: []types.InputLogEvent{at(start, "x"), at(start.Add(-time.Second), "y")},
	})
	require.Equal(t, "InvalidParameterException", kind(err))
	require.NotContains(t, w.messages(t, &cloudwatchlogs.FilterLogEventsInput{}), "expired")
}

// Events go when their retention and the delay after it are over, and a longer retention does not bring them back.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := setup(t, "AKEXAMPLE", "not a secret")
	w.Put("g", "s", start.Add(-day), "a")
	w.Put("g", "s", start, "b")
	w.Retain("g", 7)
	all := func() []string { return w.messages(t, &cloudwatchlogs.FilterLogEventsInput{}) }
	w.move(9*day - time.Second)
	require.Equal(t, []string{"a", "b"}, all())
	w.move(time.Second)
	require.Equal(t, []string{"b"}, all())
	_, err := w.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: aws.Int32(365)})
	require.NoError(t, err)
	w.move(300 * day)
	require.Equal(t, []string{"b"}, all())
	_, err = w.DeleteRetentionPolicy(ctx, &cloudwatchlogs.DeleteRetentionPolicyInput{LogGroupName: aws.String("g")})
	require.NoError(t, err)
	w.move(3000 * day)
	require.Equal(t, []string{"b"}, all())
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := setup(t, "AKEXAMPLE", "not a secret")
	w.Page, w.EmptyPages = 2, 2
	var want []string
	for i := range 7 {
		want = append(want, fmt.Sprint(i))
		w.Put("g", fmt.Sprint("s/", i), start.Add(time.Duration(i/3)*time.Millisecond), fmt.Sprint(i))
	}
	require.Equal(t, want, w.messages(t, &cloudwatchlogs.FilterLogEventsInput{}))
	require.Equal(t, want[3:6], w.messages(t, &cloudwatchlogs.FilterLogEventsInput{
		StartTime: aws.Int64(start.UnixMilli() + 1), EndTime: aws.Int64(start.UnixMilli() + 1),
	}), "both ends are inside")
	require.Equal(t, want[2:3], w.messages(t, &cloudwatchlogs.FilterLogEventsInput{LogStreamNames: []string{"s/2"}}))

	first, err := w.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g")})
	require.NoError(t, err)
	require.Empty(t, first.Events)
	next := func(prefix *string) error {
		_, err := w.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{
			LogGroupName: aws.String("g"), NextToken: first.NextToken, LogStreamNamePrefix: prefix,
		})
		return err
	}
	require.Equal(t, "InvalidParameterException", kind(next(aws.String("s"))), "a token belongs to its request")
	w.move(day)
	require.NoError(t, next(nil))
	w.move(time.Second)
	require.Equal(t, "InvalidParameterException", kind(next(nil)), "a token lasts 24 hours")

	var names []string
	in := &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("g"), LogStreamNamePrefix: aws.String("s/")}
	for {
		page, err := w.DescribeLogStreams(ctx, in)
		require.NoError(t, err)
		for _, s := range page.LogStreams {
			names = append(names, *s.LogStreamName)
			_, err := w.DeleteLogStream(ctx, &cloudwatchlogs.DeleteLogStreamInput{LogGroupName: in.LogGroupName, LogStreamName: s.LogStreamName})
			require.NoError(t, err)
		}
		if in.NextToken = page.NextToken; in.NextToken == nil {
			break
		}
	}
	require.Len(t, names, 7, "deleting what was listed hides nothing")
	require.Empty(t, w.Dump("g"), "events go with their stream")
}

func TestFilterPatterns(t *testing.T) {
	t.Parallel()
	w := setup(t, "AKEXAMPLE", "not a secret")
	lines := []string{"[ERROR 400] BAD REQUEST", "[ERROR 401] UNAUTHORIZED", "[INFO 200] OK", `{"user":{"id":42},"ok":true}`, `{"user":{"id":"421"}}`}
	for i, l := range lines {
		w.Put("g", "s", start.Add(time.Duration(i)*time.Second), l)
	}
	for pattern, want := range map[string][]int{
		"":                                       {0, 1, 2, 3, 4},
		"ERROR":                                  {0, 1},
		"error":                                  nil,
		`ERROR "BAD REQUEST"`:                    {0},
		"ERROR -BAD":                             {1},
		"?OK ?BAD":                               {0, 2},
		"{ $.user.id = 42 }":                     {3},
		"{ $.user.id = 42* }":                    {3, 4},
		"{ ($.user.id = *) && ($.ok = true) }":   {3},
		`{ $.user.id = "421" || $.ok = "true" }`: {3, 4},
		`{ $.user.id != 42 }`:                    {4},
	} {
		var got []int
		for _, m := range w.messages(t, &cloudwatchlogs.FilterLogEventsInput{FilterPattern: aws.String(pattern)}) {
			for i, l := range lines {
				if l == m {
					got = append(got, i)
				}
			}
		}
		require.Equal(t, want, got, pattern)
	}
	for _, bad := range []string{"[ip, user]", "{ $.a ", "%x%", "{ $.a > 1 }"} {
		_, err := w.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g"), FilterPattern: &bad})
		require.Equal(t, "InvalidParameterException", kind(err), bad)
	}
}
