package proxy

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"time"
)

const (
	lastWord = time.Second            // for a refusal after a drop
	cutGrace = 250 * time.Millisecond // for a stream of HTTP/2 to end by itself
)

// traced is a connection that the request was given.
type traced struct {
	conn    *upstream
	h2      bool
	headers chan struct{} // closed once they are written
	request bool          // all of it is
}

// went waits a little for headers that are just being written, by a goroutine that does not
// know that the client has left.
func (t *traced) went() bool {
	select {
	case <-t.headers:
		return true
	case <-time.After(cutGrace):
		return false
	}
}

// follow cuts the client's side when the lease is dropped, so no handler hangs in a read
// or a write. The function it returns ends that.
func (x *exchange) follow(ctx context.Context) func() {
	done := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer cutting.Done()
		if x.in.Context().Err() != nil {
			return // the client left by itself
		}
		x.dropped.Store(true)
		x.cut(done)
	})
	return func() {
		close(done)
		if !stop() {
			cutting.Wait()
		}
	}
}

func (x *exchange) cut(done <-chan struct{}) {
	rc := http.NewResponseController(x.w)
	past := time.Unix(1, 0)
	grace := cutGrace
	switch {
	case !x.started.Load():
		grace = lastWord
		_ = rc.SetReadDeadline(past)
		_ = rc.SetWriteDeadline(time.Now().Add(lastWord))
	case x.in.ProtoMajor == 2:
		_ = rc.SetReadDeadline(past)
		_ = rc.SetWriteDeadline(past)
	default:
		reset(x.client)
		return
	}
	select {
	case <-done:
	case <-time.After(grace):
		reset(x.client)
	}
}

// trace keeps the connections a request is given, also when it is tried again.
func (x *exchange) trace() *httptrace.ClientTrace {
	last := func(f func(*traced)) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if n := len(x.conns); n > 0 {
			f(x.conns[n-1])
		}
	}
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			t := &traced{headers: make(chan struct{})}
			conn := info.Conn
			if c, ok := conn.(*tls.Conn); ok {
				t.h2 = c.ConnectionState().NegotiatedProtocol == "h2"
				conn = c.NetConn()
			}
			t.conn, _ = conn.(*upstream)
			x.mu.Lock()
			defer x.mu.Unlock()
			x.conns = append(x.conns, t)
		},
		WroteHeaders: func() { last(func(t *traced) { close(t.headers) }) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			last(func(t *traced) { t.request = info.Err == nil })
		},
	}
}

// settle makes sure that nothing of the call goes upstream any more, then ends it. A
// connection whose exchange did not come to its end is reset. One of HTTP/2 carries other
// calls: it stays, unless this one was dropped or some of it may still be under way.
func (x *exchange) settle() {
	x.mu.Lock()
	conns, finished := slices.Clone(x.conns), x.finished
	whole := finished && len(conns) > 0 && conns[len(conns)-1].request
	x.mu.Unlock()
	for i, t := range conns {
		if t.conn == nil || whole && i == len(conns)-1 && !x.dropped.Load() {
			continue
		}
		if t.h2 && !x.dropped.Load() && t.went() && t.conn.flushed() {
			continue
		}
		t.conn.abort()
	}
	if finished && x.buf != nil {
		x.e.buffers.Put(x.buf)
	}
	x.mask.wipe()
	x.call.end()
}
