package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// ErrNotIncluded means that no block of the range holds the transaction. It may still
// come, until its timeout height has passed.
var ErrNotIncluded = errors.New("tx: not in these blocks")

// Inclusion is where a transaction came to lie and what it did, as the node says.
type Inclusion struct {
	Height uint64
	Index  int
	Result TxResult
}

// Included looks for the transaction's bytes in the blocks from first to last. It needs
// no transaction index; give only heights not looked at before.
func (n *Node) Included(ctx context.Context, tx []byte, first, last uint64) (Inclusion, error) {
	for h := first; h <= last && h != 0; h++ {
		b, err := n.Block(ctx, h)
		if err != nil {
			return Inclusion{}, err
		}
		for i := range b.Txs {
			if bytes.Equal(b.Txs[i], tx) {
				return n.inclusion(ctx, h, i, len(b.Txs))
			}
		}
	}
	return Inclusion{}, ErrNotIncluded
}

func (n *Node) inclusion(ctx context.Context, height uint64, index, count int) (Inclusion, error) {
	results, err := n.BlockResults(ctx, height)
	if err != nil {
		return Inclusion{}, err
	}
	if len(results) != count {
		return Inclusion{}, fmt.Errorf("tx: block %d has %d transactions and %d results", height, count, len(results))
	}
	return Inclusion{height, index, results[index]}, nil
}
