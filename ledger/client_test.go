package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
)

func fakeConfig(n *fakeNode) Config {
	c := n.chain.Load()
	return Config{RPC: n.server.URL, ChainID: c.id, Trust: c.trust(), TrustingPeriod: time.Hour}
}

func open(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run starts the client and returns what stops it and gives Run's error.
func run(t testing.TB, c *Client) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func wallet(n byte) agentkeys.Wallet { return agentkeys.Wallet{19: n} }

func userRow(n byte) string { return string(rules.UserKey(wallet(n))) }

func mustRow(t testing.TB, c *Client, key string) []byte {
	t.Helper()
	value, _, err := c.Row(t.Context(), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestClientFollowsAndProves(t *testing.T) {
	for _, ws := range []bool{true, false} {
		t.Run(fmt.Sprintf("websocket %v", ws), func(t *testing.T) {
			chain := newFakeChain(t, 4)
			n := serveFake(t, chain)
			n.noWS.Store(!ws)
			c := open(t, fakeConfig(n))
			stop := run(t, c)
			h := chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {42}}, wallet(1))
			head, err := c.Await(t.Context(), h)
			if err != nil || head.StateHeight < h || head.Height != head.StateHeight+1 {
				t.Fatalf("head %+v, %v", head, err)
			}
			value, at, err := c.Row(t.Context(), []byte(userRow(1)))
			if err != nil || !bytes.Equal(value, []byte{42}) || at.StateHeight < h {
				t.Fatalf("row %x at %+v, %v", value, at, err)
			}
			value, _, err = c.Row(t.Context(), []byte(userRow(2)))
			if err != nil || value != nil {
				t.Fatalf("absent row: %x, %v", value, err)
			}
			hash, ok := c.HashAt(at.Height)
			if !ok || hash != agentkeys.Hash(chain.at(at.Height).Header.Hash()) {
				t.Error("HashAt does not know the head")
			}
			if err := stop(); !errors.Is(err, context.Canceled) {
				t.Errorf("Run ended with %v", err)
			}
		})
	}
}

func TestFollowSurvivesALostWebsocket(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	c := open(t, fakeConfig(n))
	run(t, c)
	if _, err := c.Await(t.Context(), chain.change(rules.TouchedUsers, nil)); err != nil {
		t.Fatal(err)
	}
	n.noWS.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Await(ctx, chain.change(rules.TouchedUsers, nil)); err != nil {
		t.Fatal(err)
	}
	n.down.Store(true)
	time.Sleep(50 * time.Millisecond)
	h := chain.change(rules.TouchedUsers, nil)
	n.down.Store(false)
	if _, err := c.Await(ctx, h); err != nil {
		t.Fatal(err)
	}
}

func TestCacheDropsExactlyWhatChanged(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {1}, userRow(2): {1}, "p": {1}}, wallet(1), wallet(2))
	c := open(t, fakeConfig(n))
	read := func() {
		mustRow(t, c, userRow(1))
		mustRow(t, c, userRow(2))
		mustRow(t, c, userRow(3))
		mustRow(t, c, "p")
	}
	advance := func() {
		t.Helper()
		if err := c.advance(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	read()
	tests := []struct {
		name    string
		blocks  func()
		proofs  int64 // queries for the walk
		fetched int64 // queries for the rows read again
	}{
		{"nothing", func() {}, 0, 0},
		{"empty block", func() { chain.block(nil) }, 0, 0},
		{"one user, and rows without a user", func() {
			chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {2}}, wallet(1))
		}, 1, 2},
		{"absent becomes present", func() {
			chain.change(rules.TouchedUsers, map[string][]byte{userRow(3): {2}}, wallet(3))
		}, 1, 2},
		{"three blocks walked back", func() {
			for range 3 {
				chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {3}}, wallet(1))
			}
			chain.change(rules.TouchedUsers, map[string][]byte{userRow(2): {3}}, wallet(2))
		}, 4, 3},
		{"system", func() { chain.change(rules.TouchedSystem, map[string][]byte{"p": {4}}) }, 1, 1},
		{"all", func() { chain.change(rules.TouchedAll, map[string][]byte{"p": {5}}) }, 1, 4},
		{"rows changed without a Touched row of their block", func() {
			chain.block(func(kv rules.KV, _ uint64) { _ = kv.Set([]byte("p"), []byte{6}) })
			chain.block(nil)
		}, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := n.count("abci_query")
			tt.blocks()
			advance()
			walked := n.count("abci_query")
			read()
			if got := walked - before; got != tt.proofs {
				t.Errorf("walk took %d proofs, want %d", got, tt.proofs)
			}
			if got := n.count("abci_query") - walked; got != tt.fetched {
				t.Errorf("%d rows fetched again, want %d", got, tt.fetched)
			}
			for _, key := range []string{userRow(1), userRow(2), userRow(3), "p"} {
				if got, want := mustRow(t, c, key), chain.rows[key]; !bytes.Equal(got, want) {
					t.Errorf("row %x is %x, the chain has %x", key, got, want)
				}
			}
		})
	}
}

