package proxy

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"

	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
)

// errOpaque says that an answer could hide the secret from the mask.
func errOpaque(coding string) error {
	return &api.Error{Status: http.StatusBadGateway, Code: "encoding_refused",
		Message: "the upstream answered in an encoding that was not asked for and cannot be searched for the secret",
		Next:    "Ask it for another representation"}
}

// exchange is one request and its answer. Without a call nothing is injected or masked.
type exchange struct {
	e    *engine
	l    *link
	to   target
	tls  bool
	call call
	with bool // a credential
	mask *mask

	w       http.ResponseWriter
	in      *http.Request
	client  net.Conn // TCP
	started atomic.Bool
	dropped atomic.Bool
	refusal *api.Error
	status  int

	mu       sync.Mutex
	conns    []*traced
	finished bool // the answer was read to its end
	buf      []byte
}

// carry takes one request there and its answer back; with says that there is a call, whose
// end is settled here.
func (x *exchange) carry(rec call, with bool) {
	ctx := x.in.Context()
	if with {
		x.call, x.with = rec, true
		x.mask = maskOf(x.e.escapes, rec.credential)
		defer x.settle()
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(rec.ctx)
		defer cancel()
		defer context.AfterFunc(x.in.Context(), cancel)()
		defer x.follow(rec.ctx)()
	}
	ctx = httptrace.WithClientTrace(ctx, x.trace())
	rp := httputil.ReverseProxy{
		Rewrite: x.rewrite, Transport: x, ModifyResponse: x.inspect, ErrorHandler: x.fail,
		FlushInterval: -1, BufferPool: x.e.buffers, ErrorLog: x.e.silent,
	}
	// Otherwise net/http throws away what is left of a request when its answer begins.
	_ = http.NewResponseController(x.w).EnableFullDuplex()
	rp.ServeHTTP(answer{x.w, x}, x.in.WithContext(ctx))
	if x.mask != nil {
		x.mask.header(x.w.Header()) // trailers
	}
	if x.dropped.Load() && x.started.Load() && x.refusal == nil {
		panic(http.ErrAbortHandler) // a cut answer must not look whole
	}
}

func (x *exchange) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	out.URL.Scheme, out.URL.Host = "http", x.to.String()
	if x.tls {
		out.URL.Scheme = "https"
	}
	out.URL.User = nil
	out.URL.RawQuery = pr.In.URL.RawQuery // ReverseProxy drops what it cannot parse
	out.Host = pr.In.Host
	out.Trailer = pr.In.Trailer // the same map: it fills while the body is read
	if !x.with {
		return
	}
	out.Header.Del("Sec-Websocket-Extensions") // compressed frames could not be searched
	if x.call.credential.Kind != credential.SigV4 {
		out.Header.Set("Accept-Encoding", "identity")
	}
}

// RoundTrip injects at the last moment, when nothing changes the request any more.
func (x *exchange) RoundTrip(out *http.Request) (*http.Response, error) {
	if x.with {
		if x.call.credential.Kind == credential.SigV4 && mustHash(out) {
			select {
			case x.e.hashing <- struct{}{}:
				defer func() { <-x.e.hashing }()
			case <-out.Context().Done():
				return nil, out.Context().Err()
			}
		}
		if err := put(out, x.call.credential); err != nil {
			return nil, err
		}
	}
	return x.l.transport.RoundTrip(out)
}

// inspect masks the head of an answer and prepares its body.
func (x *exchange) inspect(res *http.Response) error {
	x.status = res.StatusCode
	res.Header.Del(RefusalHeader)
	if !x.with {
		return nil
	}
	res.Status = ""           // its text is the upstream's
	res.Header.Del("Alt-Svc") // would lead around the proxy
	x.mask.header(res.Header)
	if res.StatusCode == http.StatusSwitchingProtocols {
		back, ok := res.Body.(io.ReadWriteCloser)
		if !ok {
			return errors.New("upgrade: cannot be written to")
		}
		res.Body = duplex{&maskReader{src: back, mask: x.mask, eager: x.mask.eager}, back}
		return nil
	}
	src, err := x.decode(res)
	if err != nil {
		return err
	}
	x.buf = x.e.buffers.Get()
	m := &maskReader{src: src, mask: x.mask, atEnd: x.finish, buf: x.buf}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc") {
		m.eager = x.mask.eager
	}
	res.Body = body{m, res.Body}
	return nil
}

func (x *exchange) finish() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.finished = true
}

// decode opens gzip although it was not asked for, and refuses what cannot be searched.
// A secret key of AWS is never on the wire, only signatures by it: there every encoding
// passes.
func (x *exchange) decode(res *http.Response) (io.Reader, error) {
	coding := strings.ToLower(strings.TrimSpace(strings.Join(res.Header.Values("Content-Encoding"), ",")))
	none := res.Body == http.NoBody || x.in.Method == http.MethodHead
	switch {
	case coding == "", coding == "identity", none, x.call.credential.Kind == credential.SigV4:
		return res.Body, nil
	case coding == "gzip" || coding == "x-gzip":
		res.Header.Del("Content-Encoding")
		res.Header.Del("Content-Length")
		res.ContentLength = -1
		return &unzip{src: res.Body}, nil
	}
	return nil, errOpaque(coding)
}

// unzip waits with the head of gzip until somebody reads.
type unzip struct {
	src io.Reader
	zip *gzip.Reader
}

func (u *unzip) Read(p []byte) (n int, err error) {
	if u.zip == nil {
		if u.zip, err = gzip.NewReader(u.src); err != nil {
			return 0, err
		}
	}
	return u.zip.Read(p)
}

type body struct {
	io.Reader
	io.Closer
}

type duplex struct {
	io.Reader
	io.WriteCloser
}

func (x *exchange) fail(w http.ResponseWriter, _ *http.Request, err error) {
	if x.dropped.Load() || x.with && x.call.ctx.Err() != nil && x.in.Context().Err() == nil {
		err = errRevoked()
	}
	w.Header().Set("Connection", "close")   // what is left of the request is not read
	x.refusal = errUpstream(x.to.host, err) // before it is sent: a refusal is not the answer's beginning
	x.status = x.refusal.Status
	sendRefusal(w, x.refusal)
}

// answer tells when the answer begins, and masks the informational ones before it.
type answer struct {
	http.ResponseWriter
	x *exchange
}

func (a answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a answer) WriteHeader(status int) {
	if a.x.refusal == nil && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.x.started.Store(true)
	}
	if a.x.mask != nil && status < 200 {
		a.x.mask.header(a.Header())
	}
	a.ResponseWriter.WriteHeader(status)
}

func (x *exchange) log(verdict string) {
	if x.refusal != nil {
		verdict = x.refusal.Code
	}
	x.e.log.LogAttrs(context.Background(), slog.LevelDebug, "call", slog.String("agent", x.l.caller.agent()),
		slog.String("host", x.to.host), slog.Int("status", x.status), slog.String("verdict", verdict))
}
