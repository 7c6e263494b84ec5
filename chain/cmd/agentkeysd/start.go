package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"example.org/agentkeys/chain/node"
)

func startCommand(ready *os.File) *cobra.Command {
	var c node.Config
	var level string
	var stopOnEOF bool
	cmd := &cobra.Command{
		Use:     "start",
		Short:   "Run the node until SIGTERM",
		Example: "  agentkeysd start --home chain --rpc 127.0.0.1:26657",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c.Home, _ = cmd.Flags().GetString("home")
			if c.Log, err = jsonLog(level); err != nil {
				return err
			}
			if !cmd.Flags().Changed("timeout-commit") {
				if c.TimeoutCommit, err = node.Pace(c.Home); err != nil {
					return err
				}
			}
			c.Ready = announce(ready)
			ctx := cmd.Context()
			if stopOnEOF {
				ctx = untilEOF(ctx, os.Stdin)
			}
			return node.New(c).Run(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.RPC, "rpc", "127.0.0.1:26657", "loopback address of the RPC; port 0 takes a free one")
	f.StringVar(&c.P2P, "p2p", "", "address for other nodes; empty takes none in")
	f.StringVar(&c.Peers, "peers", "", "other nodes as ID@HOST:PORT, separated by commas")
	f.StringVar(&c.GRPC, "grpc", "", "loopback address of the gRPC queries; empty serves none")
	f.StringVar(&c.Gateway, "gateway", "", "loopback address of the same queries as HTTP GET; empty serves none")
	f.DurationVar(&c.TimeoutCommit, "timeout-commit", 0, "pause between blocks; what init recorded unless given")
	f.BoolVar(&c.EmptyBlocks, "empty-blocks", false, "make blocks while nothing happens")
	f.StringVar(&c.MinGasPrice, "min-gas-price", "", "least price of gas, such as 0.01uagent; free unless given")
	f.StringVar(&level, "log-level", "warn", "debug, info, warn or error; JSON lines on stderr")
	f.BoolVar(&stopOnEOF, "stop-on-eof", false, "stop when standard input closes")
	return cmd
}

func jsonLog(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: want debug, info, warn or error, not %q", level)
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}

// announce writes the ready line to the descriptor that the supervisor watches.
func announce(w *os.File) func(node.Ready) error {
	return func(r node.Ready) error {
		if w == nil {
			return nil
		}
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "ready %s\n", b); err != nil {
			return err
		}
		return w.Close()
	}
}

// untilEOF ends with ctx or when r does. A read cannot be interrupted, so its
// goroutine ends with the process.
func untilEOF(ctx context.Context, r io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, r)
		cancel()
	}()
	return ctx
}
