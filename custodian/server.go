package custodian

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
	"golang.org/x/sync/singleflight"
)

// Store holds the users' sealed objects. Errors are those of package blobstore.
type Store interface {
	Get(ctx context.Context, user agentkeys.Wallet, key string, maxBytes int64) ([]byte, error)
	Put(ctx context.Context, user agentkeys.Wallet, key string, body []byte) error
	Delete(ctx context.Context, user agentkeys.Wallet, keys ...string) error
}

// Objects is the custodian's own part of the store: audit/ here.
type Objects interface {
	Get(ctx context.Context, key string, maxBytes int64) ([]byte, error)
	Put(ctx context.Context, key string, body []byte) error
	List(ctx context.Context, prefix string) iter.Seq2[blobstore.Object, error]
}

// Relay carries statements to the chain. What it says is a hint.
type Relay interface {
	Submit(ctx context.Context, wires [][]byte) (api.Relayed, error)
}

// Shares gives the erasable share of one (user, epoch, wrap version); an error if
// there is none. The caller wipes it.
type Shares interface {
	Get(user agentkeys.Wallet, epoch agentkeys.Epoch, wrapVersion uint32) (agentkeys.Secret, error)
}

// Config is what a custodian works on. Every field but Step is required.
type Config struct {
	Vault    agentkeys.VaultID
	ChainID  string
	State    *State
	Chain    Chain
	Lister   Lister
	Store    Store
	Objects  Objects
	Relay    Relay
	Shares   Shares
	Platform uint8
	Evidence []byte
	Limit    string // one sentence: what this deployment does not protect from
	// Idle is the vault's default for credentials whose owner names no rule; 0 = carry.
	Idle statement.IdleRule
	Log  *slog.Logger
	// Step, if set, is called before every step of a flow with its name; tests stop
	// there.
	Step func(name string)
}

// Server is one custodian. Its durable state is [State] and the outbox; everything
// else is derived from rows again after a restart.
type Server struct {
	cfg     Config
	log     *slog.Logger
	issuer  *ecdsa.PrivateKey
	meta    seed.MetadataKey
	outbox  *outbox
	fresh   freshness
	tried   tried
	beat    singleflight.Group
	parsed  parsed
	nonces  *nonces
	revoked *revocations
	cache   *envelopes
	hints   *hints
	orphans orphans
	trail   *trail
	misses  *misses
	proxies *proxies
	ended   *ended
	proofs  *proofs
	known   *sessions
	opened  atomic.Bool
	discard func(user agentkeys.Wallet, key string)
	counts  counters
}

// New reads the outbox and writes the boot record. It makes no request.
func New(cfg Config) (*Server, error) {
	if cfg.State == nil || cfg.Chain == nil || cfg.Lister == nil || cfg.Store == nil || cfg.Objects == nil ||
		cfg.Relay == nil || cfg.Shares == nil || cfg.Log == nil || cfg.Vault == (agentkeys.VaultID{}) {
		return nil, errors.New("custodian: config is incomplete")
	}
	issuer, err := cfg.State.Seed.SessionIssuer(cfg.Vault)
	if err != nil {
		return nil, fmt.Errorf("session issuer: %w", err)
	}
	meta, err := cfg.State.Seed.MetadataKey(cfg.Vault)
	if err != nil {
		return nil, fmt.Errorf("metadata key: %w", err)
	}
	s := &Server{cfg: cfg, log: cfg.Log, issuer: issuer, meta: meta, nonces: newNonces(), revoked: newRevocations(),
		cache: newEnvelopes(envelopeBytes), hints: newHints(), trail: newTrail(), misses: newMisses(),
		proxies: newProxies(cfg.State.Boots), known: newSessions(), proofs: newProofs()}
	if s.ended, err = openEnded(cfg.State.Home); err != nil {
		return nil, err
	}
	s.outbox, err = openOutbox(outboxDir(cfg.State.Home), cfg.State.Boots, s.step)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close writes what the outbox still holds in memory and closes it.
func (s *Server) Close() error { return errors.Join(s.outbox.close(), s.ended.close()) }

// Key is the public statement key.
func (s *Server) Key() agentkeys.ProcessKey { return s.cfg.State.Key() }

// Vault is the vault's id.
func (s *Server) Vault() agentkeys.VaultID { return s.cfg.Vault }

func (s *Server) step(name string) {
	if s.cfg.Step != nil {
		s.cfg.Step(name)
	}
}

// Run sends read records to the store and the chain until ctx ends.
func (s *Server) Run(ctx context.Context) error { return s.flushLoop(ctx) }

func (s *Server) tagKey(user agentkeys.Wallet) (seed.TagKey, error) {
	return s.meta.TagKey(s.cfg.Vault, user)
}
