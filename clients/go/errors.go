package tidings

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is a request that was refused, or that failed within its time.
type Error struct {
	// Code is one of the protocol's codes in lower case, such as `permission_denied`, or `deadline_exceeded`.
	Code string
	// Message is for developers.
	Message string
	// Field is the invalid field, if there is one.
	Field string
	// RetryAfter is how long the server asks to wait. Retrying helps only if HasRetryAfter.
	RetryAfter    time.Duration
	HasRetryAfter bool
	// Channel is the channel whose subscription ended, if there is one.
	Channel string
}

func (e *Error) Error() string {
	if e.Channel != "" {
		return fmt.Sprintf("tidings: %s: %s: %s", e.Code, e.Channel, e.Message)
	}
	return fmt.Sprintf("tidings: %s: %s", e.Code, e.Message)
}

// Code returns the code of an [Error], or "" for any other error.
func Code(err error) string {
	var failure *Error
	if errors.As(err, &failure) {
		return failure.Code
	}
	return ""
}

// Is makes an Error with the code deadline_exceeded or cancelled match the errors of package context.
func (e *Error) Is(target error) bool {
	return e.Code == "deadline_exceeded" && target == context.DeadlineExceeded ||
		e.Code == "cancelled" && target == context.Canceled
}

// ErrClosed is what a closed client, subscription or publisher answers.
var ErrClosed = errors.New("tidings: closed")

// passing reports whether the same request may succeed when retried.
func (e *Error) passing() bool {
	return e.Code == "unavailable" || e.Code == "resource_exhausted" && e.HasRetryAfter
}

// final reports whether it ends a subscription.
func (e *Error) final() bool {
	switch e.Code {
	case "already_exists", "data_loss", "failed_precondition", "invalid_argument", "not_found", "out_of_range",
		"permission_denied", "unauthenticated", "unimplemented":
		return true
	}
	return false
}

func failureOf(err error) *Error {
	var failure *Error
	if errors.As(err, &failure) {
		return failure
	}
	found, ok := status.FromError(err)
	if !ok {
		if ctx := status.FromContextError(err); ctx.Code() != codes.Unknown {
			found = ctx
		}
	}
	failure = failureOfStatus(found.Proto())
	if len(found.Proto().GetDetails()) == 0 {
		// gRPC itself reports these codes for a broken call. The server sends them only with details.
		switch found.Code() {
		case codes.Internal, codes.Unknown, codes.Canceled:
			failure.Code = "unavailable"
		}
	}
	return failure
}

func failureOfStatus(message *statuspb.Status) *Error {
	failure := &Error{Code: codeName(codes.Code(message.GetCode())), Message: message.GetMessage()}
	for _, detail := range message.GetDetails() {
		var wrong errdetails.BadRequest
		var retry errdetails.RetryInfo
		if detail.UnmarshalTo(&wrong) == nil && len(wrong.GetFieldViolations()) > 0 {
			failure.Field = wrong.GetFieldViolations()[0].GetField()
		} else if detail.UnmarshalTo(&retry) == nil {
			failure.RetryAfter, failure.HasRetryAfter = retry.GetRetryDelay().AsDuration(), true
		}
	}
	return failure
}

// codeName is the name of a code in lower case with underscores, such as `resource_exhausted`.
func codeName(code codes.Code) string {
	if code == codes.Canceled {
		return "cancelled"
	}
	var name strings.Builder
	for at, letter := range code.String() {
		if unicode.IsUpper(letter) && at > 0 && name.Len() > 0 {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(letter))
	}
	return name.String()
}
