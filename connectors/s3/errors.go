package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// codeOf returns the S3 error code of an answer: "AccessDenied", "NoSuchKey"; of an answer without a body its status.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() != "" && api.ErrorCode() != "UnknownError" {
		return api.ErrorCode()
	}
	if s := statusOf(err); s != 0 {
		return fmt.Sprint(s)
	}
	return ""
}

func statusOf(err error) int {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil {
		return re.HTTPStatusCode()
	}
	return 0
}

// isMissing: the key, the version or the setting is not there.
func isMissing(err error) bool {
	return statusOf(err) == http.StatusNotFound && codeOf(err) != "NoSuchBucket"
}

// isConflict: somebody else wrote the object since it was read (412), or is writing it now (409).
func isConflict(err error) bool {
	s := statusOf(err)
	return s == http.StatusPreconditionFailed || s == http.StatusConflict
}

// isUnsupported: the server does not know this part of the API.
func isUnsupported(err error) bool {
	switch codeOf(err) {
	case "NotImplemented", "MethodNotAllowed", "NotSupported", "UnsupportedOperation", "UnknownOperation":
		return true
	}
	return statusOf(err) == http.StatusNotImplemented || statusOf(err) == http.StatusMethodNotAllowed
}

func isDenied(err error) bool { return statusOf(err) == http.StatusForbidden }

// fault gives an error of the SDK a form that may leave the connector: a key may be in its text, as a part of the URL, so
// that operation, code and the server's request id are all that is kept.
func fault(err error) error {
	var known *dsr.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, connectors.ErrFenced), errors.Is(err, connectors.ErrYield):
		return err
	}
	cause := cause(err)
	if cause == nil { // of ours, or of the journal or the sink
		return err
	}
	switch codeOf(err) {
	case "NoSuchBucket":
		return connectors.Permanent(dsr.CodeInvalid, "the bucket does not exist", "Check bucket, region and endpoint.", cause)
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return connectors.Permanent(dsr.CodeInvalid, "the bucket is in another region", "Correct region.", cause)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return connectors.Permanent(dsr.CodeForbidden, "the credentials are not valid", "Check access_key and secret_key, or the role of this process.", cause)
	}
	switch s := statusOf(err); {
	case s == http.StatusForbidden:
		return connectors.Permanent(dsr.CodeForbidden, "the server does not allow this", "Compare the role's policy with what lethe grants prints; a bucket of another owner than expected is refused too.", cause)
	case s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusConflict && s != http.StatusPreconditionFailed &&
		s != http.StatusTooManyRequests && s != http.StatusNotFound:
		return connectors.Permanent(dsr.CodeInvalid, "the server refuses this request", "", cause)
	}
	return &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the bucket cannot be reached", Hint: "It is tried again.", Err: cause}
}

// cause is what of an SDK's error holds no key; nil when it is not one.
func cause(err error) error {
	var op *smithy.OperationError
	if !errors.As(err, &op) {
		return nil
	}
	var re *awshttp.ResponseError
	if errors.As(err, &re) {
		return fmt.Errorf("%s: %s (request %s)", op.Operation(), codeOf(err), re.ServiceRequestID())
	}
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("%s: %w", op.Operation(), u.Err)
	}
	return fmt.Errorf("%s failed", op.Operation())
}

// broken is the error of a body that ended too early or could not be read: the connection, not the object.
func broken() error {
	return &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the connection broke while an object was read", Hint: "It is tried again."}
}
