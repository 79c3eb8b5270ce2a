package cloudwatchlogs

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Codes of the errors that a person must act on.
const (
	CodePermission  dsr.Code = "logs-permission"
	CodeNoGroup     dsr.Code = "logs-no-group"
	CodeNoRetention dsr.Code = "logs-no-retention"
	CodeRefused     dsr.Code = "logs-refused"
)

// called is all that survives of an error of the service: its text may echo what was asked.
type called struct{ action, code string }

func (c called) Error() string { return c.action + " " + c.code }

// classify replaces an error of the SDK by one of ours: what may pass has [dsr.CodeUnavailable], the rest is permanent.
func classify(action string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	unavailable := func(msg, code string) error {
		return &dsr.Error{
			Code: dsr.CodeUnavailable, Msg: msg, Hint: "See the service quotas of CloudWatch Logs and the AWS Health Dashboard.",
			Err: called{action, code},
		}
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return unavailable("CloudWatch Logs cannot be reached", "no answer")
	}
	code := api.ErrorCode()
	switch code {
	case "ThrottlingException", "Throttling", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded":
		return unavailable("CloudWatch Logs throttles", code)
	case "ServiceUnavailableException", "InternalServerException", "InternalFailure", "OperationAbortedException", "ExpiredTokenException":
		return unavailable("CloudWatch Logs does not answer now", code)
	case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "IncompleteSignatureException",
		"MissingAuthenticationTokenException", "InvalidClientTokenId":
		return connectors.Permanent(CodePermission, "AWS refuses "+action,
			"`lethe grants` prints the policy that Lethe needs", called{action, code})
	case "ResourceNotFoundException":
		return connectors.Permanent(CodeNoGroup, "the log group or stream does not exist",
			"correct the entity's group and the system's region; `lethe check` names it", called{action, code})
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() >= 500 {
		return unavailable("CloudWatch Logs does not answer now", code)
	}
	return connectors.Permanent(CodeRefused, "AWS refuses the parameters of "+action, "run `lethe check`", called{action, code})
}

// errHeld ends a search that was for one held event.
var errHeld = errors.New("held")

func isNotFound(err error) bool {
	var e *types.ResourceNotFoundException
	return errors.As(err, &e)
}

func isInvalid(err error) bool {
	var e *types.InvalidParameterException
	return errors.As(err, &e)
}
