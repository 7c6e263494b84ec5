package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// ErrExpired means that the trusted header is older than the trusting period: give a
// newer trusted height and hash from a source you trust.
var ErrExpired = errors.New("light: trusted header is older than the trusting period")

// errTrust means that a third of the trusted validators did not sign: go by a header
// in between.
var errTrust = errors.New("light: less than a third of the trusted validators signed")

// LightBlock is a header, the commit that makes it final and the set that signed.
type LightBlock struct {
	Header     Header
	Commit     Commit
	Validators *Validators
}

// Rules are the parameters of header verification.
type Rules struct {
	ChainID        string
	TrustingPeriod time.Duration // how long a verified header is a base for new ones
	ClockDrift     time.Duration // how far a header may be ahead of now
}

// Check verifies what needs no other block: the header is well formed, the set is the
// one it names, and more than two thirds of it signed.
func (r Rules) Check(b *LightBlock) error {
	if err := b.bound(r.ChainID); err != nil {
		return err
	}
	return b.Commit.verify(r.ChainID, b.Validators)
}

// bound ties header, commit and validators together without checking signatures.
func (b *LightBlock) bound(chainID string) error {
	if err := b.Header.check(chainID); err != nil {
		return err
	}
	if b.Validators == nil {
		return errors.New("light: block without validators")
	}
	if err := b.Commit.check(); err != nil {
		return err
	}
	hash, set := b.Header.Hash(), b.Validators.Hash()
	switch {
	case b.Commit.Height != b.Header.Height:
		return errors.New("light: commit is of another height")
	case !bytes.Equal(b.Commit.BlockID.Hash, hash[:]):
		return errors.New("light: commit is for another header")
	case !bytes.Equal(b.Header.ValidatorsHash, set[:]):
		return errors.New("light: validators are not those of the header")
	}
	return nil
}

// Verify accepts next on the word of trusted, which is lower: adjacent headers by the
// validators that trusted named as next, others when more than a third of trusted's
// own validators signed. now is compared with header times; it must not run behind.
func (r Rules) Verify(trusted, next *LightBlock, now time.Time) error {
	switch {
	case next.Header.Height <= trusted.Header.Height:
		return fmt.Errorf("light: height %d is not above the trusted %d", next.Header.Height, trusted.Header.Height)
	case !trusted.Header.Time.Add(r.TrustingPeriod).After(now):
		return ErrExpired
	case !next.Header.Time.After(trusted.Header.Time):
		return errors.New("light: time is not after that of the trusted header")
	case !next.Header.Time.Before(now.Add(r.ClockDrift)):
		return errors.New("light: header is from the future: check the clock")
	}
	if err := next.bound(r.ChainID); err != nil {
		return err
	}
	if err := r.trust(trusted, next); err != nil {
		return err
	}
	return next.Commit.verify(r.ChainID, next.Validators)
}

func (r Rules) trust(trusted, next *LightBlock) error {
	if next.Header.Height == trusted.Header.Height+1 {
		if !bytes.Equal(next.Header.ValidatorsHash, trusted.Header.NextValidatorsHash) {
			return errors.New("light: validators are not those that the trusted header named")
		}
		return nil
	}
	if next.Commit.power(trusted.Validators) <= trusted.Validators.total/3 {
		return errTrust
	}
	return nil
}
