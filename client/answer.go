package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// Connect returns a client of the server at url that calls with an API key.
func Connect(url, key string) (*Client, error) {
	return NewClient(
		strings.TrimRight(url, "/"),
		WithHTTPClient(&http.Client{Timeout: 2 * time.Minute}),
		WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+key)
			return nil
		}),
	)
}

// Refused is a problem document that the server answered; errors.As finds it.
type Refused struct {
	Problem
	RetryAfter string // of the header; empty when absent
}

func (r *Refused) Error() string {
	parts := []string{r.Title}
	add := func(s string) {
		if s != "" && s != parts[len(parts)-1] {
			parts = append(parts, s)
		}
	}
	switch {
	case r.Errors != nil && len(*r.Errors) > 0:
		for _, e := range *r.Errors {
			add(e.Field + ": " + e.Message)
		}
	case r.Field != nil && *r.Field != "" && r.Detail != nil:
		add(*r.Field + ": " + *r.Detail)
	case r.Detail != nil:
		add(*r.Detail)
	}
	if r.Instance != nil && *r.Instance != "" {
		add("the server's log says more under " + *r.Instance)
	}
	return strings.Join(parts, "; ")
}

// maxAnswer bounds an answer that is read into memory.
const maxAnswer = 16 << 20

// Read decodes the answer of a call: client.Read[client.Request](c.GetRequest(ctx, id)). An answer of 400 and above is
// a [*Refused].
func Read[T any](resp *http.Response, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := Check(resp); err != nil {
		return nil, err
	}
	out := new(T)
	if resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return out, nil
}

// Check turns an answer of 400 and above into a [*Refused]; it then has read the body.
func Check(resp *http.Response) error {
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	r := &Refused{Problem: Problem{Status: resp.StatusCode, Title: resp.Status}, RetryAfter: resp.Header.Get("Retry-After")}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/problem+json" {
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&r.Problem); err != nil {
			return errors.Join(r, err)
		}
	}
	return r
}

// ETag is what If-Match wants for a Request as it was read.
func (r *Request) ETag() *string { return ETag(r.Version) }

// ETag is what If-Match wants for a version of a Request, Hold or Sweep.
func ETag(version int64) *string {
	tag := fmt.Sprintf("%q", fmt.Sprint(version))
	return &tag
}

// Final reports whether the Request has ended.
func (s State) Final() bool {
	switch s {
	case StateCompleted, StateCompletedWithExceptions, StateRefused, StateCancelled:
		return true
	}
	return false
}
