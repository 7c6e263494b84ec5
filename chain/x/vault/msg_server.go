package vault

import (
	"context"

	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"

	"example.org/agentkeys/rules"
)

type msgServer struct{ k Keeper }

// Submit applies statements. Who relays them does not matter.
func (s msgServer) Submit(c context.Context, m *MsgSubmit) (*MsgSubmitResponse, error) {
	results, err := s.k.each(sdk.UnwrapSDKContext(c), m.Statements, rules.Apply)
	if err != nil {
		return nil, err
	}
	return &MsgSubmitResponse{Results: results}, nil
}

// Authority applies acts of the authority that genesis names. The transaction's
// signature is the authority's, so a stranger's message fails as a whole.
func (s msgServer) Authority(c context.Context, m *MsgAuthority) (*MsgAuthorityResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	settings, err := s.k.settings(ctx)
	if err != nil {
		return nil, err
	}
	if m.Authority != settings.Authority {
		return nil, sdkerrors.ErrUnauthorized.Wrapf("vault: %s is not the authority of this vault; sign with %s", m.Authority, settings.Authority)
	}
	results, err := s.k.each(ctx, m.Acts, rules.ApplyAuthority)
	if err != nil {
		return nil, err
	}
	return &MsgAuthorityResponse{Results: results}, nil
}
