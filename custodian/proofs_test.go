package custodian

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys/api"
)

// proofNow is a proof that is made now.
func proofNow(n uint64) (p api.Proof) {
	p.Time = uint64(time.Now().Unix())
	binary.BigEndian.PutUint64(p.Nonce[:], n)
	return p
}

// A proof is remembered for as long as its time lets it pass, whenever it came.
func TestProofComesOnce(t *testing.T) {
	for _, ahead := range []time.Duration{-api.ProofWindow, 0, api.ProofWindow} {
		for _, wait := range []time.Duration{time.Second, api.ProofWindow, proofLife - time.Second, proofLife + time.Second} {
			synctest.Test(t, func(t *testing.T) {
				p := newProofs()
				time.Sleep(wait)
				proof := proofNow(1)
				proof.Time = uint64(time.Now().Add(ahead).Unix())
				if ahead >= 0 || wait >= api.ProofWindow {
					check(t, p.first(proof))
				}
				check(t, p.first(proofNow(2)))
				for end := time.Unix(int64(proof.Time), 0).Add(api.ProofWindow); !time.Now().After(end); time.Sleep(10 * time.Second) {
					check(t, p.first(proofNow(uint64(time.Now().UnixNano()))))
					if p.first(proof) == nil {
						t.Fatalf("taken again %v after its time", time.Since(time.Unix(int64(proof.Time), 0)))
					}
				}
			})
		}
	}
}

// What came to an earlier start is not known: it is refused while it could pass.
func TestProofFromBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := proofNow(1)
		time.Sleep(time.Second)
		p := newProofs()
		wantCode(t, p.first(before), busy)
		check(t, p.first(proofNow(1)))
		// A clock that was ahead at the start ends nothing for good.
		p.start = p.start.Add(-proofLife - time.Second)
		check(t, p.first(api.Proof{Nonce: [16]byte{9}}))
	})
}

func TestProofsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProofs()
		for n := range uint64(maxProofs) {
			if err := p.first(proofNow(n)); err != nil {
				t.Fatal(n, err)
			}
		}
		wantCode(t, p.first(proofNow(0)), sessionInvalid)
		err := p.first(proofNow(maxProofs))
		wantCode(t, err, busy)
		time.Sleep(proofLife + time.Second)
		check(t, p.first(proofNow(maxProofs)))
		time.Sleep(proofLife + time.Second)
		check(t, p.first(proofNow(maxProofs+1)))
		if len(p.old) != 1 {
			t.Errorf("%d of two generations ago are still there", len(p.old))
		}
	})
}
