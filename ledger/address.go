package ledger

import (
	"crypto/sha256"
	"errors"
	"strings"

	//lint:ignore SA1019 the chain's addresses are RIPEMD-160 of SHA-256
	"golang.org/x/crypto/ripemd160"
)

// addressPrefix begins every account address of the chain.
const addressPrefix = "agent"

// Address is the 20-byte account address of a relayer or authority: RIPEMD-160 of
// SHA-256 of the compressed secp256k1 key. It is no [agentkeys.Wallet].
type Address [20]byte

func addressOf(compressed []byte) (a Address) {
	sum := sha256.Sum256(compressed)
	h := ripemd160.New()
	h.Write(sum[:])
	copy(a[:], h.Sum(nil))
	return a
}

const bech32Digits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// String gives the BIP 173 bech32 form with prefix "agent".
func (a Address) String() string {
	digits := regroup(a[:], 8, 5)
	digits = append(digits, bech32Checksum(digits)...)
	out := []byte(addressPrefix + "1")
	for _, d := range digits {
		out = append(out, bech32Digits[d])
	}
	return string(out)
}

// ParseAddress reads the bech32 form in lower case.
func ParseAddress(s string) (a Address, err error) {
	bad := errors.New("address: want agent1 and 38 bech32 characters")
	rest, ok := strings.CutPrefix(s, addressPrefix+"1")
	if !ok || len(rest) != 38 {
		return a, bad
	}
	digits := make([]byte, len(rest))
	for i := range rest {
		d := strings.IndexByte(bech32Digits, rest[i])
		if d < 0 {
			return a, bad
		}
		digits[i] = byte(d)
	}
	copy(a[:], regroup(digits[:32], 5, 8))
	if a.String() != s {
		return Address{}, errors.New("address: checksum is wrong: look for a typing error")
	}
	return a, nil
}

// regroup turns groups of from bits into groups of to bits. 20 bytes are exactly 32
// groups of five, so there is never a rest.
func regroup(in []byte, from, to int) (out []byte) {
	var acc uint32
	var bits int
	for _, b := range in {
		acc = acc<<from | uint32(b)
		for bits += from; bits >= to; {
			bits -= to
			out = append(out, byte(acc>>bits)&byte(1<<to-1))
		}
	}
	return out
}

func bech32Checksum(digits []byte) []byte {
	var values []byte
	for _, c := range []byte(addressPrefix) {
		values = append(values, c>>5)
	}
	values = append(values, 0)
	for _, c := range []byte(addressPrefix) {
		values = append(values, c&31)
	}
	values = append(append(values, digits...), 0, 0, 0, 0, 0, 0)
	mod := bech32Polymod(values) ^ 1
	out := make([]byte, 6)
	for i := range out {
		out[i] = byte(mod>>(5*(5-i))) & 31
	}
	return out
}

func bech32Polymod(values []byte) uint32 {
	generator := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	chk := uint32(1)
	for _, v := range values {
		top := chk >> 25
		chk = chk&0x1ffffff<<5 ^ uint32(v)
		for i, g := range generator {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	return chk
}
