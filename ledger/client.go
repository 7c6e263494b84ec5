package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"example.org/agentkeys"
)

// ErrFork means that validators signed two headers at one height. The client keeps both
// beside its state file and answers nothing more, after a restart neither.
var ErrFork = errors.New("ledger: the chain has forked: two valid headers at one height; " +
	"compare the evidence file with other nodes and move it away only when you know which chain is yours")

// ErrNoState means that no state can be proven yet: the chain proves it from its third
// block on.
var ErrNoState = errors.New("ledger: the chain is too young to prove its state; wait for block 3")

// Trust is a header known to be true from elsewhere: the root of all verification.
type Trust struct {
	Height uint64
	Hash   agentkeys.Hash
}

// Config says which chain to follow and what to trust.
type Config struct {
	RPC            string
	ChainID        string
	Trust          Trust
	TrustingPeriod time.Duration // well below the time validators can be held to account
	ClockDrift     time.Duration // 0 means 10 s
	Store          string        // "" means "vault"
	CacheBytes     int           // rows kept; 0 means 64 MiB

	// StateFile keeps the newest trusted block over restarts; "" keeps nothing. Whoever
	// can write it decides what is true, unless StateKey, when not empty, authenticates
	// it with HMAC-SHA256. An older copy put back is harmless: the light rules go on
	// from there.
	StateFile string
	StateKey  agentkeys.Secret
}

// Head is the newest verified header. The state after block StateHeight, which is one
// below, is what AppHash commits to; Time is the one that counts for expiry.
type Head struct {
	Height      uint64
	StateHeight uint64
	Time        time.Time
	Hash        agentkeys.Hash
	AppHash     agentkeys.Hash
}

// Client is the verified view of one chain. Its state is the newest trusted block, owned
// by the advance of Run, and a cache of proven rows; only the block is durable. It is
// safe for concurrent use.
type Client struct {
	cfg   Config
	rules Rules
	node  *Node

	advancing sync.Mutex // one advance at a time; guards block and dirty
	block     *LightBlock
	dirty     bool // newer than the state file

	mu      sync.RWMutex // guards what follows
	head    Head
	recent  ring
	cache   *cache
	flights map[string]*flight
	moved   chan struct{} // closed when head or refused change
	refused error         // set for good by a fork
	lastErr error         // of the newest advance, for those who wait in vain
}

// Open reads the state file or fetches the trusted header, and verifies up to the
// node's newest header. It starts nothing; call [Client.Run] to follow the chain.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	if c.block, err = c.base(ctx); err != nil {
		return nil, err
	}
	c.setHead(c.block, change{all: true})
	if err := c.advance(ctx); err != nil {
		return nil, err
	}
	return c, c.save()
}

func newClient(cfg Config) (*Client, error) {
	if cfg.ClockDrift == 0 {
		cfg.ClockDrift = 10 * time.Second
	}
	if cfg.Store == "" {
		cfg.Store = "vault"
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 64 << 20
	}
	switch {
	case cfg.ChainID == "" || len(cfg.ChainID) > maxChainID:
		return nil, errors.New("ledger: want the chain id")
	case cfg.Trust.Height == 0 || cfg.Trust.Hash == agentkeys.Hash{}:
		return nil, errors.New("ledger: want a trusted height and header hash; take them from a source you trust")
	case cfg.TrustingPeriod <= 0:
		return nil, errors.New("ledger: want a trusting period above zero")
	}
	node, err := NewNode(cfg.RPC)
	if err != nil {
		return nil, err
	}
	return &Client{
		cfg: cfg, node: node,
		rules:   Rules{cfg.ChainID, cfg.TrustingPeriod, cfg.ClockDrift},
		cache:   newCache(cfg.CacheBytes),
		flights: map[string]*flight{},
		moved:   make(chan struct{}),
	}, nil
}

// base is the block to start from: the kept one unless the configured one is newer.
func (c *Client) base(ctx context.Context) (*LightBlock, error) {
	trust := c.cfg.Trust
	kept, err := c.load()
	if err != nil {
		return nil, err
	}
	if kept != nil && kept.Header.Height >= trust.Height {
		if kept.Header.Height == trust.Height && kept.Header.Hash() != trust.Hash {
			return nil, fmt.Errorf("ledger: state file and configuration trust different headers at height %d", trust.Height)
		}
		return kept, nil
	}
	b, err := c.node.LightBlock(ctx, trust.Height)
	if err != nil {
		return nil, err
	}
	if b.Header.Hash() != trust.Hash {
		return nil, fmt.Errorf("ledger: the node's header at height %d is not the trusted one: it follows another chain", trust.Height)
	}
	return b, c.rules.Check(b)
}

// Node is the node that the client asks.
func (c *Client) Node() *Node { return c.node }

// Head is the newest verified header.
func (c *Client) Head() Head {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.head
}

// HashAt is the hash of a recently verified header; ok is false for heights that were
// skipped or are longer ago than 4,096 verified heights.
func (c *Client) HashAt(height uint64) (hash agentkeys.Hash, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.recent.at(height)
}

// Run follows the chain until ctx ends, and saves the newest trusted block at most once
// a second and before it returns. It goes on when the node fails or lies, and returns
// early only with [ErrFork] or [ErrExpired].
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	heard := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = c.node.Follow(ctx, func(uint64) {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
	})
	err := c.follow(ctx, heard)
	cancel()
	wg.Wait()
	return errors.Join(err, c.save())
}

// quiet is how many seconds without word from the node pass before it is asked: events
// get lost, and a node that went over to another chain need not send any.
const quiet = 5

func (c *Client) follow(ctx context.Context, heard <-chan struct{}) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for seconds := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-heard:
		case <-tick.C:
			if err := c.save(); err != nil {
				return err
			}
			if seconds++; seconds < quiet {
				continue
			}
		}
		err := c.advance(ctx)
		if errors.Is(err, ErrFork) || errors.Is(err, ErrExpired) {
			return err
		}
		seconds = 0
		if err != nil {
			seconds = quiet - 1 // again at the next tick
		}
	}
}

// Await waits until the state after block minHeight is proven.
func (c *Client) Await(ctx context.Context, minHeight uint64) (Head, error) {
	for {
		head, moved, err := c.watch()
		if err != nil || head.StateHeight >= minHeight {
			return head, err
		}
		if err := c.wait(ctx, moved, nil); err != nil {
			return head, err
		}
	}
}

// AwaitRow waits until the proven row under key satisfies enough, which gets nil while
// the row is absent. It looks again at every new head, and a second after the node
// failed, until ctx ends.
func (c *Client) AwaitRow(ctx context.Context, key []byte, enough func(value []byte) bool) ([]byte, Head, error) {
	for {
		_, moved, err := c.watch()
		if err != nil {
			return nil, Head{}, err
		}
		value, head, err := c.Row(ctx, key)
		if err == nil && enough(value) {
			return value, head, nil
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(time.Second)
		}
		if err := c.wait(ctx, moved, again); err != nil {
			return nil, head, err
		}
	}
}

func (c *Client) watch() (Head, <-chan struct{}, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.head, c.moved, c.refused
}

func (c *Client) wait(ctx context.Context, moved <-chan struct{}, again <-chan time.Time) error {
	select {
	case <-moved:
		return nil
	case <-again:
		return nil
	case <-ctx.Done():
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.lastErr != nil {
		return fmt.Errorf("ledger: still at height %d (%v): %w", c.head.Height, c.lastErr, ctx.Err())
	}
	return fmt.Errorf("ledger: still at height %d: %w", c.head.Height, ctx.Err())
}
