package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
)

// maxLine bounds one message on the control socket.
const maxLine = 1 << 20

// Request is one line of JSON to the proxy's control socket. A connection brings one
// child; when it closes, the child is over.
type Request struct {
	Op         string          `json:"op"`              // child, renew, status, stop
	Agent      string          `json:"agent,omitempty"` // its name, for people
	Delegation *api.Delegation `json:"delegation,omitempty"`
	Names      []string        `json:"names,omitempty"` // services
	Env        []string        `json:"env,omitempty"`   // SHA-256, hex, of values in the inherited environment
}

// Response is one line back.
type Response struct {
	Error    *api.Error `json:"error,omitempty"`
	URL      string     `json:"url,omitempty"` // of the proxy, with the child's token
	CA       string     `json:"ca,omitempty"`  // PEM, for the child's hosts
	Services []Service  `json:"services,omitempty"`
	Env      []Found    `json:"env,omitempty"`
	Status   *Status    `json:"status,omitempty"`

	Wallet agentkeys.Wallet `json:"-"` // the proxy's, kept by who asked
}

// Service is what a child has of a credential instead of its value.
type Service struct {
	Name         string   `json:"name"`
	Kind         uint8    `json:"kind"`
	Version      uint64   `json:"version"`
	Placeholders []string `json:"placeholders"` // the first stands for all of it; an AWS key has id, secret, session token
	Hosts        []string `json:"hosts"`
}

// Found says that an inherited value is a stored one, and what to put in its place.
type Found struct {
	Env         string `json:"env"` // as it was asked
	Placeholder string `json:"placeholder"`
}

// Status is what a proxy says of itself. No values.
type Status struct {
	PID      int           `json:"pid"`
	Wallet   string        `json:"wallet"`
	Address  string        `json:"address"`
	Others   string        `json:"others"` // pass, refuse
	Watching bool          `json:"watching"`
	Dumpable bool          `json:"dumpable"` // true: programs of the same user id can read its memory
	Children []ChildStatus `json:"children"`
}

// ChildStatus is one command under "agentkeys run".
type ChildStatus struct {
	Agent  string        `json:"agent"`
	Since  int64         `json:"since"`
	Leases []LeaseStatus `json:"leases"`
}

// LeaseStatus is one value on loan.
type LeaseStatus struct {
	Service string `json:"service"`
	Version uint64 `json:"version"`
	Seconds int    `json:"seconds"` // left
	Calls   int    `json:"calls"`   // running now
}

// run serves the control socket, watches and sweeps until ctx ends or the custodian
// says that this proxy is none any more.
func (k *leases) run(ctx context.Context, control net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k.stop = cancel
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { _ = control.Close() })()
	wg.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(sweepEvery):
				k.sweep()
			}
		}
	})
	wg.Go(func() { k.accept(ctx, &wg, control) })
	err := k.watch(ctx)
	cancel()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (k *leases) accept(ctx context.Context, wg *sync.WaitGroup, control net.Listener) {
	for {
		conn, err := control.Accept()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			k.cfg.Log.Warn("control socket", "error", err.Error())
			time.Sleep(firstPause)
			continue
		}
		wg.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			if err := peerAllowed(conn); err != nil {
				k.cfg.Log.Warn("control socket", "error", err.Error())
				return
			}
			k.talk(ctx, conn)
		})
	}
}

// talk answers one connection until it closes, and ends its child then.
func (k *leases) talk(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var c *child
	defer func() {
		if c != nil {
			k.dismiss(c)
		}
	}()
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		var in Request
		out, stop := Response{}, false
		if err := api.Decode(bytes.NewReader(lines.Bytes()), maxLine, &in); err != nil {
			out.Error = denied(http.StatusBadRequest, "bad_request", err.Error(), "Use the same version of agentkeys for run and proxy", false)
		} else {
			out, stop = k.answer(ctx, in, &c)
		}
		b, err := json.Marshal(out)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(b, '\n')); err != nil {
			return
		}
		if stop {
			k.stop()
			return
		}
	}
}

func (k *leases) answer(ctx context.Context, in Request, c **child) (out Response, stop bool) {
	switch {
	case in.Op == "status":
		out.Status = k.status()
	case in.Op == "stop":
		stop = true
	case in.Op == "child" && *c == nil && in.Delegation != nil && len(in.Names) > 0:
		var err error
		if out, *c, err = k.adopt(ctx, in); err != nil {
			out = Response{Error: asRefusal(err)}
		}
	case in.Op == "renew" && *c != nil && in.Delegation != nil:
		k.renew(*c, *in.Delegation)
	default:
		out.Error = denied(http.StatusBadRequest, "bad_request", "control: not something this proxy does now", "Use the same version of agentkeys for run and proxy", false)
	}
	return out, stop
}

