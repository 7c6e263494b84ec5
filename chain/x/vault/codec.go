package vault

import (
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	"github.com/cosmos/cosmos-sdk/types/msgservice"
)

// RegisterInterfaces makes the messages known to r.
func RegisterInterfaces(r codectypes.InterfaceRegistry) {
	r.RegisterImplementations((*sdk.Msg)(nil), &MsgSubmit{}, &MsgAuthority{})
	msgservice.RegisterMsgServiceDesc(r, &_Msg_serviceDesc)
}

// ValidateBasic refuses a message before it costs anything.
func (m *MsgSubmit) ValidateBasic() error { return checkCount(len(m.Statements)) }

// ValidateBasic refuses a message before it costs anything.
func (m *MsgAuthority) ValidateBasic() error { return checkCount(len(m.Acts)) }

func checkCount(n int) error {
	if n < 1 || n > MaxStatements {
		return sdkerrors.ErrInvalidRequest.Wrapf("vault: want 1 to %d statements in a message, got %d", MaxStatements, n)
	}
	return nil
}
