package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"example.org/agentkeys/proxy"
	"github.com/spf13/cobra"
)

// proxyFlags say how the proxy behaves. All of it is the owner's choice: it reaches
// the process with the secrets, not by arguments that another could start it with.
type proxyFlags struct {
	Listen  string            `json:"listen"`
	Others  string            `json:"others"`
	Resolve map[string]string `json:"resolve"`
	Roots   []byte            `json:"roots"` // PEM of further authorities for upstreams

	resolve []string
	rootsIn string
}

func proxyCommand(a *app) *cobra.Command {
	c := group(&cobra.Command{Use: "proxy", Short: "The proxy that puts keys on the wire for your agents",
		Example: "  agentkeys proxy start\n  agentkeys run --with github --agent scribe -- curl https://api.github.com/user"})
	c.AddCommand(proxyStart(a), proxyStop(a), proxyStatus(a), proxyCA(a), proxyServe(a))
	return c
}

func proxyStart(a *app) *cobra.Command {
	var f proxyFlags
	c := &cobra.Command{Use: "start", Short: "Start the proxy in the background (you are asked for your passphrase)", Args: exactly(0, "no arguments"),
		Long:    "Starts the proxy. Its own wallet and the key of its certificate authority are on disk only under your\npassphrase, and in memory only in a process that programs of your user id cannot read (root can). You admit it\nfor 30 days. It holds values for a minute at most, and none past a revocation.",
		Example: "  agentkeys proxy start\n  agentkeys proxy start --others refuse",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.startProxy(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.data(s, func(w io.Writer) {
				fmt.Fprintf(w, "Proxy on %s; hosts without a rule: %s\nNext: agentkeys run --with NAME --agent A -- CMD\n", s.Address, s.Others)
			})
		}}
	c.Flags().StringVar(&f.Listen, "listen", "127.0.0.1:0", "address for proxied traffic, on loopback")
	c.Flags().StringVar(&f.Others, "others", "pass", "hosts that no rule names: pass (untouched) or refuse")
	c.Flags().StringArrayVar(&f.resolve, "resolve", nil, "host:port=address:port: where this host is, loopback included; may be repeated")
	c.Flags().StringVar(&f.rootsIn, "upstream-ca", "", "file with further certificate authorities of services")
	return c
}

// complete reads what the flags name.
func (f *proxyFlags) complete() error {
	if f.Others != "pass" && f.Others != "refuse" {
		return usageError{errors.New("--others: want pass or refuse")}
	}
	if !strings.HasPrefix(f.Listen, "127.0.0.1:") && !strings.HasPrefix(f.Listen, "[::1]:") {
		return usageError{errors.New("--listen: want an address on loopback, such as 127.0.0.1:8899")}
	}
	f.Resolve = map[string]string{}
	for _, r := range f.resolve {
		from, to, ok := strings.Cut(r, "=")
		if !ok || !strings.Contains(from, ":") || !strings.Contains(to, ":") {
			return usageError{fmt.Errorf("--resolve %s: want host:port=address:port", r)}
		}
		f.Resolve[strings.ToLower(from)] = to
	}
	if f.rootsIn != "" {
		b, err := os.ReadFile(f.rootsIn)
		if err != nil {
			return usageError{fmt.Errorf("--upstream-ca: %w", err)}
		}
		if !x509.NewCertPool().AppendCertsFromPEM(b) {
			return usageError{fmt.Errorf("--upstream-ca: %s holds no certificate", f.rootsIn)}
		}
		f.Roots = b
	}
	return nil
}

// socket is where the proxy of this profile listens for control.
func (a *app) socket() string { return a.path("proxy", orID(a.socketName, a.profileName)+".sock") }

// maxSocket is what every system takes for a socket's path.
const maxSocket = 103

