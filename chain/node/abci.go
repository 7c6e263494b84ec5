package node

import (
	"sync/atomic"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtsync "github.com/cometbft/cometbft/libs/sync"
)

// creator gives CometBFT its connections to the application. All share one lock, as
// usual, but for the first, which is the one for queries: proofs are made from
// committed versions of the store, which the application reads without regard to
// the block it is executing, so they need not wait for one.
type creator struct {
	app    abci.Application
	shared cmtsync.Mutex
	given  atomic.Int32
}

// NewABCIClient is called once for each connection: query, snapshot, mempool,
// consensus.
func (c *creator) NewABCIClient() (abcicli.Client, error) {
	if c.given.Add(1) == 1 {
		return abcicli.NewLocalClient(nil, c.app), nil
	}
	return abcicli.NewLocalClient(&c.shared, c.app), nil
}
