package custodian

import (
	"context"
	"fmt"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// Chain is the vault's chain as this process has verified it. Nothing unproven
// comes through. [ledger.Client] is one.
type Chain interface {
	// Rows gives the values of several keys as they stand at one head, nil for what
	// is proven absent.
	Rows(ctx context.Context, keys ...[]byte) ([][]byte, ledger.Head, error)
	// AwaitRow waits until the proven value satisfies enough.
	AwaitRow(ctx context.Context, key []byte, enough func(value []byte) bool) ([]byte, ledger.Head, error)
	// Await waits until the state after a block is proven.
	Await(ctx context.Context, minHeight uint64) (ledger.Head, error)
	Head() ledger.Head
}

// hintWait bounds how long a relay's word on a height is waited for.
const hintWait = 2 * time.Second

// awaitHeight lets the proof of the block that the relay named come first. Its word
// only saves proofs at heads that cannot show what is looked for; what is there is
// decided by the rows.
func awaitHeight(ctx context.Context, c Chain, height uint64) {
	ctx, cancel := context.WithTimeout(ctx, hintWait)
	defer cancel()
	_, _ = c.Await(ctx, height)
}

// Lister names the keys that begin with a prefix, unproven: a hint of what to
// prove.
type Lister interface {
	Keys(ctx context.Context, prefix []byte) ([][]byte, error)
}

// row parses a proven value; ok is false for an absent row.
func row[T any](value []byte, parse func([]byte) (T, error)) (r T, ok bool, err error) {
	if value == nil {
		return r, false, nil
	}
	if r, err = parse(value); err != nil {
		return r, false, fmt.Errorf("row: proven bytes do not parse: %w", err)
	}
	return r, true, nil
}

// one reads a single proven row.
func one[T any](ctx context.Context, c Chain, key []byte, parse func([]byte) (T, error)) (r T, ok bool, head ledger.Head, err error) {
	values, head, err := c.Rows(ctx, key)
	if err != nil {
		return r, false, head, err
	}
	r, ok, err = row(values[0], parse)
	return r, ok, head, err
}

// Params are the vault's numbers in force at the newest verified head.
func (s *Server) Params(ctx context.Context) (statement.Params, error) {
	p, ok, head, err := one(ctx, s.cfg.Chain, rules.ParamsKey(), rules.ParseParams)
	if err == nil && !ok {
		err = fmt.Errorf("row: the chain has no params")
	}
	return p.At(head.Height), err
}

// User is the proven row of a user.
func (s *Server) User(ctx context.Context, w agentkeys.Wallet) (rules.User, bool, error) {
	u, ok, _, err := one(ctx, s.cfg.Chain, rules.UserKey(w), rules.ParseUser)
	return u, ok, err
}

// blockTime of a head in unix seconds: what expiry is compared with.
func blockTime(h ledger.Head) uint64 { return uint64(max(0, h.Time.Unix())) }

// statementLife is how long a statement of this process stays valid.
const statementLife = 120

// statementValidUntil gives the valid-until of a statement signed now. The host's
// clock counts only forward of the head: set back it would make statements that
// the chain refuses.
func (s *Server) statementValidUntil() uint64 {
	return max(blockTime(s.cfg.Chain.Head()), uint64(time.Now().Unix())) + statementLife
}

// chainFailed turns an error of the chain view into an answer.
func (s *Server) chainFailed(err error) error {
	s.log.Warn("chain view failed", "cause", err)
	return chainUnavailable.because("Try again; if it stays: agentkeys status", "the chain cannot be read with proofs now")
}
