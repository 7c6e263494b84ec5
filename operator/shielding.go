package operator

import (
	"context"

	"example.org/agentkeys/api"
)

// Shielding asks a custodian, at its operator address and with its operator's token, how
// many epochs are under its newest shielding key; with begin it goes on to the next one.
func Shielding(ctx context.Context, custodian, token string, begin bool) (s api.Shielding, err error) {
	return s, newCustodianClient(custodian, token).call(ctx, api.PathShielding, api.ShieldingRequest{Begin: begin}, &s)
}
