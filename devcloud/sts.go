package devcloud

import (
	"encoding/xml"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/versity/versitygw/iamapi/types"
)

const (
	maxForm = 64 << 10
	minLife = 15 * time.Minute
	maxLife = time.Hour
)

var sessionNames = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// tokenService is STS with its one action, AssumeRoleWithWebIdentity.
type tokenService struct {
	cfg      Config
	keys     *keySet
	roles    map[string]role
	sessions *sessions
	log      *slog.Logger
}

// stsError is what a client sees; the cause goes to the log alone.
type stsError struct {
	status        int
	code, message string
}

func (e stsError) Error() string { return e.code + ": " + e.message }

func (t *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	w.Header().Set("Content-Type", "text/xml")
	out, err := t.assume(r)
	if err != nil {
		var e stsError
		if !errors.As(err, &e) {
			e = stsError{http.StatusInternalServerError, "InternalFailure", "internal failure"}
		}
		writeError(w, e)
		return
	}
	_ = xml.NewEncoder(w).Encode(out)
}

// assume checks request, token, trust, in this order, and opens a session.
func (t *tokenService) assume(r *http.Request) (*types.AssumeRoleWithWebIdentityResponse, error) {
	if err := r.ParseForm(); err != nil {
		return nil, stsError{http.StatusBadRequest, "ValidationError", "the form cannot be read"}
	}
	if r.Form.Get("Action") != "AssumeRoleWithWebIdentity" {
		return nil, stsError{http.StatusBadRequest, "InvalidAction", "only AssumeRoleWithWebIdentity is offered"}
	}
	name := r.Form.Get("RoleSessionName")
	life, err := lifetime(r.Form.Get("DurationSeconds"))
	if err != nil || !sessionNames.MatchString(name) || r.Form.Has("Policy") {
		return nil, stsError{http.StatusBadRequest, "ValidationError", "want a session name, 900 to 3600 seconds and no session policy"}
	}
	id, err := t.keys.identify(r.Form.Get("WebIdentityToken"), t.cfg.Issuer, t.cfg.Audience)
	if err != nil {
		t.log.WarnContext(r.Context(), "token refused", "cause", err.Error())
		return nil, tokenError(err)
	}
	wanted, ok := t.roles[r.Form.Get("RoleArn")]
	if !ok || !wanted.trusts(t.cfg.provider(), id, name) {
		t.log.WarnContext(r.Context(), "role refused", "role", r.Form.Get("RoleArn"), "subject", id.subject)
		return nil, stsError{http.StatusForbidden, "AccessDenied", "Not authorized to perform " + actionAssume}
	}
	expiry := time.Now().Add(life).UTC().Truncate(time.Second)
	return response(t.sessions.open(wanted, name, id.tags, expiry), id, t.cfg.provider()), nil
}

func lifetime(s string) (time.Duration, error) {
	if s == "" {
		return maxLife, nil
	}
	n, err := strconv.Atoi(s)
	life := time.Duration(n) * time.Second
	if err != nil || life < minLife || life > maxLife {
		return 0, errors.New("duration: want 900 to 3600 seconds")
	}
	return life, nil
}

// tokenError tells an expired token from every other refusal, as STS does.
func tokenError(err error) stsError {
	if errors.Is(err, jwt.ErrTokenExpired) {
		return stsError{http.StatusBadRequest, "ExpiredTokenException", "the web identity token has expired"}
	}
	return stsError{http.StatusBadRequest, "InvalidIdentityToken", "the web identity token was refused"}
}

func response(s *session, id identity, provider string) *types.AssumeRoleWithWebIdentityResponse {
	var out types.AssumeRoleWithWebIdentityResponse
	out.Result.Audience = id.audience
	out.Result.Provider = provider
	out.Result.SubjectFromWebIdentityToken = id.subject
	out.Result.AssumedRoleUser = types.AssumedRoleUser{AssumedRoleId: "AROA" + s.access[4:], Arn: s.arn}
	out.Result.Credentials = types.Credentials{
		AccessKeyId: s.access, SecretAccessKey: s.secret, SessionToken: s.token, Expiration: s.expiry,
	}
	out.SetRequestID(random(8))
	return &out
}

func writeError(w http.ResponseWriter, e stsError) {
	type body struct {
		XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Type      string   `xml:"Error>Type"`
		Code      string   `xml:"Error>Code"`
		Message   string   `xml:"Error>Message"`
		RequestID string   `xml:"RequestId"`
	}
	w.WriteHeader(e.status)
	_ = xml.NewEncoder(w).Encode(body{Type: "Sender", Code: e.code, Message: e.message, RequestID: random(8)})
}
