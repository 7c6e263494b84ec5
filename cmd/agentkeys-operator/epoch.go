package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/internal/service"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/operator"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

// authorityFlags say who sends an act and where.
type authorityFlags struct{ node, chainID, keyFile, relay string }

func (f *authorityFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.node, "node", "", "RPC address of the node")
	c.Flags().StringVar(&f.chainID, "chain-id", "", "chain id")
	c.Flags().StringVar(&f.keyFile, "authority-key-file", "", "file with the authority's key, 64 hex digits, mode 0600")
	c.Flags().StringVar(&f.relay, "relay", "", "address of the running operator, to look at once")
}

// act sends acts and fails unless each is done.
func (f *authorityFlags) act(ctx context.Context, acts ...statement.Body) error {
	key, err := service.SecretFile(f.keyFile)
	if err != nil {
		return fmt.Errorf("--authority-key-file: %w", err)
	}
	raw, err := hex.DecodeString(key)
	if err != nil {
		return errors.New("--authority-key-file: want 64 hex digits")
	}
	signer, err := ledger.NewSigner(agentkeys.NewSecret(raw))
	if err != nil {
		return err
	}
	node, err := ledger.NewNode(f.node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	s := ledger.NewSender(node, signer, f.chainID, "uagent")
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	defer running.Wait()
	defer cancel()
	var parts [][]byte
	for _, a := range acts {
		parts = append(parts, statement.AppendAct(nil, a))
	}
	_, results, err := s.Send(ctx, ledger.MsgAuthority, parts)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("node %s: no block with the act in 30 s; see that the node runs and that --chain-id is its own, then repeat", f.node)
	}
	if err != nil {
		return fmt.Errorf("act: %w", err)
	}
	for _, r := range results {
		if c := rules.Code(r.Code); !c.Done() {
			return fmt.Errorf("act refused: %s: %s", c, r.Reason)
		}
	}
	return nil
}

func (f *authorityFlags) look(ctx context.Context, user string) error {
	if f.relay == "" {
		return nil
	}
	body, err := json.Marshal(map[string]string{"user": user})
	if err != nil {
		return err
	}
	return api.Call(ctx, http.DefaultClient, http.MethodPost, f.relay+"/v1/look", nil, body, nil)
}

// watchEvery is how often progress is looked at; a line is printed when it changes.
const watchEvery = 300 * time.Millisecond

// watch returns when nothing is due and nothing drains any more. It may be ended at any
// time: what is due stays due.
func (f *authorityFlags) watch(ctx context.Context, user agentkeys.Wallet, out io.Writer) error {
	node, err := ledger.NewNode(f.node)
	if err != nil {
		return err
	}
	for last := ""; ; {
		p, err := operator.ProgressOf(ctx, node, user)
		if err != nil {
			return fmt.Errorf("%w; what is due stays due, watch again with the same command", err)
		}
		if line := p.String(); line != last {
			fmt.Fprintln(out, line)
			last = line
		}
		if p.Done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchEvery):
		}
	}
}

func rotateCommand() *cobra.Command {
	var f authorityFlags
	var user string
	var all, watch bool
	epoch := &cobra.Command{Use: "epoch", Short: "Epochs of users"}
	c := &cobra.Command{Use: "rotate", Short: "Make the next epoch of one user or of all due, now", Args: cobra.NoArgs,
		Example: "  agentkeys-operator epoch rotate --user 0x… --node … --chain-id … --authority-key-file authority.key\n  agentkeys-operator epoch rotate --all --watch …",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var act statement.Body = statement.RotateAll{}
			var who agentkeys.Wallet
			if (user == "") != all {
				return errors.New("give --user or --all")
			}
			if !all {
				var err error
				if who, err = agentkeys.ParseWallet(user); err != nil {
					return err
				}
				act = statement.RotateUser{User: who}
			}
			if err := f.act(cmd.Context(), act); err != nil {
				return err
			}
			if err := f.look(cmd.Context(), user); err != nil || !watch {
				return err
			}
			return f.watch(cmd.Context(), who, cmd.OutOrStdout())
		}}
	f.add(c)
	c.Flags().StringVar(&user, "user", "", "wallet of the user")
	c.Flags().BoolVar(&all, "all", false, "every user")
	c.Flags().BoolVar(&watch, "watch", false, "show progress until the old epochs are destroyed")
	epoch.AddCommand(c)
	return epoch
}

func statusCommand() *cobra.Command {
	var relay string
	c := &cobra.Command{Use: "status", Short: "Whether a running operator is ready", Args: cobra.NoArgs,
		Example: "  agentkeys-operator status --relay http://127.0.0.1:8080",
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, relay+api.PathReady, nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("operator: %w; start it: agentkeys-operator start", err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New("operator: running, but the node does not answer")
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return nil
		}}
	c.Flags().StringVar(&relay, "relay", "http://127.0.0.1:8080", "address of the operator")
	return c
}
