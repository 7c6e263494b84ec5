// Package node runs one agentkeysd: CometBFT and the application in one process,
// on one home directory. [Init] makes a home, [Node.Run] runs it, [Export] reads
// the state out of it. docs/spec/chain.md says what the node promises.
package node

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	cometconfig "github.com/cometbft/cometbft/config"

	"example.org/agentkeys/chain/app"
)

// keepRecent is how many heights can be proved: a client that pins a height must
// be able to finish what it began.
const keepRecent = 10_000

// Config says where and how a node runs.
type Config struct {
	Home          string
	RPC           string        // loopback host:port; port 0 takes a free one
	P2P           string        // host:port for other nodes; "" takes none in
	Peers         string        // id@host:port, separated by commas
	GRPC          string        // loopback host:port of the gRPC queries; "" = off
	Gateway       string        // loopback host:port of the same as HTTP; "" = off
	TimeoutCommit time.Duration // pause between blocks; 0 makes a block at once
	EmptyBlocks   bool
	MinGasPrice   string // such as 0.01uagent; "" = 0uagent
	Log           *slog.Logger
	Ready         func(Ready) error // called once, when transactions are taken
}

// Ready tells a supervisor where the node is.
type Ready struct {
	RPC    string `json:"rpc"`
	Height int64  `json:"height"`
}

// comet makes CometBFT's configuration. Intervals are for few validators near
// each other; a single validator needs none of the gossip.
func (c Config) comet(rpc string) *cometconfig.Config {
	out := cometconfig.DefaultConfig()
	out.SetRoot(c.Home)
	out.Moniker = "agentkeysd"
	out.TxIndex.Indexer = "null"
	out.Instrumentation.Prometheus = false

	out.Consensus.TimeoutPropose = time.Second
	out.Consensus.TimeoutCommit = c.TimeoutCommit
	out.Consensus.SkipTimeoutCommit = c.TimeoutCommit == 0
	out.Consensus.CreateEmptyBlocks = c.EmptyBlocks
	out.Consensus.PeerGossipSleepDuration = 10 * time.Millisecond

	out.RPC.ListenAddress = "tcp://" + rpc
	out.RPC.MaxBodyBytes = 2 * app.MaxBytes // base64 in JSON
	out.RPC.MaxSubscriptionClients = 100
	out.RPC.MaxSubscriptionsPerClient = 5

	out.Mempool.Size = 5000
	out.Mempool.MaxTxBytes = app.MaxBytes
	out.Mempool.MaxTxsBytes = 64 << 20

	out.P2P.PexReactor = false
	out.P2P.PersistentPeers = c.Peers
	out.P2P.FlushThrottleTimeout = 5 * time.Millisecond
	if c.P2P != "" {
		out.P2P.ListenAddress = "tcp://" + c.P2P
		return out
	}
	// A kill between signing a proposal and logging it costs a lone validator one
	// round, which lasts as long as these: nobody else's message can be late.
	out.Consensus.TimeoutPropose = 300 * time.Millisecond
	out.Consensus.TimeoutProposeDelta = 300 * time.Millisecond
	out.Consensus.TimeoutPrevote = 50 * time.Millisecond
	out.Consensus.TimeoutPrecommit = 50 * time.Millisecond
	// CometBFT always listens for peers. Without --p2p that is a port of the
	// loopback interface that takes nobody in.
	out.P2P.ListenAddress = "tcp://127.0.0.1:0"
	out.P2P.MaxNumInboundPeers = 0
	return out
}

// loopback checks address and takes its port for a moment, so that a port in use
// is a clear error and port 0 becomes a number.
func loopback(what, address string) (string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%s: %w: want 127.0.0.1:PORT", what, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("%s: %s is not a loopback address: listen on 127.0.0.1 and put a proxy with TLS in front", what, host)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("%s: %w: stop what listens there or choose another port", what, err)
	}
	return l.Addr().String(), l.Close()
}
