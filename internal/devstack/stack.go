package devstack

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/statement"
)

// Options of one run.
type Options struct {
	Dir    string
	Bin    string           // where the programs lie; "" = beside this one, then PATH
	Params statement.Params // of a new vault
	Open   bool             // the rotator runs without its sandbox
	Idle   string           // the vault's default: carry or expire; "" = carry
	Step   func(string)     // told what is going on; may be nil
	// Anchors are beside the two files, each KIND:PLACE as the custodian's --anchor has them.
	// Later starts remember them.
	Anchors []string
}

// DevParams are the numbers of a development vault: as in production, but with a
// head age short enough that a destroyed epoch can be watched.
func DevParams() statement.Params {
	p := statement.DefaultParams()
	p.MaxHeadAge = 2
	return p
}

// Stack is a development stack whose directory this process has locked.
type Stack struct {
	opt  Options
	cfg  Config
	bins map[string]string
	lock *os.File

	mu                               sync.Mutex // guards the pointers, not the children
	node, cloud, custodian, operator *child
}

// ErrRunning means that another supervisor has the directory.
var ErrRunning = errors.New("dev: a stack runs in this directory already; see: agentkeys dev status")

// Open locks the directory and reads or makes its configuration.
func Open(opt Options) (*Stack, error) {
	for _, d := range []string{"", "log", "custodian", "keys"} {
		if err := os.MkdirAll(filepath.Join(opt.Dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("dev: %w", err)
		}
	}
	s := &Stack{opt: opt, bins: map[string]string{}}
	lock, err := lockDir(opt.Dir)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	if err := s.open(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) open() (err error) {
	for _, name := range []string{"agentkeysd", "agentkeys-devcloud", "agentkeys-custodian", "agentkeys-operator", "agentkeys-rotator"} {
		if s.bins[name], err = findBinary(s.opt.Bin, name); err != nil {
			return err
		}
	}
	s.cfg, err = ReadConfig(s.opt.Dir)
	if errors.Is(err, os.ErrNotExist) {
		err = s.first()
	}
	if err != nil {
		return err
	}
	s.cfg.NoSandbox = s.opt.Open
	known := len(s.cfg.More)
	if err := s.cfg.addAnchors(s.opt.Anchors); err != nil {
		return err
	}
	if len(s.cfg.More) > known {
		if err := s.tryAnchors(); err != nil {
			return err
		}
	}
	return s.cfg.save(s.opt.Dir)
}

// tryAnchors asks the custodian itself whether it understands them, before they are
// remembered: with one that it does not, no later start would succeed.
func (s *Stack) tryAnchors() error {
	out, err := exec.Command(s.bins["agentkeys-custodian"], "--anchor", s.anchorFlag(), "--help").CombinedOutput()
	if err == nil {
		return nil
	}
	why, _, _ := strings.Cut(string(out), "\n")
	if _, after, ok := strings.Cut(why, "for flag -anchor: "); ok {
		why = after
	}
	return fmt.Errorf("--anchor: %s", why)
}

// first makes the configuration of a new stack.
func (s *Stack) first() (err error) {
	if s.cfg, err = newConfig(); err != nil {
		return err
	}
	if s.cfg.Authority, err = s.newKey("authority.key"); err != nil {
		return err
	}
	s.cfg.Relayer, err = s.newKey("relay.key")
	return err
}

// newKey makes an account key file and returns its address.
func (s *Stack) newKey(name string) (string, error) {
	key, signer, err := newAccount()
	if err != nil {
		return "", err
	}
	text := "development: root can read it\n" + hex.EncodeToString(key) + "\n"
	return signer.Address().String(), writeFile(s.keyFile(name), []byte(text))
}

func (s *Stack) keyFile(name string) string { return filepath.Join(s.opt.Dir, "keys", name) }

// Close gives up the directory.
func (s *Stack) Close() error { return s.lock.Close() }

// Processes gives the process id of each part that runs now.
func (s *Stack) Processes() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	pids := map[string]int{}
	for _, c := range []*child{s.node, s.cloud, s.custodian, s.operator} {
		if c == nil {
			continue
		}
		if pid := c.running(); pid != 0 {
			pids[c.name] = pid
		}
	}
	return pids
}

// Config is the stack's configuration.
func (s *Stack) Config() Config { return s.cfg }

// lockDir takes the directory's lock and writes this process's id into it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "supervisor.pid"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("dev: %w", err)
	}
	// [Running] holds the lock for a moment to find out.
	for try := 0; syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil; try++ {
		if try == 5 {
			f.Close()
			return nil, ErrRunning
		}
		time.Sleep(10 * time.Millisecond)
	}
	syscall.CloseOnExec(int(f.Fd()))
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("dev: %w", err)
	}
	_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	return f, err
}

