package api

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	openapi_types "github.com/oapi-codegen/runtime/types"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

const defaultLimit = 50

// FileRequest takes a request in.
func (s *server) FileRequest(ctx context.Context, in gen.FileRequestRequestObject) (gen.FileRequestResponseObject, error) {
	ctx, actor := caller(ctx)
	b := in.Body
	n := engine.NewRequest{
		Kind: dsr.Kind(b.Kind), Tenant: val(b.Tenant), Scope: toScope(b.Scope), Identifiers: toIdentifiers(b.Identifiers),
		Ground: string(val(b.Ground)), Verified: val(b.IdentityVerified), Method: val(b.IdentityMethod),
		Language: val(b.Language), Duplicate: val(b.LinkDuplicate),
	}
	if b.ReceivedAt != nil {
		n.Received = *b.ReceivedAt
	}
	r, err := s.Engine.File(ctx, actor, n)
	if err != nil {
		return nil, fieldsOfTheContract(err)
	}
	return gen.FileRequest202JSONResponse{
		Body:    fromRequest(r),
		Headers: gen.FileRequest202ResponseHeaders{Location: ptr(locationOf(r)), ETag: ptr(etag(r.Version))},
	}, nil
}

// ListRequests lists what the caller may see.
func (s *server) ListRequests(ctx context.Context, in gen.ListRequestsRequestObject) (gen.ListRequestsResponseObject, error) {
	p := in.Params
	page, next, err := s.list(ctx, engine.Filter{
		Kind: dsr.Kind(val(p.Kind)), States: toStates(p.State), Tenant: val(p.Tenant), Cursor: val(p.Cursor),
		Limit: limit(p.Limit),
	})
	if err != nil {
		return nil, err
	}
	out := gen.ListRequests200JSONResponse{Body: page}
	out.Headers.Link = nextLink(ctx, "cursor", next)
	return out, nil
}

// SearchRequests lists the requests of one exact identifier.
func (s *server) SearchRequests(
	ctx context.Context, in gen.SearchRequestsRequestObject,
) (gen.SearchRequestsResponseObject, error) {
	b := in.Body
	page, _, err := s.list(ctx, engine.Filter{
		Kind: dsr.Kind(val(b.Kind)), States: toStates(b.States), Tenant: val(b.Tenant), Cursor: val(b.Cursor),
		Limit:      limit(b.Limit),
		Identifier: &engine.RawIdentifier{Name: b.Identifier.Name, Value: dsr.NewSecret(b.Identifier.Value)},
	})
	if err != nil {
		return nil, fieldsOfTheContract(err, "identifiers[0]", "identifier")
	}
	return gen.SearchRequests200JSONResponse(page), nil
}

// GetRequest shows one.
func (s *server) GetRequest(ctx context.Context, in gen.GetRequestRequestObject) (gen.GetRequestResponseObject, error) {
	ctx, actor := caller(ctx)
	r, err := s.Engine.Get(ctx, actor, in.Id)
	if err != nil {
		return nil, err
	}
	return gen.GetRequest200JSONResponse{RequestJSONResponse: asIs(r)}, nil
}

func (s *server) list(ctx context.Context, f engine.Filter) (gen.RequestPage, string, error) {
	ctx, actor := caller(ctx)
	rs, next, err := s.Engine.List(ctx, actor, f)
	if err != nil {
		return gen.RequestPage{}, "", err
	}
	page := gen.RequestPage{Requests: make([]gen.Request, 0, len(rs)), NextCursor: opt(next)}
	for _, r := range rs {
		page.Requests = append(page.Requests, fromRequest(r))
	}
	return page, next, nil
}

// nextLink is the Link header of RFC 8288 to the next page: this call, which the contract has checked, with another
// cursor.
func nextLink(ctx context.Context, parameter, next string) *string {
	g, ok := ctx.(*gin.Context)
	if next == "" || !ok {
		return nil
	}
	q := g.Request.URL.Query()
	q.Set(parameter, next)
	u := url.URL{Path: g.Request.URL.Path, RawQuery: q.Encode()}
	return ptr("<" + u.String() + `>; rel="next"`)
}

// after is the cursor of a list that is in the order of ids, which all look alike.
func after(p *string, id *regexp.Regexp) (string, error) {
	c := val(p)
	if c != "" && !id.MatchString(c) {
		return "", errCursor
	}
	return c, nil
}

