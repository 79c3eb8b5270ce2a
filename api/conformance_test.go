package api_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/api/gen"
)

// asTheContractSays holds every answer against openapi.yaml: status, headers, and a body with no field too many.
func asTheContractSays(t *testing.T) *checked {
	t.Helper()
	spec, err := gen.GetSpec()
	require.NoError(t, err)
	spec.Servers = nil // whatever the address
	router, err := legacy.NewRouter(spec)
	require.NoError(t, err)
	return &checked{t: t, router: router}
}

type checked struct {
	t      *testing.T
	router routers.Router
}

func (c *checked) Do(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	require.NoError(c.t, resp.Body.Close())
	resp.Body = io.NopCloser(bytes.NewReader(body))
	route, params, err := c.router.FindRoute(r)
	require.NoError(c.t, err)
	require.NoError(c.t, openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}), "%s %s: %d", r.Method, route.Path, resp.StatusCode)
	return resp, nil
}
