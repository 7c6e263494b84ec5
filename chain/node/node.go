package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	cometconfig "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/consensus"
	"github.com/cometbft/cometbft/libs/pubsub"
	cometnode "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	comettypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"

	sdkslog "cosmossdk.io/log/v2/slog"

	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/server"
	pruning "github.com/cosmos/cosmos-sdk/store/v2/pruning/types"

	"example.org/agentkeys/chain/app"
)

// ErrConsensus means that consensus died and no block will follow. CometBFT
// recovers such a panic and would live on without blocks.
var ErrConsensus = errors.New("consensus: stopped after a failure, see the log")

// Node is one node on one home. It owns everything under Config.Home while it
// runs. What Run has acknowledged in a block survives a kill: blocks are fsynced
// before they are applied, and a restart applies what is missing.
type Node struct {
	c       Config
	options []func(*baseapp.BaseApp)

	home      *home
	db        dbm.DB
	app       *app.App
	comet     *cometnode.Node
	consensus *consensus.State
	queries   *queries
	stopping  atomic.Bool
}

// New makes a node; nothing is opened before Run.
func New(c Config) *Node {
	if c.MinGasPrice == "" {
		c.MinGasPrice = "0" + app.Denom
	}
	return &Node{c: c}
}

// Run runs the node until ctx ends, and then returns nil with everything closed.
// After ErrConsensus the process must exit: what is left of the node still runs.
func (n *Node) Run(ctx context.Context) error {
	rpc, err := loopback("rpc", n.c.RPC)
	if err != nil {
		return err
	}
	if err := n.open(ctx, rpc); err != nil {
		return errors.Join(err, n.close())
	}
	first, err := n.start(ctx)
	if err == nil {
		err = n.serve(ctx, rpc, first)
	}
	if errors.Is(err, ErrConsensus) {
		return err
	}
	return errors.Join(err, n.close())
}

// serve waits for the end. Before the first block CheckTx refuses everything, so
// the node is ready only once first is there.
func (n *Node) serve(ctx context.Context, rpc string, first <-chan pubsub.Message) error {
	dead := make(chan struct{})
	go func() {
		n.consensus.Wait()
		close(dead)
	}()
	for {
		select {
		case <-first:
			first = nil
			ready := Ready{RPC: "http://" + rpc, Height: n.comet.BlockStore().Height()}
			if err := n.c.Ready(ready); err != nil {
				return fmt.Errorf("ready: %w", err)
			}
		case <-dead:
			return ErrConsensus
		case <-ctx.Done():
			return nil
		}
	}
}

// open opens the stores and brings the application to the height of the blocks.
func (n *Node) open(ctx context.Context, rpc string) (err error) {
	if n.home, err = openHome(n.c.Home); err != nil {
		return err
	}
	if ok, err := n.home.hasChain(); err != nil || !ok {
		return errors.Join(fmt.Errorf("start: %s holds no chain; run agentkeysd init first", n.c.Home), err)
	}
	doc, err := comettypes.GenesisDocFromFile(n.home.genesisFile())
	if err != nil {
		return err
	}
	if n.db, err = dbm.NewDB("application", dbm.GoLevelDBBackend, filepath.Join(n.c.Home, "data")); err != nil {
		return err
	}
	options := append([]func(*baseapp.BaseApp){
		baseapp.SetChainID(doc.ChainID),
		baseapp.SetMinGasPrices(n.c.MinGasPrice),
		baseapp.SetPruning(pruning.NewCustomPruningOptions(keepRecent, 100)),
	}, n.options...)
	if n.app, err = app.New(sdkslog.NewCustomLogger(n.c.Log), n.db, options...); err != nil {
		return err
	}
	return n.openComet(ctx, rpc)
}

func (n *Node) openComet(ctx context.Context, rpc string) error {
	c := n.c.comet(rpc)
	key, err := p2p.LoadOrGenNodeKey(c.NodeKeyFile())
	if err != nil {
		return err
	}
	signer := privval.LoadFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	connections := &creator{app: server.NewCometABCIWrapper(n.app)}
	n.comet, err = cometnode.NewNodeWithContext(ctx, c, signer, key, connections,
		cometnode.DefaultGenesisDocProviderFunc(c), cometconfig.DefaultDBProvider,
		cometnode.DefaultMetricsProvider(c.Instrumentation), cometLogger{n.c.Log, &n.stopping})
	if err != nil {
		return err
	}
	env, err := n.comet.ConfigureRPC()
	if err != nil {
		return err
	}
	var ok bool
	if n.consensus, ok = env.ConsensusState.(*consensus.State); !ok {
		return fmt.Errorf("consensus: cannot watch a %T", env.ConsensusState)
	}
	return nil
}

// start starts consensus and the servers. The channel yields when the chain has
// its first block, which is at once for a chain that had one.
func (n *Node) start(ctx context.Context) (<-chan pubsub.Message, error) {
	first := make(chan pubsub.Message)
	close(first)
	var wait <-chan pubsub.Message = first
	if n.comet.BlockStore().Height() == 0 {
		s, err := n.comet.EventBus().Subscribe(ctx, "ready", comettypes.EventQueryNewBlock, 1)
		if err != nil {
			return nil, err
		}
		wait = s.Out()
	}
	if err := n.comet.Start(); err != nil {
		return nil, err
	}
	var err error
	n.queries, err = n.startQueries()
	return wait, err
}

// close stops what runs and closes what is open, in reverse order.
func (n *Node) close() error {
	var errs []error
	if n.queries != nil {
		errs = append(errs, n.queries.stop())
	}
	n.stopping.Store(true)
	if n.comet != nil && n.comet.IsRunning() {
		errs = append(errs, n.comet.Stop())
		n.comet.Wait()
	}
	switch {
	case n.app != nil:
		errs = append(errs, n.app.Close()) // closes db too
	case n.db != nil:
		errs = append(errs, n.db.Close())
	}
	if n.home != nil {
		errs = append(errs, n.home.close())
	}
	return errors.Join(errs...)
}
