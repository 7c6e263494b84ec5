package vault

import (
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"

	"example.org/agentkeys/rules"
)

// Gas of one statement or act, charged before it is looked at. 1,000 gas stand
// for about 50 us on one core. The bytes pay for the rows too: no statement
// touches more than a few rows beyond one for each 100 of its bytes. So whoever
// relays can compute the gas of a batch without simulating it.
const (
	GasStatement = 2_000
	GasByte      = 10
	GasSecp256k1 = 3_000
	GasEd25519   = 1_000
)

// Gas is what one statement or act costs, whether or not it is accepted.
func Gas(wire []byte) uint64 {
	secp256k1, ed25519 := rules.Signatures(wire)
	return GasStatement + GasByte*uint64(len(wire)) + GasSecp256k1*uint64(secp256k1) + GasEd25519*uint64(ed25519)
}

// free is the price of a store access inside a statement, which its bytes have
// already paid for.
func free() storetypes.GasConfig { return storetypes.GasConfig{} }
