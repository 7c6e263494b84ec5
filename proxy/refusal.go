package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"syscall"

	"example.org/agentkeys/api"
)

// RefusalHeader names the code of a refusal that the proxy itself gives, so a program
// can tell it from the upstream's own answer. An upstream's header of that name is
// removed.
const RefusalHeader = "AgentKeys-Refusal"

// sendRefusal answers with an [api.Error] as JSON. Any other error is told as internal.
func sendRefusal(w http.ResponseWriter, err error) *api.Error {
	e := asRefusal(err)
	h := w.Header()
	h.Set(RefusalHeader, e.Code)
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if e.Status == http.StatusProxyAuthRequired {
		h.Set("Proxy-Authenticate", `Basic realm="agentkeys"`)
	}
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e)
	return e
}

func asRefusal(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	return &api.Error{Status: http.StatusInternalServerError, Code: "internal", Message: "the proxy failed", Next: "Try again", Retry: true}
}

func errAuth() *api.Error {
	return &api.Error{Status: http.StatusProxyAuthRequired, Code: "proxy_auth_required",
		Message: "this proxy serves the processes of agentkeys run only",
		Next:    "Start the program with: agentkeys run --with NAME -- CMD. Do not retry"}
}

func errHost(host string) *api.Error {
	return &api.Error{Status: http.StatusForbidden, Code: "host_refused",
		Message: "no credential of this process is for " + host,
		Next:    "Ask the owner for a credential with this host, or for agentkeys proxy start with others passed. Do not retry"}
}

func errMisdirected(host string) *api.Error {
	return &api.Error{Status: http.StatusMisdirectedRequest, Code: "host_differs",
		Message: "the request names another host than its tunnel, which goes to " + host,
		Next:    "Open a tunnel to the host that the request names"}
}

func errPlain(host string) *api.Error {
	return &api.Error{Status: http.StatusForbidden, Code: "tls_required",
		Message: "a credential goes to " + host + " over TLS only",
		Next:    "Use https. Plain http is for port 80 and for this machine"}
}

func errRequest(message string) *api.Error {
	return &api.Error{Status: http.StatusBadRequest, Code: "bad_request", Message: message, Next: "Do not retry"}
}

func errBusy() *api.Error {
	return &api.Error{Status: http.StatusTooManyRequests, Code: "too_many",
		Message: "this process has too many open calls", Next: "Close some and retry", Retry: true}
}

func errRevoked() *api.Error {
	return &api.Error{Status: http.StatusForbidden, Code: "revoked",
		Message: "the credential was withdrawn during this call", Next: "Ask the owner. Do not retry"}
}

// errUpstream says why a call did not get through, in words that hold nothing of the
// request: errors of the transport may.
func errUpstream(host string, err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &name) || errors.As(err, &invalid) {
		return &api.Error{Status: http.StatusBadGateway, Code: "upstream_untrusted",
			Message: "the certificate of " + host + " is not trusted", Next: "Nothing was sent. Ask the owner to look at it"}
	}
	return &api.Error{Status: http.StatusBadGateway, Code: "upstream_unreachable",
		Message: host + " cannot be reached: " + why(err), Next: "See whether it is up, then retry", Retry: true}
}

func why(err error) string {
	var dns *net.DNSError
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return "its name does not resolve"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "it did not answer in time"
	}
	return "the connection broke"
}
