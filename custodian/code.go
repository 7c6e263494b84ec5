package custodian

import (
	"fmt"
	"net/http"

	"example.org/agentkeys/api"
)

// code is one way in which a request ends without what it asked for. Names are the
// contract (docs/spec/api.md, "Errors").
type code struct {
	name   string
	status int
	retry  bool
}

// Denials: nothing was done, and doing it again changes nothing unless retry.
var (
	badRequest       = code{"bad_request", http.StatusBadRequest, false}
	tooLarge         = code{"too_large", http.StatusRequestEntityTooLarge, false}
	sessionInvalid   = code{"session_invalid", http.StatusUnauthorized, false}
	sessionExpired   = code{"session_expired", http.StatusUnauthorized, false}
	signatureInvalid = code{"signature_invalid", http.StatusUnauthorized, false}
	notEnrolled      = code{"not_enrolled", http.StatusForbidden, false}
	agentNotAdmitted = code{"agent_not_admitted", http.StatusForbidden, false}
	agentRevoked     = code{"agent_revoked", http.StatusForbidden, false}
	ownerOnly        = code{"owner_only", http.StatusForbidden, false}
	grantMissing     = code{"grant_missing", http.StatusForbidden, false}
	grantExpired     = code{"grant_expired", http.StatusForbidden, false}
	grantRevoked     = code{"grant_revoked", http.StatusForbidden, false}
	useOnly          = code{"use_only", http.StatusForbidden, false}
	presenceRequired = code{"presence_required", http.StatusForbidden, false}
	presenceInvalid  = code{"presence_invalid", http.StatusForbidden, false}
	notFound         = code{"not_found", http.StatusNotFound, false}
	conflict         = code{"conflict", http.StatusConflict, false}
	changed          = code{"changed", http.StatusConflict, true}
	notProxy         = code{"not_a_proxy", http.StatusForbidden, false}
	notWatching      = code{"proxy_not_watching", http.StatusConflict, true}
)

// Failures: the vault cannot do it now.
var (
	epochOpening     = code{"epoch_opening", http.StatusServiceUnavailable, true}
	staleHead        = code{"stale_head", http.StatusServiceUnavailable, true}
	chainUnavailable = code{"chain_unavailable", http.StatusServiceUnavailable, true}
	storeUnavailable = code{"store_unavailable", http.StatusServiceUnavailable, true}
	shareUnavailable = code{"share_unavailable", http.StatusServiceUnavailable, true}
	auditUnavailable = code{"audit_unavailable", http.StatusServiceUnavailable, true}
	busy             = code{"busy", http.StatusServiceUnavailable, true}
	unknownOutcome   = code{"unknown_outcome", http.StatusGatewayTimeout, true}
	objectMissing    = code{"object_missing", http.StatusInternalServerError, false}
	tampered         = code{"tampered", http.StatusInternalServerError, false}
)

// because makes the error that leaves. next is what to do, for whoever reads it.
func (c code) because(next, format string, args ...any) *api.Error {
	return &api.Error{Status: c.status, Code: c.name, Message: fmt.Sprintf(format, args...), Next: next, Retry: c.retry}
}