var (
	sweepID   = regexp.MustCompile("^swp_[0-7][0-9A-HJKMNP-TV-Z]{25}$")
	holdID    = regexp.MustCompile("^hold_[0-7][0-9A-HJKMNP-TV-Z]{25}$")
	keyID     = regexp.MustCompile("^[a-z2-7]{16}$")
	errCursor = malformed("cursor", "is not one that this API gave out")
)

func limit(p *int) int {
	if p == nil {
		return defaultLimit
	}
	return *p
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

func locationOf(r *dsr.Request) string { return "/v1/requests/" + r.ID }

// seen is the version that a decision is made on.
func seen(ifMatch *string) (int64, error) {
	if ifMatch == nil {
		return 0, &dsr.Error{
			Code: CodePrecondition, Field: "If-Match", Msg: "is missing", Hint: "send the ETag as you saw it",
		}
	}
	v, err := strconv.ParseInt(strings.Trim(*ifMatch, `"`), 10, 64)
	if err != nil {
		return 0, malformed("If-Match", "must be an ETag")
	}
	return v, nil
}

func asIs(r *dsr.Request) gen.RequestJSONResponse {
	return gen.RequestJSONResponse{Body: fromRequest(r), Headers: gen.RequestResponseHeaders{ETag: ptr(etag(r.Version))}}
}

func underWay(r *dsr.Request) gen.RequestUnderWayJSONResponse {
	return gen.RequestUnderWayJSONResponse{
		Body:    fromRequest(r),
		Headers: gen.RequestUnderWayResponseHeaders{ETag: ptr(etag(r.Version)), Location: ptr(locationOf(r))},
	}
}

func toScope(s *gen.Scope) dsr.Scope {
	if s == nil {
		return dsr.Scope{}
	}
	return dsr.Scope{Systems: val(s.Systems), Purposes: val(s.Purposes)}
}

func toIdentifiers(in []gen.Identifier) []engine.RawIdentifier {
	out := make([]engine.RawIdentifier, 0, len(in))
	for _, id := range in {
		out = append(out, engine.RawIdentifier{Name: id.Name, Value: dsr.NewSecret(id.Value)})
	}
	return out
}

func toStates(in *[]gen.State) []dsr.State {
	var out []dsr.State
	for _, st := range val(in) {
		out = append(out, dsr.State(st))
	}
	return out
}

func fromRequest(r *dsr.Request) gen.Request {
	out := gen.Request{
		Id: r.ID, Kind: gen.Kind(r.Kind), State: gen.State(r.State), Tenant: opt(r.Tenant), FiledBy: r.FiledBy,
		Ground: opt(gen.Ground(r.Ground)), Clock: fromClock(r.Clock), MapVersion: opt(r.MapVersion),
		PlanHash: opt(r.PlanHash), ApprovedHash: opt(r.ApprovedHash), ApprovedBy: opt(r.ApprovedBy),
		Article: opt(r.Article), Reason: opt(r.Reason), Hint: opt(r.Hint), DeferredUntil: r.DeferTo,
		DuplicateOf: opt(r.Duplicate), Version: r.Version, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, ClosedAt: r.ClosedAt,
	}
	if len(r.Scope.Systems) > 0 {
		out.Scope.Systems = &r.Scope.Systems
	}
	if len(r.Scope.Purposes) > 0 {
		out.Scope.Purposes = &r.Scope.Purposes
	}
	return out
}

func fromClock(c dsr.Clock) gen.Clock {
	out := gen.Clock{
		Received: openapi_types.Date{Time: c.Received}, Due: openapi_types.Date{Time: c.Due},
		DueUnpaused: openapi_types.Date{Time: c.DueUnpaused}, Extended: c.Extended,
		Pauses: make([]gen.Pause, 0, len(c.Pauses)),
	}
	for _, p := range c.Pauses {
		out.Pauses = append(out.Pauses, gen.Pause{From: p.From, To: p.To, Reason: p.Reason})
		out.Paused = out.Paused || p.To == nil
	}
	return out
}

// fieldsOfTheContract renames the fields of an error from the engine's names to those of openapi.yaml; more renames
// come in pairs and match the beginning.
func fieldsOfTheContract(err error, more ...string) error {
	var e *dsr.Error
	if !errors.As(err, &e) {
		return err
	}
	renamed := *e
	renames := append([]string{"received", "received_at", "hash", "plan_hash", "method", "identity_method"}, more...)
	for i := 0; i < len(renames); i += 2 {
		rest, ok := strings.CutPrefix(e.Field, renames[i])
		if ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			renamed.Field = renames[i+1] + rest
		}
	}
	return &renamed
}
