package custodian

import (
	"context"
	"fmt"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// rotatorLife is how long a vouched rotator stays registered, in seconds. Its
// process makes new keys at every start anyway.
const rotatorLife = 7 * 86400

// rotators remembers the channel keys of rotators this process has vouched for: the
// chain keeps only their hashes. Lost at a restart; then the rotator is started and
// vouched for again.
type rotators struct {
	mu   sync.Mutex
	keys map[agentkeys.ProcessKey]channel.PublicKeys
}

// vouch checks a rotator's evidence against the proven allow-list and has it
// registered.
func (j *Jobs) vouch(ctx context.Context, h api.RotatorHello) error {
	pub, err := channel.ParsePublicKeys(append(append([]byte(nil), h.Noise...), h.MLKEM...))
	if err != nil || len(h.Key) != 32 {
		return badRequest.because("Is the rotator of this build?", "rotator: its keys do not parse")
	}
	e, err := attest.Parse(h.Evidence)
	if err != nil {
		return badRequest.because("Is the rotator of this build?", "rotator: its evidence does not parse")
	}
	_, allowed, head, err := one(ctx, j.s.cfg.Chain, rules.MeasurementKey(statement.EnclaveRotator, h.Platform, e.Measurement), rules.ParseMeasurement)
	if err != nil {
		return j.s.chainFailed(err)
	}
	if !allowed {
		return rotatorUnknown.because("Allow it by the authority: agentkeys-operator enclave allow", "rotator: its measurement is not on the allow-list")
	}
	if err := attest.Verify(h.Evidence, h.Platform, e.Measurement, attest.KeysHash(h.Key, h.Noise, h.MLKEM)); err != nil {
		return rotatorUnknown.because("Start the rotator again", "rotator: %v", err)
	}
	now := max(blockTime(head), uint64(time.Now().Unix()))
	v := statement.Vouch{Rotator: agentkeys.ProcessKey(h.Key), Noise: pub.Noise, MLKEMHash: pub.KEMHash(), Platform: h.Platform,
		Measurement: e.Measurement, Evidence: statement.Hash(h.Evidence), Expiry: now + rotatorLife, ValidUntil: now + statementLife}
	err = j.k.submit(ctx, v, rules.EnclaveKey(statement.EnclaveRotator, v.Rotator), func(b []byte) bool { return b != nil })
	if err != nil {
		return fmt.Errorf("vouch: %w", err)
	}
	j.rotators.mu.Lock()
	defer j.rotators.mu.Unlock()
	j.rotators.keys[v.Rotator] = pub
	return nil
}

// rotator gives the channel keys of a rotator that the verified registry lists now.
func (j *Jobs) rotator(ctx context.Context, hexKey string) (k agentkeys.ProcessKey, pub channel.PublicKeys, err error) {
	unknown := rotatorUnknown.because("Start the rotator again", "rotator: not one that this custodian vouched for")
	if k, err = agentkeys.ParseProcessKey(hexKey); err != nil {
		return k, pub, unknown
	}
	j.rotators.mu.Lock()
	pub, ok := j.rotators.keys[k]
	j.rotators.mu.Unlock()
	if !ok {
		return k, pub, unknown
	}
	e, ok, head, err := one(ctx, j.s.cfg.Chain, rules.EnclaveKey(statement.EnclaveRotator, k), rules.ParseEnclave)
	if err != nil {
		return k, pub, j.s.chainFailed(err)
	}
	if !ok || e.Revoked || e.Expiry != 0 && blockTime(head)+statementLife >= e.Expiry || e.Noise != pub.Noise || e.MLKEMHash != pub.KEMHash() {
		return k, pub, unknown
	}
	return k, pub, nil
}
