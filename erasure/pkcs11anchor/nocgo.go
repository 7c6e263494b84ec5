//go:build !cgo

package pkcs11anchor

import (
	"errors"

	"example.org/agentkeys/erasure/wrapanchor"
)

func openToken(Config) (wrapanchor.Keys, func() error, error) {
	return nil, nil, errors.New("pkcs11 anchor: this build has no cgo and cannot load a token's library: build with CGO_ENABLED=1")
}
