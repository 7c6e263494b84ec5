package custodian

import (
	"net/http"
	"strings"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/token"
)

const loginAgain = "Log in again: agentkeys login"

// authenticate checks the session token and the proof that this very request comes
// from the holder of the session's key. Whether the session is still good is for
// [Server.authorise].
func (s *Server) authenticate(r *http.Request, body []byte) (token.Claims, error) {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return token.Claims{}, sessionInvalid.because(loginAgain, "this needs a session")
	}
	c, err := token.ParseSession(&s.issuer.PublicKey, s.cfg.Vault, bearer)
	if err != nil {
		return token.Claims{}, sessionInvalid.because(loginAgain, "this session is not of this vault")
	}
	err = api.CheckProof(r.Header.Get(api.ProofHeader), c.Key, s.cfg.Vault, bearer, r.Method, r.URL.Path, body, time.Now())
	if err != nil {
		return token.Claims{}, sessionInvalid.because("Set the clock right, then log in again: agentkeys login",
			"the request is not proven by the session's key, or the clocks differ by more than %s", api.ProofWindow)
	}
	return c, nil
}
