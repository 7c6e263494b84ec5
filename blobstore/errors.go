package blobstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

var (
	// ErrNotFound: the store said that this key holds no object. Nothing else,
	// least of all an outage or a missing bucket, is reported as not found.
	ErrNotFound = errors.New("object not found")
	// ErrExists: a conditional write met an object under its key.
	ErrExists = errors.New("object exists already")
	// ErrUnavailable: the store or STS gave no usable answer, and a write may or
	// may not have happened. Trying again is safe.
	ErrUnavailable = errors.New("store unavailable, try again")
	// ErrDenied: the session's role does not allow this, or STS refused the token.
	ErrDenied = errors.New("store refused access")
	// ErrSession: the session ended or was forgotten. A [Store] gets a new one by
	// itself; the holder of a [Courier] asks the custodian for a new job.
	ErrSession = errors.New("store session ended")
	// ErrTooLarge: the object is longer than the caller accepts.
	ErrTooLarge = errors.New("object larger than accepted")
	// ErrKey: the key is outside what the caller may name. No request was made.
	ErrKey = errors.New("object key outside the caller's prefix")
)

// sentinels maps the store's own words. Codes that are not here fall back to the
// status; a 404 without NoSuchKey (a proxy, a missing bucket) is an outage.
func sentinel(code string) error {
	switch code {
	case "NoSuchKey", "NoSuchVersion":
		return ErrNotFound
	case "PreconditionFailed":
		return ErrExists
	case "AccessDenied", "SignatureDoesNotMatch", "InvalidIdentityToken", "ExpiredTokenException":
		return ErrDenied
	case "InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "InvalidClientTokenId", "TokenRefreshRequired":
		return ErrSession
	case "SlowDown", "ConditionalRequestConflict", "OperationAborted", "RequestTimeout",
		"RequestTimeTooSkewed", "NoSuchBucket", "IDPCommunicationError", "Throttling":
		return ErrUnavailable
	}
	return nil
}

// classify turns an SDK error into one of the sentinels, keeping its text. A
// context error stays visible to errors.Is beside ErrUnavailable.
func classify(what string, err error) error {
	if err == nil {
		return nil
	}
	for _, ctxErr := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, ctxErr) {
			return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, ctxErr)
		}
	}
	return fmt.Errorf("%s: %w: %v", what, kind(err), err)
}

func kind(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		if s := sentinel(api.ErrorCode()); s != nil {
			return s
		}
	}
	var resp *awshttp.ResponseError
	if !errors.As(err, &resp) {
		return ErrUnavailable
	}
	switch status := resp.HTTPStatusCode(); {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return ErrDenied
	case status == http.StatusPreconditionFailed:
		return ErrExists
	case status >= 500, status == http.StatusNotFound, status == http.StatusTooManyRequests, status < 400:
		return ErrUnavailable
	}
	return errRefused
}

// errRefused is a request that the store understood and will never accept: a
// defect on our side, so nobody branches on it.
var errRefused = errors.New("store refused the request")
