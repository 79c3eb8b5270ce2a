package s3_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// front stands before the real server: it can answer in its place, as AWS does what the server does not know, fail, and
// lose an answer.
type front struct {
	*httptest.Server
	mu     sync.Mutex
	before func(w http.ResponseWriter, r *http.Request) (done bool)
	after  func(r *http.Response) error
}

func newFront(t *testing.T, s *store) *front {
	t.Helper()
	target, err := url.Parse(s.Endpoint)
	require.NoError(t, err)
	f := &front{}
	hooks := func() (func(http.ResponseWriter, *http.Request) bool, func(*http.Response) error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.before, f.after
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // which is signed
		},
		ModifyResponse: func(r *http.Response) error {
			if _, after := hooks(); after != nil {
				return after(r)
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // the connection is cut
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before, _ := hooks(); before != nil && before(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// settings lead through the front.
func (f *front) settings(s *store) map[string]any {
	m := s.settings()
	m["endpoint"] = f.URL
	return m
}

// answers makes the front answer the bucket's settings by the name of their query: "lifecycle", "replication".
func (f *front) answers(bodies map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		for name, body := range bodies {
			if _, ok := r.URL.Query()[name]; ok && r.Method == http.MethodGet {
				_, _ = w.Write([]byte(body))
				return true
			}
		}
		return false
	}
}
