package seed

import (
	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
)

// DeriveWrappingKey joins what the custodian holds (shielding key) with what can
// be erased (the share of this user, epoch and wrap version): HKDF-SHA256(shielding
// key, salt = share, info = domain tag "wrap", user, epoch, wrap version). Without
// a share there is no key: HKDF would take an empty salt, and then erasing shares
// would destroy nothing.
func DeriveWrappingKey(vault agentkeys.VaultID, shielding ShieldingKey, share agentkeys.Secret,
	user agentkeys.Wallet, epoch agentkeys.Epoch, version uint32) (envelope.WrappingKey, error) {
	if user.IsZero() || epoch == 0 || version == 0 {
		return envelope.WrappingKey{}, ErrNumber
	}
	if !usable(share) {
		return envelope.WrappingKey{}, ErrKey
	}
	wk := envelope.WrappingKey{User: user, Epoch: epoch, Version: version}
	key, err := derive(shielding.Secret, share.Reveal(), wk.Info(vault), keySize)
	if err != nil {
		return envelope.WrappingKey{}, err
	}
	wk.Secret = agentkeys.NewSecret(key)
	return wk, nil
}
