package app

import (
	"encoding/json"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"

	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/x/auth/ante"
)

func (a *App) setHandlers() error {
	standard, err := ante.NewAnteHandler(ante.HandlerOptions{
		AccountKeeper:   a.accounts,
		BankKeeper:      a.bank,
		FeegrantKeeper:  a.feegrant,
		SignModeHandler: a.TxConfig.SignModeHandler(),
		SigGasConsumer:  ante.DefaultSigVerificationGasConsumer,
	})
	if err != nil {
		return err
	}
	a.SetAnteHandler(a.screened(standard))
	a.SetInitChainer(a.initChain)
	a.SetEndBlocker(a.Modules.EndBlock)
	return nil
}

func (a *App) initChain(ctx sdk.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	var state map[string]json.RawMessage
	if err := json.Unmarshal(req.AppStateBytes, &state); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	if err := a.Basics.ValidateGenesis(a.Codec, a.TxConfig, state); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	return a.Modules.InitGenesis(ctx, a.Codec, state)
}
