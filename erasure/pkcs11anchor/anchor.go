// Package pkcs11anchor is an [erasure.Anchor] on a PKCS#11 token (an HSM, SoftHSM):
// each root is encrypted under an AES key of its own that the token made and never
// gives out. To forget the root, the key is destroyed. docs/spec/anchors.md, "PKCS#11".
//
// A token's library is C. Only a build with cgo can use it; in one without, [New]
// says so.
//
// State: the key in the token; the ciphertexts in the directory of [wrapanchor].
package pkcs11anchor

import (
	"errors"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/wrapanchor"
)

// Config says which token and what for.
type Config struct {
	Library string // path of the token's PKCS#11 library
	Token   string // label of the token
	// PIN gives the user's PIN at each login.
	PIN func() (string, error)
	Dir string // for two files of ciphertext; of this anchor alone
	ID  erasure.AnchorID
}

// Anchor is a [wrapanchor.Anchor] with its kind and limit. A process has one: a
// library is loaded once.
type Anchor struct {
	*wrapanchor.Anchor
	close func() error
}

// New loads the library and logs in once. The caller closes the anchor.
func New(cfg Config) (*Anchor, error) {
	if cfg.Library == "" || cfg.Token == "" || cfg.PIN == nil || cfg.Dir == "" {
		return nil, errors.New("pkcs11 anchor: library, token, PIN or directory is missing")
	}
	keys, closeToken, err := openToken(cfg)
	if err != nil {
		return nil, err
	}
	return &Anchor{wrapanchor.New("pkcs11 anchor", cfg.Dir, keys), closeToken}, nil
}

// Close lets go of the library.
func (a *Anchor) Close() error { return a.close() }

// Kind is the kind in the Anchor row.
func (a *Anchor) Kind() string { return "pkcs11" }

// Limit says what this anchor does not withstand.
func (a *Anchor) Limit() string {
	return "pkcs11 anchor: forgets as well as the token does. A copy or backup of a token with its keys, taken before an erasure, undoes it: " +
		"a copied token directory of SoftHSM, a backup HSM, a cluster member that was away. Whoever has the PIN and the token reads the present root"
}
