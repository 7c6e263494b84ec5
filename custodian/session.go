package custodian

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys"
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
	c, err := s.parsed.claims(bearer, func() (token.Claims, error) {
		return token.ParseSession(&s.issuer.PublicKey, s.cfg.Vault, bearer)
	})
	if err != nil {
		return token.Claims{}, sessionInvalid.because(loginAgain, "this session is not of this vault")
	}
	proof, err := api.CheckProof(r.Header.Get(api.ProofHeader), c.Key, s.cfg.Vault, bearer, r.Method, r.URL.Path, body, time.Now())
	if err != nil {
		return token.Claims{}, sessionInvalid.because("Set the clock right, then log in again: agentkeys login",
			"the request is not proven by the session's key, or the clocks differ by more than %s", api.ProofWindow)
	}
	if err := s.proofs.first(proof); err != nil {
		return token.Claims{}, err
	}
	s.known.used(c)
	return c, nil
}

// maxParsed bounds the sessions whose signature is remembered.
const maxParsed = 4096

// parsed remembers tokens by their hash once their signature was checked: that is
// the same for every request, and nothing else about a session is. When full it
// begins anew.
type parsed struct {
	mu sync.RWMutex
	by map[agentkeys.Hash]token.Claims
}

func (p *parsed) claims(text string, parse func() (token.Claims, error)) (token.Claims, error) {
	h := agentkeys.Hash(sha256.Sum256([]byte(text)))
	p.mu.RLock()
	c, ok := p.by[h]
	p.mu.RUnlock()
	if ok {
		return c, nil
	}
	c, err := parse()
	if err != nil {
		return c, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.by) >= maxParsed || p.by == nil {
		p.by = map[agentkeys.Hash]token.Claims{}
	}
	p.by[h] = c
	return c, nil
}
