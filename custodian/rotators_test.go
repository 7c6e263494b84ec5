package custodian

import (
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

func TestVouchIsChecked(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		f := r.newForger()
		before := r.said(statement.KindVouch)
		for name, tc := range map[string]struct {
			spoil func(*api.RotatorHello)
			want  code
		}{
			"short key":         {func(h *api.RotatorHello) { h.Key = h.Key[:31] }, badRequest},
			"no Noise key":      {func(h *api.RotatorHello) { h.Noise = nil }, badRequest},
			"short ML-KEM key":  {func(h *api.RotatorHello) { h.MLKEM = h.MLKEM[1:] }, badRequest},
			"no evidence":       {func(h *api.RotatorHello) { h.Evidence = nil }, badRequest},
			"evidence too long": {func(h *api.RotatorHello) { h.Evidence = append(h.Evidence, 0) }, badRequest},
			"other measurement": {func(h *api.RotatorHello) {
				h.Evidence = attest.Software(attest.Measurement{1}, attest.KeysHash(h.Key, h.Noise, h.MLKEM)).Append(nil)
			}, rotatorUnknown},
			"other platform":  {func(h *api.RotatorHello) { h.Platform++ }, rotatorUnknown},
			"other signer":    {func(h *api.RotatorHello) { k := rulestest.PublicKey(rulestest.Process("x")); h.Key = k[:] }, rotatorUnknown},
			"foreign KEM key": {func(h *api.RotatorHello) { p := foreign(t); h.MLKEM = p.KEM[:] }, rotatorUnknown},
			"foreign Noise":   {func(h *api.RotatorHello) { p := foreign(t); h.Noise = p.Noise[:] }, rotatorUnknown},
		} {
			h := f.hello()
			tc.spoil(&h)
			if err := r.jobs.vouch(t.Context(), h); err == nil {
				t.Errorf("%s: vouched for", name)
			} else {
				wantCode(t, err, tc.want)
			}
		}
		if n := r.said(statement.KindVouch); n != before {
			t.Fatalf("%d rotators are registered, before the lies it were %d", n, before)
		}
		// Said twice is no error.
		check(t, r.jobs.vouch(t.Context(), f.hello()))
	})
}

func foreign(t *testing.T) channel.PublicKeys {
	t.Helper()
	k, err := channel.NewKeys()
	check(t, err)
	return k.Public()
}

// One statement key has one set of channel keys: a second set, with evidence that
// fits, is refused by the chain and no job is sealed to it.
func TestRotatorCannotChangeItsKeys(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github")
		f := r.newForger()
		first := f.keys
		var err error
		f.keys, err = channel.NewKeys()
		check(t, err)
		if err := r.jobs.vouch(t.Context(), f.hello()); err == nil {
			t.Fatal("vouched for twice with other keys")
		}
		j, err := r.jobs.next(t.Context(), f.request())
		check(t, err)
		if _, _, err := channel.Accept(r.vault, f.keys, j.Handshake); err == nil {
			t.Fatal("the job opens with the other keys")
		}
		if _, _, err := channel.Accept(r.vault, first, j.Handshake); err != nil {
			t.Fatal(err)
		}
	})
}

// Jobs go to nobody but a rotator that the proven registry lists now, with the keys
// it was registered with.
func TestJobsNeedARegisteredRotator(t *testing.T) {
	revoke := func(r *rotating, f *forger) {
		r.act(statement.RevokeEnclave{Role: statement.EnclaveRotator, Key: agentkeys.ProcessKey(f.public())})
	}
	swap := func(r *rotating, f *forger, change func(p *channel.PublicKeys, foreign channel.PublicKeys)) {
		k := agentkeys.ProcessKey(f.public())
		p := r.jobs.rotators.keys[k]
		change(&p, foreign(r.t.(*testing.T)))
		r.jobs.rotators.keys[k] = p
	}
	for name, spoil := range map[string]func(*rotating, *forger){
		"revoked":         revoke,
		"expired":         func(r *rotating, _ *forger) { r.pass(7*day - time.Minute) },
		"unknown":         func(r *rotating, f *forger) { f.key = rulestest.Process("nobody") },
		"not vouched for": func(r *rotating, f *forger) { f.key = rulestest.Process("rotator") },
		"foreign KEM": func(r *rotating, f *forger) {
			swap(r, f, func(p *channel.PublicKeys, foreign channel.PublicKeys) { p.KEM = foreign.KEM })
		},
		"foreign Noise": func(r *rotating, f *forger) {
			swap(r, f, func(p *channel.PublicKeys, foreign channel.PublicKeys) { p.Noise = foreign.Noise })
		},
		"of another start": func(r *rotating, _ *forger) { r.restart() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rotate(t, 1, func(t *testing.T, r *rotating) {
				r.draining("github")
				f := r.newForger()
				spoil(r, f)
				_, err := r.jobs.next(t.Context(), f.request())
				wantCode(t, err, rotatorUnknown)
			})
		})
	}
	t.Run("garbage", func(t *testing.T) {
		rotate(t, 1, func(t *testing.T, r *rotating) {
			_, err := r.jobs.next(t.Context(), api.JobRequest{User: r.owner.Wallet().String(), Rotator: "zz"})
			wantCode(t, err, rotatorUnknown)
		})
	})
}

// The keys leave with the handshake: a rotator revoked after the job was made does
// not get them.
func TestRevokedBetweenJobAndHandshake(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github")
		f := r.newForger()
		j, err := r.jobs.next(t.Context(), f.request())
		check(t, err)
		_, reply, err := channel.Accept(r.vault, f.keys, j.Handshake)
		check(t, err)
		r.act(statement.RevokeEnclave{Role: statement.EnclaveRotator, Key: agentkeys.ProcessKey(f.public())})
		frames, err := r.jobs.handshake(t.Context(), api.Handshake{ID: j.ID, Message: reply})
		wantCode(t, err, rotatorUnknown)
		if len(frames.Frames) != 0 || frames.Store != nil {
			t.Fatal("keys or a store session left")
		}
		r.settle(2)
		r.intact()
	})
}
