package node

import (
	"context"
	"strings"
	"sync/atomic"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtsync "github.com/cometbft/cometbft/libs/sync"

	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
)

// creator gives CometBFT its connections to the application. All share one lock, as
// usual, but for the first, which is the one for queries: what it lets through is
// answered from committed versions of the store and need not wait for the block that
// is being executed.
type creator struct {
	app    abci.Application
	shared cmtsync.Mutex
	given  atomic.Int32
}

// NewABCIClient is called once for each connection: query, snapshot, mempool,
// consensus.
func (c *creator) NewABCIClient() (abcicli.Client, error) {
	if c.given.Add(1) == 1 {
		return abcicli.NewLocalClient(nil, committed{c.app}), nil
	}
	return abcicli.NewLocalClient(&c.shared, c.app), nil
}

// committed refuses the queries that would read the tree which a block is writing: a
// simulation, and a store's list of its newest rows. Proofs and gRPC queries read one
// committed version. A proof that is asked for while a block deletes its row can fail,
// but is never a wrong one.
type committed struct{ abci.Application }

func (c committed) Query(ctx context.Context, q *abci.RequestQuery) (*abci.ResponseQuery, error) {
	first, _, _ := strings.Cut(strings.TrimPrefix(q.Path, "/"), "/")
	proof := strings.HasPrefix(q.Path, "/store/") && strings.HasSuffix(q.Path, "/key")
	if proof || strings.Contains(first, ".") { // gRPC: /package.Service/Method
		return c.Application.Query(ctx, q)
	}
	err := sdkerrors.ErrUnknownRequest.Wrap("query: this node answers /store/NAME/key and gRPC methods")
	return sdkerrors.QueryResult(err, false), nil
}
