package node

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtsync "github.com/cometbft/cometbft/libs/sync"

	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
)

// creator gives CometBFT its connections to the application. All share one lock, as
// usual, but for the first, which is the one for queries: what it lets through is
// answered from committed versions of the store and need not wait for the block that
// is being executed, only while one is being committed.
type creator struct {
	app    abci.Application
	shared cmtsync.Mutex
	store  sync.RWMutex // held to write while the store takes a new version
	given  atomic.Int32
}

// NewABCIClient is called in the order of proxy.AppConns: query, snapshot, mempool,
// consensus.
func (c *creator) NewABCIClient() (abcicli.Client, error) {
	if c.given.Add(1) == 1 {
		return abcicli.NewLocalClient(nil, committed{c.app, &c.store}), nil
	}
	return abcicli.NewLocalClient(&c.shared, committing{c.app, &c.store}), nil
}

// committing keeps queries out of the store while it takes a new version: the tree's
// newest version is then being exchanged.
type committing struct {
	abci.Application
	store *sync.RWMutex
}

func (c committing) Commit(ctx context.Context, r *abci.RequestCommit) (*abci.ResponseCommit, error) {
	c.store.Lock()
	defer c.store.Unlock()
	return c.Application.Commit(ctx, r)
}

// committed refuses the queries that would read the tree which a block is writing: a
// simulation, and a store's list of its newest rows. Proofs and gRPC queries read one
// committed version.
type committed struct {
	abci.Application
	store *sync.RWMutex
}

func (c committed) Query(ctx context.Context, q *abci.RequestQuery) (*abci.ResponseQuery, error) {
	first, _, _ := strings.Cut(strings.TrimPrefix(q.Path, "/"), "/")
	proof := strings.HasPrefix(q.Path, "/store/") && strings.HasSuffix(q.Path, "/key")
	if proof || strings.Contains(first, ".") { // gRPC: /package.Service/Method
		c.store.RLock()
		defer c.store.RUnlock()
		return c.Application.Query(ctx, q)
	}
	err := sdkerrors.ErrUnknownRequest.Wrap("query: this node answers /store/NAME/key and gRPC methods")
	return sdkerrors.QueryResult(err, false), nil
}
