package custodian

import (
	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/seed"
)

// jobKeys makes wrapping keys for one step of a job; each shielding key that it takes is
// derived once, and gone with wipe.
type jobKeys struct {
	j         *Jobs
	shielding map[uint32]seed.ShieldingKey // by wrap version
}

func (j *Jobs) keys() jobKeys { return jobKeys{j, map[uint32]seed.ShieldingKey{}} }

// wrapping joins the shielding key with the share of an epoch. The caller wipes it.
func (k jobKeys) wrapping(id erasure.ShareID) (envelope.WrappingKey, error) {
	share, err := k.j.k.Get(id.User, id.Epoch, id.WrapVersion)
	if err != nil {
		return envelope.WrappingKey{}, shareUnavailable.because("See the custodian's log; do not restart from a backup", "%v", err)
	}
	defer share.Wipe()
	vault := k.j.s.cfg.Vault
	shielding, ok := k.shielding[id.WrapVersion]
	if !ok {
		if shielding, err = k.j.s.cfg.State.Seed.ShieldingKey(vault, id.WrapVersion); err != nil {
			return envelope.WrappingKey{}, err
		}
		k.shielding[id.WrapVersion] = shielding
	}
	return seed.DeriveWrappingKey(vault, shielding, share, id.User, id.Epoch, id.WrapVersion)
}

// pair is the wrapping key that a data key is under and the one it is to be under. The
// caller wipes both.
func (k jobKeys) pair(from, to erasure.ShareID) (f, t envelope.WrappingKey, err error) {
	if f, err = k.wrapping(from); err != nil {
		return f, t, err
	}
	if t, err = k.wrapping(to); err != nil {
		f.Wipe()
	}
	return f, t, err
}

// open holds a wrapped data key against the wrapping key it was to be under. Keys die
// here.
func (k jobKeys) open(share erasure.ShareID, id agentkeys.DEKID, wrapped agentkeys.WrappedDEK) error {
	key, err := k.wrapping(share)
	if err != nil {
		return err
	}
	defer key.Wipe()
	dek, err := key.Unwrap(k.j.s.cfg.Vault, id, wrapped)
	if err != nil {
		return badRequest.because("Start the rotator again", "receipt: the data key does not open")
	}
	dek.Wipe()
	return nil
}

func (k jobKeys) wipe() {
	for _, key := range k.shielding {
		key.Wipe()
	}
}
