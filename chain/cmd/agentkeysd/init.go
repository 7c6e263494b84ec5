package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cosmos/cosmos-sdk/codec/address"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"example.org/agentkeys"
	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/node"
	"example.org/agentkeys/statement"
)

// initFlags are the flags of init as they were typed.
type initFlags struct {
	chainID, vaultID, authority, params, genesis string
	funds                                        []string
	pace                                         time.Duration
}

func initCommand() *cobra.Command {
	var in initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new chain with this node as its validator, or go on from an exported one",
		Example: `  agentkeysd init --home chain --chain-id agentkeys-1 --vault-id $(openssl rand -hex 32) \
    --authority agent1... --fund agent1...=1000000000
  agentkeysd init --home chain --genesis exported.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, _ := cmd.Flags().GetString("home")
			return in.run(home)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.chainID, "chain-id", "", "name of the chain")
	f.StringVar(&in.vaultID, "vault-id", "", "32 random bytes as 64 lower-case hex digits")
	f.StringVar(&in.authority, "authority", "", "account whose acts the vault obeys")
	f.StringArrayVar(&in.funds, "fund", nil, "ADDRESS=AMOUNT in uagent; may be repeated")
	f.StringVar(&in.params, "params", "", `params that differ from the defaults, as JSON: {"Cadence":3600,"DrainWindow":600}`)
	f.StringVar(&in.genesis, "genesis", "", "exported genesis to go on from, in place of the flags above except --chain-id")
	f.DurationVar(&in.pace, "timeout-commit", 0, "pause between blocks that start uses unless told otherwise")
	return cmd
}

func (in initFlags) run(home string) error {
	if in.genesis == "" {
		g, err := in.parse()
		if err != nil {
			return err
		}
		return node.Init(home, in.pace, g)
	}
	if in.vaultID+in.authority+in.params != "" || len(in.funds) > 0 {
		return errors.New("init: --genesis already names vault id, authority, funds and params; leave those flags out")
	}
	exported, err := os.ReadFile(in.genesis)
	if err != nil {
		return err
	}
	return node.Import(home, in.pace, in.chainID, exported)
}

func (in initFlags) parse() (g app.Genesis, err error) {
	if in.chainID == "" {
		return g, errors.New("init: --chain-id is missing: choose a name for the chain")
	}
	g.ChainID = in.chainID
	if g.Vault, err = agentkeys.ParseVaultID(in.vaultID); err != nil {
		return g, fmt.Errorf("init: --vault-id: %w", err)
	}
	if g.Vault == (agentkeys.VaultID{}) {
		return g, errors.New("init: --vault-id is zero: choose 32 random bytes")
	}
	if g.Authority, err = parseAddress(in.authority); err != nil {
		return g, fmt.Errorf("init: --authority: %w", err)
	}
	for _, s := range in.funds {
		fund, err := parseFund(s)
		if err != nil {
			return g, fmt.Errorf("init: --fund %s: %w", s, err)
		}
		g.Funds = append(g.Funds, fund)
	}
	g.Params, err = parseParams(in.params)
	return g, err
}

func parseFund(s string) (f app.Fund, err error) {
	name, amount, ok := strings.Cut(s, "=")
	if !ok {
		return f, errors.New("want ADDRESS=AMOUNT")
	}
	if f.Address, err = parseAddress(name); err != nil {
		return f, err
	}
	if f.Amount, err = strconv.ParseUint(strings.TrimSuffix(amount, app.Denom), 10, 64); err != nil || f.Amount == 0 {
		return f, errors.New("want an amount above 0 in uagent, digits only")
	}
	return f, nil
}

func parseAddress(s string) (sdk.AccAddress, error) {
	b, err := address.NewBech32Codec(app.Prefix).StringToBytes(s)
	if err != nil {
		return nil, fmt.Errorf("want an address that begins with %s1: %w", app.Prefix, err)
	}
	return b, nil
}

// parseParams overlays the defaults.
func parseParams(s string) (statement.Params, error) {
	p := statement.DefaultParams()
	if s == "" {
		return p, nil
	}
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("init: --params: %w", err)
	}
	if d.More() {
		return p, errors.New("init: --params: more than one JSON value")
	}
	return p, nil
}