func TestBrokenWalkDropsEverything(t *testing.T) {
	tests := map[string]func(chain *fakeChain, n *fakeNode){
		"older row gone": func(chain *fakeChain, _ *fakeNode) {
			h := chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {2}}, wallet(1))
			chain.change(rules.TouchedUsers, map[string][]byte{string(rules.TouchedKey(h)): nil}, wallet(2))
		},
		"head row malformed": func(chain *fakeChain, _ *fakeNode) {
			chain.block(func(kv rules.KV, _ uint64) {
				_ = kv.Set(rules.TouchedHeadKey(), []byte("x"))
				_ = kv.Set([]byte(userRow(1)), []byte{2})
			})
			chain.block(nil)
		},
		"head row of a later height": func(chain *fakeChain, _ *fakeNode) {
			chain.block(func(kv rules.KV, h uint64) {
				_ = kv.Set(rules.TouchedHeadKey(), rules.Touched{Height: h + 9, Previous: 1}.Append(nil))
				_ = kv.Set([]byte(userRow(1)), []byte{2})
			})
			chain.block(nil)
		},
		"too long a walk": func(chain *fakeChain, _ *fakeNode) {
			for range maxWalk + 1 {
				chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {2}}, wallet(1))
			}
		},
		"proof refused": func(chain *fakeChain, n *fakeNode) {
			chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {2}}, wallet(1))
			n.answer = func(a *Answer) {
				if bytes.Equal(a.Key, rules.TouchedHeadKey()) {
					a.Value = rules.Touched{Height: 1}.Append(nil)
				}
			}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			chain := newFakeChain(t, 1)
			n := serveFake(t, chain)
			chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {1}, userRow(2): {1}, userRow(5): {1}}, wallet(1), wallet(2))
			c := open(t, fakeConfig(n))
			mustRow(t, c, userRow(1))
			mustRow(t, c, userRow(5))
			change(chain, n)
			if err := c.advance(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(c.cache.rows) != 0 {
				t.Errorf("%d rows kept", len(c.cache.rows))
			}
			if got := mustRow(t, c, userRow(1)); !bytes.Equal(got, []byte{2}) {
				t.Errorf("row is %x", got)
			}
		})
	}
}

// TestStaleFetchIsNotKept lets a head pass while the answer for an older one is on its
// way.
func TestStaleFetchIsNotKept(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {1}}, wallet(1))
	c := open(t, fakeConfig(n))
	old := c.Head()
	f := &flight{done: make(chan struct{})}
	c.flights[userRow(1)] = f
	chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {2}}, wallet(1))
	if err := c.advance(t.Context()); err != nil {
		t.Fatal(err)
	}
	value, err := c.prove(t.Context(), []byte(userRow(1)), old)
	if err != nil || !bytes.Equal(value, []byte{1}) {
		t.Fatalf("%x, %v", value, err)
	}
	c.land(userRow(1), f, value, nil)
	if got := mustRow(t, c, userRow(1)); !bytes.Equal(got, []byte{2}) {
		t.Errorf("the old row came back: %x", got)
	}
	if err := c.fetch(t.Context(), []byte(userRow(9)), old); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.cache.get([]byte(userRow(9))); ok {
		t.Error("a fetch at an overtaken head was kept")
	}
}

