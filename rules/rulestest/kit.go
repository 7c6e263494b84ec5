package rulestest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// Wallet is the wallet key of a name, the same in every run.
func Wallet(name string) eip712.Key {
	seed := sha256.Sum256([]byte("wallet " + name))
	k, err := eip712.ParseKey(seed[:])
	if err != nil {
		panic("rulestest: pick another name") // one in 2^128
	}
	return k
}

// Process is the signing key of a custodian or rotator of a name.
func Process(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("process " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// PublicKey is the key by which rows name a process.
func PublicKey(k ed25519.PrivateKey) agentkeys.ProcessKey {
	return agentkeys.ProcessKey(k.Public().(ed25519.PublicKey))
}

// Kit signs for one vault. The zero measurement of the software platform stands
// for both roles.
type Kit struct {
	Vault              agentkeys.VaultID
	Custodian, Rotator ed25519.PrivateKey
}

// SignUser signs a user's statement; it panics when wallets do not sign that kind.
func (k Kit) SignUser(key eip712.Key, body statement.Body) []byte {
	wire, err := key.SignStatement(k.Vault, body)
	if err != nil {
		panic(fmt.Sprintf("rulestest: %v", err))
	}
	return wire
}

// SignProcess signs a statement as the custodian, and its receipt as the rotator.
func (k Kit) SignProcess(body statement.Body) []byte {
	var sig receipt.Signature
	switch b := body.(type) {
	case statement.OpenEpoch:
		sig = receipt.Sign(k.Rotator, k.Vault, receipt.KindMade, b.Receipt.Append(nil))
	case statement.RotateBlobs:
		sig = receipt.Sign(k.Rotator, k.Vault, receipt.KindRotated, b.Receipt.Append(nil))
	case statement.RewrapDEK:
		sig = receipt.Sign(k.Rotator, k.Vault, receipt.KindRewrapped, b.Receipt.Append(nil))
	default:
		return statement.SignProcess(k.Custodian, k.Vault, body, nil)
	}
	return statement.SignProcess(k.Custodian, k.Vault, body, &sig)
}

// Found puts the kit's processes and anchors into an empty vault by the real
// messages: measurements allowed, custodian registered, rotator vouched for,
// anchors added, their leases taken for a day and their first generation
// committed. It ends that block.
func (k Kit) Found(v *Vault, anchors ...statement.AnchorID) error {
	custodian := PublicKey(k.Custodian)
	acts := []statement.Body{
		statement.AllowMeasurement{Role: statement.EnclaveCustodian, Platform: statement.PlatformSoftware},
		statement.AllowMeasurement{Role: statement.EnclaveRotator, Platform: statement.PlatformSoftware},
		statement.RegisterEnclave{Role: statement.EnclaveCustodian, Key: custodian, Platform: statement.PlatformSoftware},
	}
	valid := v.Block.Time + 60
	wires := [][]byte{k.SignProcess(statement.Vouch{Rotator: PublicKey(k.Rotator), Platform: statement.PlatformSoftware, ValidUntil: valid})}
	for _, id := range anchors {
		acts = append(acts, statement.AddAnchor{Anchor: id, Type: statement.AnchorFile})
		wires = append(wires,
			k.SignProcess(statement.TakeKeeper{Anchor: id, Term: 1, LeaseUntil: v.Block.Time + rules.MaxLease, ValidUntil: valid}),
			k.SignProcess(statement.CommitTree{Anchor: id, Term: 1, IndexHash: sha256.Sum256(id[:]), ValidUntil: valid}))
	}
	for _, act := range acts {
		if err := refused(v.Act(act)); err != nil {
			return fmt.Errorf("rulestest: %T: %w", act, err)
		}
	}
	for _, wire := range wires {
		if err := refused(v.Apply(wire)); err != nil {
			return fmt.Errorf("rulestest: kind %d: %w", wire[0], err)
		}
	}
	return v.NextBlock(1)
}

func refused(r rules.Result, err error) error {
	if err == nil && r.Code != rules.OK {
		err = fmt.Errorf("%v: %s", r.Code, r.Reason)
	}
	return err
}
