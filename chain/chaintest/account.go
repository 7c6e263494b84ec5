package chaintest

import (
	"crypto/sha256"
	"testing"

	clienttx "github.com/cosmos/cosmos-sdk/client/tx"
	"github.com/cosmos/cosmos-sdk/crypto/keys/secp256k1"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"

	"example.org/agentkeys/chain/app"
)

// Account signs transactions in the order of their sequence.
type Account struct {
	Key      *secp256k1.PrivKey
	Number   uint64
	Sequence uint64
	ChainID  string
	Gas      uint64         // limit of the next transactions
	Fee      int64          // uagent
	Granter  sdk.AccAddress // pays the fee instead, if set
}

// NewAccount derives a key from name. Number is its place in genesis.
func NewAccount(name string, number uint64) *Account {
	seed := sha256.Sum256([]byte(name))
	return &Account{Key: &secp256k1.PrivKey{Key: seed[:]}, Number: number, ChainID: ChainID, Gas: 50_000_000}
}

// Address is the account's address.
func (a *Account) Address() sdk.AccAddress { return sdk.AccAddress(a.Key.PubKey().Address()) }

// Tx signs a transaction and counts it.
func (a *Account) Tx(t testing.TB, chain *app.App, msgs ...sdk.Msg) []byte {
	t.Helper()
	b := chain.TxConfig.NewTxBuilder()
	if err := b.SetMsgs(msgs...); err != nil {
		t.Fatal(err)
	}
	b.SetGasLimit(a.Gas)
	b.SetFeeGranter(a.Granter)
	if a.Fee > 0 {
		b.SetFeeAmount(sdk.NewCoins(sdk.NewInt64Coin(app.Denom, a.Fee)))
	}
	mode := signing.SignMode_SIGN_MODE_DIRECT
	empty := signing.SignatureV2{PubKey: a.Key.PubKey(), Data: &signing.SingleSignatureData{SignMode: mode}, Sequence: a.Sequence}
	if err := b.SetSignatures(empty); err != nil {
		t.Fatal(err)
	}
	who := authsigning.SignerData{ChainID: a.ChainID, AccountNumber: a.Number, Sequence: a.Sequence,
		PubKey: a.Key.PubKey(), Address: a.Address().String()}
	sig, err := clienttx.SignWithPrivKey(t.Context(), mode, who, b, a.Key, chain.TxConfig, a.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetSignatures(sig); err != nil {
		t.Fatal(err)
	}
	a.Sequence++
	wire, err := chain.TxConfig.TxEncoder()(b.GetTx())
	if err != nil {
		t.Fatal(err)
	}
	return wire
}