func (a *app) startProxy(ctx context.Context, f proxyFlags) (*proxy.Status, error) {
	if err := outsideRun(); err != nil {
		return nil, err
	}
	if err := f.complete(); err != nil {
		return nil, err
	}
	if len(a.socket()) > maxSocket {
		return nil, fmt.Errorf("proxy: the path of its socket is too long (%s); set AGENTKEYS_HOME to a shorter one", a.socket())
	}
	if c, err := proxy.Connect(ctx, a.socket()); err == nil {
		c.Close()
		return nil, usageError{errors.New("a proxy runs already; see it: agentkeys proxy status, end it: agentkeys proxy stop")}
	}
	cl, err := a.owner(ctx)
	if err != nil {
		return nil, err
	}
	owner, err := a.openWallet()
	if err != nil {
		return nil, err
	}
	defer owner.Zero()
	in, err := a.proxySecrets(cl)
	if err != nil {
		return nil, err
	}
	defer in.wipe()
	in.proxyFlags = f
	if err := a.admitProxy(ctx, cl, owner, in.wallet); err != nil {
		return nil, err
	}
	if err := a.spawnProxy(ctx, in); err != nil {
		return nil, err
	}
	return a.awaitWatching(ctx)
}

// awaitWatching gives the state of a proxy that hears the custodian: before that it
// gives nothing.
func (a *app) awaitWatching(ctx context.Context) (*proxy.Status, error) {
	for end := time.Now().Add(proxyWithin); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s, err := a.proxyState(ctx); err != nil || s.Watching {
			return s, err
		}
	}
	return nil, errors.New("proxy: it runs and does not hear the custodian; see: agentkeys doctor")
}

// proxyState asks the running proxy.
func (a *app) proxyState(ctx context.Context) (*proxy.Status, error) {
	c, err := proxy.Connect(ctx, a.socket())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	out, err := c.Ask(proxy.Request{Op: "status"})
	return out.Status, err
}

func proxyStop(a *app) *cobra.Command {
	return &cobra.Command{Use: "stop", Short: "Stop the proxy: its children's calls end", Args: exactly(0, "no arguments"), Example: "  agentkeys proxy stop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Stopped bool `json:"stopped"`
			}{}
			c, err := proxy.Connect(cmd.Context(), a.socket())
			if err == nil {
				defer c.Close()
				if _, err := c.Ask(proxy.Request{Op: "stop"}); err != nil {
					return err
				}
				v.Stopped = true
				if err := a.awaitGone(cmd.Context()); err != nil {
					return err
				}
			}
			return a.data(v, func(w io.Writer) {
				if v.Stopped {
					fmt.Fprintln(w, "Stopped.")
				} else {
					fmt.Fprintln(w, "Nothing ran.")
				}
			})
		}}
}

// awaitGone waits until the process has let go of everything.
func (a *app) awaitGone(ctx context.Context) error {
	for end := time.Now().Add(proxyWithin); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if f, err := claim(a.socket()); err == nil {
			return f.Close()
		}
	}
	return errors.New("proxy: it does not end; see: agentkeys proxy status")
}

func proxyStatus(a *app) *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Whether the proxy runs, for whom, and what it holds", Args: exactly(0, "no arguments"), Example: "  agentkeys proxy status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.proxyState(cmd.Context())
			if err != nil {
				return err
			}
			return a.data(s, func(w io.Writer) { printProxy(w, s) })
		}}
}

func printProxy(w io.Writer, s *proxy.Status) {
	fmt.Fprintf(w, "Proxy on %s, process %d; hosts without a rule: %s\n", s.Address, s.PID, s.Others)
	if !s.Watching {
		fmt.Fprintln(w, "It does NOT hear the custodian, so it gives nothing. See: agentkeys doctor")
	}
	if s.Dumpable {
		fmt.Fprintln(w, "Its memory can be read by programs of your user id on this system.")
	}
	if len(s.Children) == 0 {
		fmt.Fprintln(w, "No command runs under it.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "AGENT\tSINCE\tHOLDS\tCALLS NOW")
	for _, c := range s.Children {
		var holds []string
		calls := 0
		for _, l := range c.Leases {
			holds = append(holds, fmt.Sprintf("%s v%d (%d s)", l.Service, l.Version, l.Seconds))
			calls += l.Calls
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\n", c.Agent, when(uint64(c.Since)), strings.Join(holds, ", "), calls)
	}
	t.Flush()
}