func TestConcurrentReadsShareOneFetch(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {1}}, wallet(1))
	c := open(t, fakeConfig(n))
	n.waiting = make(chan struct{})
	before := n.count("abci_query")
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if value, _, err := c.Row(t.Context(), []byte(userRow(1))); err != nil || len(value) != 1 {
				t.Errorf("%x, %v", value, err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	close(n.waiting)
	wg.Wait()
	if got := n.count("abci_query") - before; got != 1 {
		t.Errorf("%d queries for one row", got)
	}
}

// TestReadersSeeOneHead reads two rows that always change together while they do.
func TestReadersSeeOneHead(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	both := func(v byte) {
		chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {v}, userRow(2): {v}}, wallet(1), wallet(2))
	}
	both(1)
	c := open(t, fakeConfig(n))
	run(t, c)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := byte(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				rows, _, err := c.Rows(t.Context(), []byte(userRow(1)), []byte(userRow(2)))
				if err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(rows[0], rows[1]) || rows[0][0] < last {
					t.Errorf("rows of different heads: %x %x after %x", rows[0], rows[1], last)
					return
				}
				last = rows[0][0]
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	for v := byte(2); v < 60; v++ {
		both(v)
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
	_, _, err := c.AwaitRow(t.Context(), []byte(userRow(1)), func(v []byte) bool { return bytes.Equal(v, []byte{59}) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestAwaitRowTimesOutWithTheReason(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	c := open(t, fakeConfig(n))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, _, err := c.AwaitRow(ctx, []byte("x"), func(v []byte) bool { return v != nil })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "still at height") {
		t.Errorf("got %v", err)
	}
}

func TestValidatorChanges(t *testing.T) {
	chain := newFakeChain(t, 4)
	n := serveFake(t, chain)
	cfg := fakeConfig(n)
	for first := 2; first < 20; first++ { // one of four leaves at a time
		chain.rotate(first, 4)
		chain.block(nil)
		chain.block(nil)
	}
	c := open(t, cfg)
	if c.Head().Height != chain.height() {
		t.Errorf("head is %d, the chain's %d", c.Head().Height, chain.height())
	}
	if n.count("validators") < 3 {
		t.Errorf("%d sets fetched: no header in between was needed, the test proves nothing", n.count("validators"))
	}
	chain.rotate(40, 4) // all at once: only adjacent headers lead there
	chain.block(nil)
	chain.block(nil)
	chain.block(nil)
	if err := c.advance(t.Context()); err != nil || c.Head().Height != chain.height() {
		t.Errorf("head %d of %d, %v", c.Head().Height, chain.height(), err)
	}
}

func TestClientRefusesALyingNode(t *testing.T) {
	chain := newFakeChain(t, 4)
	n := serveFake(t, chain)
	chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {1}}, wallet(1))
	c := open(t, fakeConfig(n))
	head := c.Head()
	chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {2}}, wallet(1))
	n.commit = func(s *SignedHeader) { s.Header.AppHash = bytes.Repeat([]byte{1}, 32) }
	if err := c.advance(t.Context()); err == nil || errors.Is(err, ErrFork) || c.Head() != head {
		t.Fatalf("forged header: %v, head %+v", err, c.Head())
	}
	n.commit = nil
	n.answer = func(a *Answer) { a.Value = []byte{9} }
	if _, _, err := c.Row(t.Context(), []byte(userRow(1))); !errors.Is(err, ErrProof) {
		t.Errorf("forged value: %v", err)
	}
	n.answer = func(a *Answer) { a.Value = nil }
	if _, _, err := c.Row(t.Context(), []byte(userRow(1))); err == nil {
		t.Error("a present row was given as absent")
	}
	n.answer = func(a *Answer) { a.Proof = nil }
	if _, _, err := c.Row(t.Context(), []byte(userRow(2))); err == nil {
		t.Error("an absent row was believed without a proof")
	}
	n.answer = func(a *Answer) { *a = chain.query(a.Key, 2) }
	if _, _, err := c.Row(t.Context(), []byte(userRow(1))); err == nil {
		t.Error("an old state was accepted")
	}
}