// adopt makes a child and tells it what it gets instead of values.
func (k *leases) adopt(ctx context.Context, in Request) (out Response, c *child, err error) {
	var names []agentkeys.Service
	for _, n := range in.Names {
		name, err := agentkeys.ParseService(n)
		if err != nil {
			return out, nil, denied(http.StatusBadRequest, "bad_request", err.Error(), "Name a service as in: agentkeys list", false)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(in.Agent) > 64 || len(names) > 64 || len(in.Env) > 4096 {
		return out, nil, denied(http.StatusBadRequest, "bad_request", "control: too much at once", "Name fewer services", false)
	}
	token, c, err := k.admit(ctx, in.Agent, *in.Delegation, names)
	if err != nil {
		return out, nil, err
	}
	ca, err := k.cfg.CA.Certificate(c.hosts())
	if err != nil {
		k.dismiss(c)
		return out, nil, err
	}
	out.CA, out.URL = string(ca), fmt.Sprintf("http://%s:%s@%s", urlName(in.Agent), token, k.address)
	k.describe(c, in.Env, &out)
	return out, c, nil
}

// urlName is an agent's name as user of a proxy URL: names are a-z, 0-9, '.', '_', '-'.
func urlName(agent string) string {
	if _, err := agentkeys.ParseService(agent); err != nil {
		return "owner"
	}
	return agent
}

// describe adds the placeholders, and which inherited values are stored ones.
func (k *leases) describe(c *child, env []string, out *Response) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range c.names {
		l := c.held[n]
		if l == nil {
			continue // dropped this moment: the child's calls will say so
		}
		s := Service{Name: string(n), Kind: uint8(l.Kind), Version: l.Version, Placeholders: placeholder(n, l.Credential)}
		for _, h := range l.Hosts {
			s.Hosts = append(s.Hosts, fmt.Sprintf("%s:%d", h.Pattern, h.Port))
		}
		out.Services = append(out.Services, s)
		for i, part := range parts(l.Credential) {
			sum := sha256.Sum256(part)
			h := hex.EncodeToString(sum[:])
			if slices.Contains(env, h) {
				out.Env = append(out.Env, Found{h, s.Placeholders[i]})
			}
		}
	}
}

func (k *leases) status() *Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &Status{PID: os.Getpid(), Wallet: k.cfg.Wallet.String(), Address: k.address, Others: k.cfg.Others.String(),
		Watching: !past(k.valid), Dumpable: dumpable(), Children: []ChildStatus{}}
	for _, c := range k.children {
		cs := ChildStatus{Agent: c.name, Since: c.began.Unix(), Leases: []LeaseStatus{}}
		for n, l := range c.held {
			cs.Leases = append(cs.Leases, LeaseStatus{string(n), l.Version, int(time.Until(l.Until) / time.Second), l.users})
		}
		slices.SortFunc(cs.Leases, func(a, b LeaseStatus) int { return strings.Compare(a.Service, b.Service) })
		s.Children = append(s.Children, cs)
	}
	slices.SortFunc(s.Children, func(a, b ChildStatus) int { return strings.Compare(a.Agent, b.Agent) })
	return s
}

// Control is a connection to a running proxy's control socket.
type Control struct {
	conn  net.Conn
	lines *bufio.Scanner
}

// ErrNotRunning is returned where no proxy listens.
var ErrNotRunning = errors.New("no proxy is running here; start it: agentkeys proxy start")

// Connect opens the socket at path.
func Connect(ctx context.Context, path string) (*Control, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, ErrNotRunning
	}
	c := &Control{conn: conn, lines: bufio.NewScanner(conn)}
	c.lines.Buffer(make([]byte, 0, 4096), maxLine)
	return c, nil
}

// Ask sends one request. A refusal is an [api.Error].
func (c *Control) Ask(in Request) (out Response, err error) {
	b, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	if _, err := c.conn.Write(append(b, '\n')); err != nil {
		return out, fmt.Errorf("proxy: %w", err)
	}
	if !c.lines.Scan() {
		return out, fmt.Errorf("proxy: it ended: %w", errors.Join(c.lines.Err(), io.ErrUnexpectedEOF))
	}
	if err := api.Decode(bytes.NewReader(c.lines.Bytes()), maxLine, &out); err != nil {
		return out, err
	}
	if out.Error != nil {
		return out, out.Error
	}
	return out, nil
}

// Close ends the connection, and with it the child that it brought.
func (c *Control) Close() error { return c.conn.Close() }
