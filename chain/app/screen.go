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
// and a second vault message in one transaction, which would pass the limit of
// statements.
func screened(next sdk.AnteHandler) sdk.AnteHandler {
	return func(ctx sdk.Context, tx sdk.Tx, simulate bool) (sdk.Context, error) {
		ofVault := 0
		for _, m := range tx.GetMsgs() {
			switch m.(type) {
			case *vault.MsgSubmit, *vault.MsgAuthority:
				ofVault++
			case *banktypes.MsgSend, *feegrant.MsgGrantAllowance, *feegrant.MsgRevokeAllowance:
			default:
				return ctx, sdkerrors.ErrUnauthorized.Wrapf("transaction: this chain does not take %s", sdk.MsgTypeURL(m))
			}
		}
		if ofVault > 1 {
			return ctx, sdkerrors.ErrInvalidRequest.Wrap("transaction: put all statements into one message")
		}
		return next(ctx, tx, simulate)
	}
}