func TestOpenRefuses(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	tests := map[string]func(*Config){
		"no chain id":  func(c *Config) { c.ChainID = "" },
		"other chain":  func(c *Config) { c.ChainID = "other" },
		"no trust":     func(c *Config) { c.Trust = Trust{} },
		"other hash":   func(c *Config) { c.Trust.Hash[0] ^= 1 },
		"no period":    func(c *Config) { c.TrustingPeriod = 0 },
		"expired":      func(c *Config) { c.TrustingPeriod = time.Second },
		"no address":   func(c *Config) { c.RPC = "127.0.0.1:26657" },
		"height ahead": func(c *Config) { c.Trust.Height = 99 },
	}
	for name, edit := range tests {
		cfg := fakeConfig(n)
		edit(&cfg)
		if _, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestStateFile(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	cfg := fakeConfig(n)
	cfg.StateFile = filepath.Join(t.TempDir(), "trusted.json")
	cfg.StateKey = agentkeys.NewSecret([]byte("0123456789abcdef0123456789abcdef"))
	c := open(t, cfg)
	stop := run(t, c)
	h := chain.change(rules.TouchedUsers, nil)
	if _, err := c.Await(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	_ = stop()
	again, err := newClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := again.base(t.Context())
	if err != nil || kept.Header.Height != h+1 {
		t.Fatalf("kept %+v, %v", kept, err)
	}
	cfg.Trust.Height, cfg.Trust.Hash = h+1, agentkeys.Hash{1}
	if _, err := Open(t.Context(), cfg); err == nil {
		t.Error("state file and configuration differ, opened all the same")
	}
	cfg = fakeConfig(n)
	cfg.StateFile = c.cfg.StateFile
	raw, err := os.ReadFile(cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]string{"other key": "x", "no mac": "0123456789abcdef0123456789abcdef"} {
		cfg.StateKey = agentkeys.NewSecret([]byte(key))
		if name == "no mac" {
			raw = raw[:bytes.Index(raw, []byte(`,"mac"`))]
			raw = append(raw, '}')
		}
		if err := os.WriteFile(cfg.StateFile, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if left, _ := filepath.Glob(cfg.StateFile + ".*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStateFileHoldsSignedHeadersOnly(t *testing.T) {
	chain := newFakeChain(t, 2)
	c, err := newClient(Config{RPC: "http://127.0.0.1:1", ChainID: chain.id, Trust: chain.trust(), TrustingPeriod: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(k *keptBlock){
		"unchanged":   func(*keptBlock) {},
		"signature":   func(k *keptBlock) { k.Commit.Signatures[0].Signature[0] ^= 1 },
		"header":      func(k *keptBlock) { k.Header.AppHash[0] ^= 1 },
		"other set":   func(k *keptBlock) { k.Validators = k.Validators[:1] },
		"no set":      func(k *keptBlock) { k.Validators = nil },
		"other chain": func(k *keptBlock) { k.Header.ChainID = "other" },
	} {
		k := clone(t, keep(chain.at(2)))
		edit(&k)
		block, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(keptState{Block: block})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.parseState(raw); (err == nil) != (name == "unchanged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOversizedSetIsNotRead(t *testing.T) {
	chain := newFakeChain(t, 2)
	n := serveFake(t, chain)
	n.members = MaxValidators
	node, err := NewNode(n.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Validators(t.Context(), 1); err == nil || n.count("validators") != 1 {
		t.Errorf("%d pages read, %v", n.count("validators"), err)
	}
}

func TestFollowPollsWithoutWebsocket(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	n.noWS.Store(true)
	node, err := NewNode(n.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var heights []uint64
	err = node.Follow(ctx, func(h uint64) {
		heights = append(heights, h)
		if len(heights) == 1 {
			chain.block(nil)
		} else if h == 4 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(heights) < 2 {
		t.Errorf("heights %v, %v", heights, err)
	}
}

// TestFork gives a client whose chain went one way the blocks of another way that the
// same validators signed.
func TestFork(t *testing.T) {
	tests := map[string]func(ours, theirs *fakeChain){
		"same height": func(ours, theirs *fakeChain) { ours.block(nil); theirs.block(nil, []byte("tx")) },
		"child of another": func(ours, theirs *fakeChain) {
			ours.block(nil)
			theirs.block(nil, []byte("tx"))
			theirs.block(nil)
		},
		"lower height": func(ours, theirs *fakeChain) {
			ours.block(nil)
			ours.block(nil)
			theirs.block(nil, []byte("tx"))
		},
	}
	for name, split := range tests {
		t.Run(name, func(t *testing.T) {
			ours, theirs := newFakeChain(t, 4), newFakeChain(t, 4)
			theirs.start, theirs.blocks = ours.start, append([]*LightBlock(nil), ours.blocks...)
			split(ours, theirs)
			n := serveFake(t, ours)
			cfg := fakeConfig(n)
			cfg.StateFile = filepath.Join(t.TempDir(), "trusted.json")
			c := open(t, cfg)
			stop := run(t, c)
			n.chain.Store(theirs)
			_, err := c.Await(t.Context(), 1000)
			if !errors.Is(err, ErrFork) {
				t.Fatalf("Await: %v", err)
			}
			if err := stop(); !errors.Is(err, ErrFork) {
				t.Errorf("Run: %v", err)
			}
			if _, _, err := c.Row(t.Context(), []byte("genesis")); !errors.Is(err, ErrFork) {
				t.Errorf("Row: %v", err)
			}
			if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrFork) {
				t.Errorf("Open after a restart: %v", err)
			}
			checkEvidence(t, cfg, theirs)
		})
	}
}

func checkEvidence(t *testing.T, cfg Config, theirs *fakeChain) {
	t.Helper()
	b, err := os.ReadFile(cfg.StateFile + ".fork.json")
	if err != nil {
		t.Fatal(err)
	}
	var e evidence
	if err := strictJSON(b, &e); err != nil {
		t.Fatal(err)
	}
	r := Rules{ChainID: e.ChainID}
	for _, k := range e.Blocks {
		set, err := NewValidators(k.Validators)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Check(&LightBlock{k.Header, k.Commit, set}); err != nil {
			t.Error(err)
		}
	}
	if e.Blocks[1].Header.Hash() != theirs.at(0).Header.Hash() {
		t.Error("evidence lacks the other header")
	}
}

// TestStrangersHeaderIsNoFork: another header at a known height, signed by others.
func TestStrangersHeaderIsNoFork(t *testing.T) {
	ours, theirs := newFakeChain(t, 4), newFakeChain(t, 4)
	theirs.start = ours.start
	theirs.blocks, theirs.states, theirs.txs, theirs.trees = nil, nil, nil, map[uint64]*tree{}
	theirs.rotate(30, 4)
	theirs.set = theirs.next
	for range 3 {
		theirs.block(nil)
	}
	n := serveFake(t, ours)
	c := open(t, fakeConfig(n))
	n.chain.Store(theirs)
	if err := c.advance(t.Context()); err == nil || errors.Is(err, ErrFork) {
		t.Fatalf("got %v", err)
	}
	n.chain.Store(ours)
	if err := c.advance(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(100 * (rowOverhead + 21 + 100))
	hot := string(rules.UserKey(wallet(200)))
	c.put(hot, make([]byte, 100))
	for i := range 5000 {
		u := agentkeys.Wallet{0: byte(i >> 8), 1: byte(i)}
		c.put(string(rules.UserKey(u)), make([]byte, 100))
		if _, ok := c.get([]byte(hot)); !ok {
			c.put(hot, make([]byte, 100))
		}
	}
	if c.bytes > c.limit || len(c.rows) > 100 || len(c.rows) < 50 || len(c.byUser) != len(c.rows) {
		t.Errorf("%d bytes, %d rows, %d users", c.bytes, len(c.rows), len(c.byUser))
	}
	c.put("huge", make([]byte, 1<<20))
	if c.bytes > c.limit {
		t.Errorf("%d bytes after a row larger than the cache", c.bytes)
	}
	c.clear()
	if c.bytes != 0 || len(c.rows)+len(c.byUser)+len(c.free) != 0 {
		t.Error("clear leaves something")
	}
}

func TestTinyCacheStillReads(t *testing.T) {
	chain := newFakeChain(t, 1)
	n := serveFake(t, chain)
	chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): {1}, userRow(2): {2}}, wallet(1))
	cfg := fakeConfig(n)
	cfg.CacheBytes = 1
	c := open(t, cfg)
	rows, _, err := c.Rows(t.Context(), []byte(userRow(1)), []byte(userRow(2)))
	if err != nil || !bytes.Equal(rows[1], []byte{2}) {
		t.Errorf("%x, %v", rows, err)
	}
}

func BenchmarkCachedRow(b *testing.B) {
	chain := newFakeChain(b, 1)
	n := serveFake(b, chain)
	chain.change(rules.TouchedUsers, map[string][]byte{userRow(1): make([]byte, 300)}, wallet(1))
	c := open(b, fakeConfig(n))
	key := []byte(userRow(1))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := c.Row(b.Context(), key); err != nil {
				b.Error(err)
			}
		}
	})
}
