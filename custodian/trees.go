package custodian

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// anchorChain shows the trees the chain as this process has verified it.
type anchorChain struct{ k *Keeper }

func (c anchorChain) Anchor(ctx context.Context, id erasure.AnchorID) (erasure.Row, error) {
	a, ok, head, err := one(ctx, c.k.chain, rules.AnchorKey(statement.AnchorID(id)), rules.ParseAnchor)
	if err == nil && !ok {
		err = fmt.Errorf("anchor %s: unknown to the chain", id)
	}
	return anchorRow(a, head), err
}

func anchorRow(a rules.Anchor, head ledger.Head) erasure.Row {
	return erasure.Row{Generation: a.Generation, Term: a.Term, Height: head.StateHeight, IndexHash: a.IndexHash}
}

func (c anchorChain) CommitTree(ctx context.Context, id erasure.AnchorID, term, previous uint64, index agentkeys.Hash) (erasure.Row, error) {
	now := max(blockTime(c.k.chain.Head()), uint64(time.Now().Unix()))
	s := statement.CommitTree{Anchor: statement.AnchorID(id), Term: term, Previous: previous, IndexHash: index, ValidUntil: now + statementLife}
	err := c.k.submit(ctx, s, rules.AnchorKey(s.Anchor), func(v []byte) bool {
		a, ok, err := row(v, rules.ParseAnchor)
		return err == nil && ok && a.Generation > previous
	})
	if err != nil {
		return erasure.Row{}, err
	}
	return c.Anchor(ctx, id)
}

func (c anchorChain) Destroyed(ctx context.Context, user agentkeys.Wallet, epoch agentkeys.Epoch) (bool, error) {
	u, ok, _, err := one(ctx, c.k.chain, rules.UserKey(user), rules.ParseUser)
	return ok && epoch < u.Active.Epoch && epoch != u.Draining.Epoch, err
}

// treeObjects gives the trees their part of the store in the words they use.
type treeObjects struct{ s TreeStore }

// maxTreeObject is far above the largest shard of a million shares.
const maxTreeObject = 64 << 20

func (o treeObjects) Put(ctx context.Context, name string, b []byte) error {
	err := o.s.Put(ctx, name, b)
	if errors.Is(err, blobstore.ErrExists) {
		return erasure.ErrExists
	}
	return err
}

func (o treeObjects) Get(ctx context.Context, name string) ([]byte, error) {
	b, err := o.s.Get(ctx, name, maxTreeObject)
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil, erasure.ErrNotFound
	}
	return b, err
}

func (o treeObjects) List(ctx context.Context, prefix string) (names []string, err error) {
	for obj, err := range o.s.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		names = append(names, obj.Key)
	}
	return names, nil
}

func (o treeObjects) Delete(ctx context.Context, name string) error {
	err := o.s.Delete(ctx, name)
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil
	}
	return err
}
