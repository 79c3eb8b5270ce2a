package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// problemBase and a Code make the `type` of a problem document; each is explained there.
const problemBase = "https://github.com/lethe-gdpr/lethe/blob/main/docs/API.md#"

// Codes that only the HTTP edge knows.
const (
	CodeMalformed            dsr.Code = "malformed"             // not the shape that openapi.yaml asks for: 400
	CodeMethod               dsr.Code = "method-not-allowed"    // 405
	CodeTooLarge             dsr.Code = "too-large"             // 413
	CodeContentType          dsr.Code = "content-type"          // 415
	CodePrecondition         dsr.Code = "precondition-required" // If-Match is missing: 428
	CodeThrottled            dsr.Code = "too-many-requests"     // 429
	CodeIdempotencyInFlight  dsr.Code = "idempotency-in-flight" // 409
	CodeIdempotencyDifferent dsr.Code = "idempotency-mismatch"  // 422
	CodeInternal             dsr.Code = "internal"              // 500
)

type status struct {
	code  int
	title string
}

func statusOf(c dsr.Code) status {
	switch c {
	case CodeMalformed:
		return status{http.StatusBadRequest, "The call is malformed"}
	case auth.CodeUnauthenticated:
		return status{http.StatusUnauthorized, "No valid key"}
	case dsr.CodeForbidden:
		return status{http.StatusForbidden, "Not allowed"}
	case dsr.CodeFourEyes:
		return status{http.StatusForbidden, "Another person has to approve"}
	case dsr.CodeNotFound:
		return status{http.StatusNotFound, "Not found"}
	case CodeMethod:
		return status{http.StatusMethodNotAllowed, "Method not allowed"}
	case dsr.CodeWrongState:
		return status{http.StatusConflict, "Not possible in this state"}
	case dsr.CodeDuplicate:
		return status{http.StatusConflict, "There is an open request already"}
	case auth.CodePrincipalKind:
		return status{http.StatusConflict, "Known as the other type"}
	case CodeIdempotencyInFlight:
		return status{http.StatusConflict, "The first call has not ended"}
	case dsr.CodeConflict:
		return status{http.StatusPreconditionFailed, "It has changed meanwhile"}
	case dsr.CodeHashMismatch:
		return status{http.StatusPreconditionFailed, "There is a newer plan"}
	case dsr.CodeRuleMismatch:
		return status{http.StatusPreconditionFailed, "The rule is another by now"}
	case dsr.CodeDueMismatch:
		return status{http.StatusPreconditionFailed, "Another count is due"}
	case CodeTooLarge:
		return status{http.StatusRequestEntityTooLarge, "Too large"}
	case CodeContentType:
		return status{http.StatusUnsupportedMediaType, "Wrong content type"}
	case dsr.CodeInvalid:
		return status{http.StatusUnprocessableEntity, "Invalid input"}
	case dsr.CodeUnreadable:
		return status{http.StatusUnprocessableEntity, "What is stored cannot be read"}
	case CodeIdempotencyDifferent:
		return status{http.StatusUnprocessableEntity, "The key was used for another call"}
	case CodePrecondition:
		return status{http.StatusPreconditionRequired, "If-Match is missing"}
	case dsr.CodeOverCap:
		return status{http.StatusTooManyRequests, "Above a cap"}
	case CodeThrottled:
		return status{http.StatusTooManyRequests, "Too many calls"}
	case dsr.CodeUnavailable:
		return status{http.StatusServiceUnavailable, "Not available now"}
	}
	return status{http.StatusInternalServerError, "A fault of ours"}
}

// invalidFields is an error that names several fields.
type invalidFields struct{ errs []gen.FieldError }

func (*invalidFields) Error() string { return "the call is malformed" }

func (s *server) fail(g *gin.Context, err error) {
	p, after := s.problem(g, err)
	g.Abort()
	if g.Writer.Written() {
		return
	}
	body, merr := json.Marshal(p)
	if merr != nil {
		g.Status(http.StatusInternalServerError)
		return
	}
	if after > 0 {
		g.Header("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	if p.Status == http.StatusUnauthorized {
		g.Header("WWW-Authenticate", `Bearer realm="lethe"`)
	}
	g.Data(p.Status, "application/problem+json", body)
}

// problem turns an error into its document. Only what a *dsr.Error says for people goes out; its cause is logged.
func (s *server) problem(g *gin.Context, err error) (p gen.Problem, after time.Duration) {
	var (
		typed     *dsr.Error
		fields    *invalidFields
		throttled *auth.Throttled
		tooLarge  *http.MaxBytesError
	)
	switch {
	case errors.As(err, &fields):
		p = problemOf(&dsr.Error{Code: CodeMalformed, Field: fields.errs[0].Field, Msg: fields.errs[0].Message})
		p.Errors = &fields.errs
		return p, 0
	case errors.As(err, &throttled):
		return problemOf(&dsr.Error{Code: CodeThrottled, Msg: "wait as long as Retry-After says"}), throttled.After
	case errors.As(err, &tooLarge):
		return problemOf(&dsr.Error{
			Code: CodeTooLarge, Field: "body", Msg: "at most " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes",
		}), 0
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		typed = &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the call was not finished in time"}
	case errors.As(err, &typed) && statusOf(typed.Code).code != http.StatusInternalServerError:
	default:
		id := rand.Text()
		s.Logger.ErrorContext(g.Request.Context(), "fault", "id", id, "operation", operationOf(g), "error", err)
		p = problemOf(&dsr.Error{Code: CodeInternal, Msg: "it is in the log under the id that `instance` names"})
		p.Instance = ptr("urn:lethe:fault:" + id)
		return p, 0
	}
	if typed.Code == dsr.CodeInvalid && typed.Field == "cursor" { // of requests, whose cursors the store makes
		return s.problem(g, errCursor)
	}
	switch typed.Code {
	case dsr.CodeUnavailable:
		after = 5 * time.Second
		s.Logger.WarnContext(g.Request.Context(), "unavailable", "operation", operationOf(g), "error", err)
	case dsr.CodeOverCap:
		after = 5 * time.Minute
	case CodeIdempotencyInFlight:
		after = time.Second
	}
	p = problemOf(typed)
	if typed.Field != "" {
		p.Errors = &[]gen.FieldError{{Field: typed.Field, Message: typed.Msg}}
	}
	if faults := engine.MapFaults(err); len(faults) > 0 {
		p.Errors = ptr(each(faults, func(f string) gen.FieldError { return gen.FieldError{Field: "map", Message: f} }))
	}
	return p, after
}

func problemOf(e *dsr.Error) gen.Problem {
	st := statusOf(e.Code)
	return gen.Problem{
		Type: problemBase + string(e.Code), Title: st.title, Status: st.code,
		Detail: opt(e.Msg), Field: opt(e.Field), Hint: opt(e.Hint),
	}
}

func notFound(msg string) error { return &dsr.Error{Code: dsr.CodeNotFound, Msg: msg} }

func malformed(field, msg string) error {
	return &invalidFields{errs: []gen.FieldError{{Field: field, Message: msg}}}
}

var (
	errMethod     = &dsr.Error{Code: CodeMethod, Msg: "this resource does not take that method"}
	errUnreadable = malformed("body", "does not have the shape that openapi.yaml asks for")
)

// opt is nil for a zero value.
func opt[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func ptr[T any](v T) *T { return &v }

// val is the zero value for nil.
func val[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