func (s *Stack) say(what string) {
	if s.opt.Step != nil {
		s.opt.Step(what)
	}
}

// Run starts everything, calls ready once, and keeps it running until ctx ends.
func (s *Stack) Run(ctx context.Context, ready func(Config) error) error {
	if err := s.cfg.Ports.await(ctx); err != nil {
		return err
	}
	if err := s.initChain(ctx); err != nil {
		return err
	}
	s.children()
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range []*child{s.node, s.cloud} {
		g.Go(func() error { return c.run(ctx) })
	}
	g.Go(func() error {
		start, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := s.bring(ctx, start, g); err != nil {
			return err
		}
		return ready(s.cfg)
	})
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// initChain makes the genesis once. The chain's own directory shows whether it was.
func (s *Stack) initChain(ctx context.Context) error {
	home := filepath.Join(s.opt.Dir, "chain")
	if _, err := os.Stat(filepath.Join(home, "config", "genesis.json")); err == nil {
		return nil
	}
	s.say("making a new vault")
	p := s.opt.Params
	if p == (statement.Params{}) {
		p = DevParams()
	}
	params := fmt.Sprintf(`{"Cadence":%d,"DrainWindow":%d,"MaxHeadAge":%d,"MaxValidity":%d,"LostAfter":%d,"MeasurementWait":%d}`,
		p.Cadence, p.DrainWindow, p.MaxHeadAge, p.MaxValidity, p.LostAfter, p.MeasurementWait)
	cmd := exec.CommandContext(ctx, s.bins["agentkeysd"], "init", "--home", home, "--chain-id", s.cfg.ChainID,
		"--vault-id", s.cfg.VaultID, "--authority", s.cfg.Authority, "--params", params,
		"--fund", s.cfg.Authority+"=1000000000000", "--fund", s.cfg.Relayer+"=1000000000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("agentkeysd init: %w\n%s", err, out)
	}
	return nil
}

func (s *Stack) children() {
	d, p, logs := s.opt.Dir, s.cfg.Ports, filepath.Join(s.opt.Dir, "log")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node = newChild("agentkeysd", s.bins["agentkeysd"], logs, "start", "--home", filepath.Join(d, "chain"),
		"--rpc", addr(p.RPC), "--stop-on-eof")
	s.cloud = newChild("agentkeys-devcloud", s.bins["agentkeys-devcloud"], logs, "--dir", filepath.Join(d, "cloud"),
		"--s3", addr(p.S3), "--sts", addr(p.STS), "--bucket", bucket, "--issuer", issuer, "--audience", audience,
		"--jwks", filepath.Join(d, "custodian", "jwks.json"), "--stop-on-eof")
}

// bring starts what depends on node and store, and registers it by the real
// messages. Everything in it may be repeated.
func (s *Stack) bring(ctx, start context.Context, g *errgroup.Group) error {
	s.say("starting node and store")
	if err := s.node.wait(start, nil); err != nil {
		return err
	}
	if err := s.cloud.wait(start, nil); err != nil {
		return err
	}
	a, err := s.authority(start)
	if err != nil {
		return err
	}
	defer a.close()
	s.say("allowing this build")
	acts, err := s.measurements()
	if err != nil {
		return err
	}
	if err := a.send(start, acts...); err != nil {
		return err
	}
	if err := s.trust(start); err != nil {
		return err
	}
	s.say("starting custodian and operator")
	s.late()
	g.Go(func() error { return s.custodian.run(ctx) })
	if err := s.custodian.wait(start, &s.cfg.Custodian); err != nil {
		return err
	}
	// The token that the operator shows is there now.
	g.Go(func() error { return s.operator.run(ctx) })
	if err := s.operator.wait(start, nil); err != nil {
		return err
	}
	reg, err := s.registration()
	if err != nil {
		return err
	}
	if err := a.send(start, reg); err != nil {
		return err
	}
	if err := s.cfg.save(s.opt.Dir); err != nil {
		return err
	}
	return s.awaitReady(start)
}

// trust takes the first header from the stack's own node, once.
func (s *Stack) trust(ctx context.Context) error {
	if s.cfg.Trust.Height != 0 {
		return nil
	}
	n, err := ledger.NewNode(s.cfg.RPC())
	if err != nil {
		return err
	}
	b, err := n.LightBlock(ctx, 1)
	if err != nil {
		return err
	}
	s.cfg.Trust = Trust{1, agentkeys.Hash(b.Header.Hash()).String()}
	return s.cfg.save(s.opt.Dir)
}

func (s *Stack) late() {
	d, p, logs := s.opt.Dir, s.cfg.Ports, filepath.Join(s.opt.Dir, "log")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.custodian = newChild("agentkeys-custodian", s.bins["agentkeys-custodian"], logs, "--development",
		"--home", filepath.Join(d, "custodian"), "--listen", addr(p.API), "--operator-listen", addr(p.Operator),
		"--relay", s.cfg.Relay(), "--node", s.cfg.RPC(), "--chain-id", s.cfg.ChainID, "--vault", s.cfg.VaultID,
		"--trust-height", fmt.Sprint(s.cfg.Trust.Height), "--trust-hash", s.cfg.Trust.Hash,
		"--s3", url("http", p.S3), "--sts", url("http", p.STS), "--bucket", bucket, "--region", region,
		"--issuer", issuer, "--audience", audience, "--anchor", s.anchorFlag(), "--idle", cmp.Or(s.opt.Idle, "carry"), "--stop-on-eof")
	operator := []string{"start", "--vault", s.cfg.VaultID,
		"--chain-id", s.cfg.ChainID, "--node", s.cfg.RPC(), "--custodian", url("http", p.Operator),
		"--token-file", filepath.Join(d, "custodian", "operator.token"), "--relay-key-file", s.keyFile("relay.key"),
		"--rotator", s.bins["agentkeys-rotator"], "--listen", addr(p.Relay), "--stop-on-eof"}
	if s.cfg.NoSandbox {
		operator = append(operator, "--rotator-no-sandbox")
	}
	s.operator = newChild("agentkeys-operator", s.bins["agentkeys-operator"], logs, operator...)
}

// anchorFlag is what the custodian's --anchor takes.
func (s *Stack) anchorFlag() string {
	dirs, err := s.cfg.AnchorDirs(filepath.Join(s.opt.Dir, "anchor"))
	if err != nil {
		return err.Error() // the custodian refuses it, and the log has it
	}
	var all []string
	for id, dir := range dirs {
		all = append(all, id.String()+"=file:"+dir)
	}
	slices.Sort(all)
	for _, more := range s.cfg.More {
		all = append(all, more.ID+"="+more.Place)
	}
	return strings.Join(all, ",")
}

// awaitReady waits until the custodian says that it may sign and has its shares.
func (s *Stack) awaitReady(ctx context.Context) error {
	s.say("waiting for the custodian")
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}} //nolint:gosec // asks only whether it is ready
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 5 * time.Second}
	last := "no answer"
	for {
		for _, u := range []string{url("http", s.cfg.Ports.Operator) + "/readyz"} {
			resp, err := c.Get(u)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return nil
				}
				last = resp.Status
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("custodian is not ready (%s); its log: %s\n%s", last, s.custodian.log, tail(s.custodian.log))
		case <-time.After(10 * time.Millisecond):
		}
	}
}
