package app

import (
	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	"github.com/cosmos/cosmos-sdk/x/feegrant"

	"example.org/agentkeys/chain/x/vault"
)

// screened refuses what this chain is not for before anything is charged: any
// message but those of the vault, a transfer to a relayer, and fee grants to it;
// and a vault message that is not alone in its transaction: with a second one it
// would pass the limit of statements, and those who replay blocks read the answers
// of one message.
func (a *App) screened(next sdk.AnteHandler) sdk.AnteHandler {
	return func(ctx sdk.Context, tx sdk.Tx, simulate bool) (sdk.Context, error) {
		ofVault, msgs := false, tx.GetMsgs()
		for _, m := range msgs {
			switch m.(type) {
			case *vault.MsgSubmit, *vault.MsgAuthority:
				ofVault = true
			case *banktypes.MsgSend, *feegrant.MsgGrantAllowance, *feegrant.MsgRevokeAllowance:
			default:
				return ctx, sdkerrors.ErrUnauthorized.Wrapf("transaction: this chain does not take %s", sdk.MsgTypeURL(m))
			}
		}
		if ofVault && len(msgs) > 1 {
			return ctx, sdkerrors.ErrInvalidRequest.Wrap("transaction: put all statements into one message, and nothing beside it")
		}
		return next(a.afterRestart(ctx), tx, simulate)
	}
}

// afterRestart gives a check its height. Between a restart and the next block the
// SDK checks transactions at height 0, as if this were genesis, where gas has no
// limit; the mempool refuses a transaction without one, and on a chain that makes
// no empty blocks the next block would never come.
func (a *App) afterRestart(ctx sdk.Context) sdk.Context {
	if ctx.IsCheckTx() && ctx.BlockHeight() == 0 {
		return ctx.WithBlockHeight(a.LastBlockHeight())
	}
	return ctx
}
