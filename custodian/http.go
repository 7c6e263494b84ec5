package custodian

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"example.org/agentkeys/api"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

// Handler is the API for clients, to be served over the pinned TLS.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	open(mux, s, api.PathChallenge, s.challenge)
	open(mux, s, api.PathLogin, s.login)
	open(mux, s, api.PathStatement, s.statement)
	session(mux, s, api.PathWhoAmI, s.whoami)
	session(mux, s, api.PathTagKey, s.viewingKey)
	session(mux, s, api.PathRead, s.read)
	session(mux, s, api.PathWrite, s.write)
	session(mux, s, api.PathList, s.list)
	session(mux, s, api.PathReads, s.reads)
	session(mux, s, api.PathUse, s.use)
	session(mux, s, api.PathWatch, s.watch)
	session(mux, s, api.PathRules, s.rules)
	session(mux, s, api.PathSessions, s.sessions)
	session(mux, s, api.PathEnd, s.end)
	mux.HandleFunc("GET "+api.PathVault, func(w http.ResponseWriter, _ *http.Request) {
		h := s.cfg.Chain.Head()
		api.Reply(w, api.Vault{VaultID: s.cfg.Vault.String(), ChainID: s.cfg.ChainID, Custodian: s.Key().String(),
			Height: h.Height, Hash: h.Hash.String(), Protected: s.cfg.Limit})
	})
	mux.HandleFunc("GET "+api.PathCheckpoint, func(w http.ResponseWriter, _ *http.Request) {
		h := s.cfg.Chain.Head()
		api.Reply(w, api.Checkpoint{ChainID: s.cfg.ChainID, Height: h.Height, Hash: h.Hash.String()})
	})
	mux.HandleFunc("GET "+api.PathEvidence, func(w http.ResponseWriter, _ *http.Request) {
		api.Reply(w, api.Evidence{Platform: s.cfg.Platform, Evidence: s.cfg.Evidence})
	})
	return mux
}

// OperatorHandler is the API for the operator: jobs behind its token, health and
// counters for anybody on the loopback address.
func (s *Server) OperatorHandler(jobs *Jobs) http.Handler {
	inner := http.NewServeMux()
	jobs.Routes(inner)
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/operator/", func(w http.ResponseWriter, r *http.Request) {
		got, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(got), s.cfg.State.Token.Reveal()) != 1 {
			api.Fail(w, sessionInvalid.because("Give the operator this custodian's operator.token", "the operator's token is missing or wrong"))
			return
		}
		inner.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET "+api.PathHealth, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET "+api.PathReady, func(w http.ResponseWriter, r *http.Request) {
		if err := s.Ready(r.Context()); err != nil {
			api.Fail(w, chainUnavailable.because("", "%v", err))
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "logins %d\nreads %d\nwrites %d\ndenied %d\n", s.counts.logins.Load(), s.counts.reads.Load(),
			s.counts.writes.Load(), s.counts.denied.Load())
	})
	return mux
}

// Ready reports whether the chain lists this process and the shares are open.
func (s *Server) Ready(ctx context.Context) error {
	e, ok, _, err := one(ctx, s.cfg.Chain, rules.EnclaveKey(statement.EnclaveCustodian, s.Key()), rules.ParseEnclave)
	switch {
	case err != nil:
		return err
	case !ok || e.Revoked:
		return errors.New("this custodian is not registered on the chain")
	case !s.opened.Load():
		return errors.New("the share trees are not open yet")
	}
	return nil
}

// Opened says that the share trees are open.
func (s *Server) Opened() { s.opened.Store(true) }

// body reads a limited body.
func readBody(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, api.MaxRequest+1))
	if err != nil {
		return nil, badRequest.because("", "the request broke off")
	}
	if len(b) > api.MaxRequest {
		return nil, tooLarge.because("", "the request has more than %d bytes", api.MaxRequest)
	}
	return b, nil
}

// open serves a path that needs no session.
func open[In, Out any](mux *http.ServeMux, s *Server, path string, f func(context.Context, In) (Out, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		b, err := readBody(r)
		if err != nil {
			s.fail(w, path, err)
			return
		}
		serve(w, r.Context(), s, path, b, f)
	})
}

// session serves a path that needs one.
func session[In, Out any](mux *http.ServeMux, s *Server, path string, f func(context.Context, token.Claims, In) (Out, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		b, err := readBody(r)
		if err != nil {
			s.fail(w, path, err)
			return
		}
		defer clear(b)
		c, err := s.authenticate(r, b)
		if err != nil {
			s.fail(w, path, err)
			return
		}
		serve(w, r.Context(), s, path, b, func(ctx context.Context, in In) (Out, error) { return f(ctx, c, in) })
	})
}

func serve[In, Out any](w http.ResponseWriter, ctx context.Context, s *Server, path string, b []byte, f func(context.Context, In) (Out, error)) {
	var in In
	if err := api.Decode(bytes.NewReader(b), api.MaxRequest, &in); err != nil {
		s.fail(w, path, badRequest.because("", "%v", err))
		return
	}
	out, err := f(ctx, in)
	if err != nil {
		s.fail(w, path, err)
		return
	}
	api.Reply(w, out)
	switch v := any(out).(type) {
	case api.Value:
		clear(v.Credential)
	case api.Used:
		clear(v.Credential)
	}
}

// fail answers a refusal and logs what is not for the caller.
func (s *Server) fail(w http.ResponseWriter, path string, err error) {
	var known *api.Error
	if !errors.As(err, &known) {
		s.log.Error("request failed", "path", path, "error", err.Error())
	} else if known.Status == http.StatusForbidden || known.Status == http.StatusUnauthorized {
		s.counts.denied.Add(1)
	}
	api.Fail(w, err)
}
