package blobstore

import (
	"errors"
	"strings"

	"example.org/agentkeys"
)

const keySuffix = ".enc"

// Name is what an object key of a sealed credential says.
type Name struct {
	User    agentkeys.Wallet
	Epoch   agentkeys.Epoch
	Service agentkeys.ServiceID
	Blob    agentkeys.BlobID
}

// Key gives the object key of a blob:
// <user>/<epoch, 10 digits>/<service id, 64 hex>/<blob id, 32 hex>.enc
// (docs/spec/store.md).
func Key(user agentkeys.Wallet, epoch agentkeys.Epoch, service agentkeys.ServiceID, blob agentkeys.BlobID) string {
	return EpochPrefix(user, epoch) + service.String() + "/" + blob.String() + keySuffix
}

// ParseKey is the inverse of [Key]. Every object has one spelling: what ParseKey
// accepts, Key gives back byte for byte.
func ParseKey(key string) (Name, error) {
	parts := strings.Split(key, "/")
	if len(parts) != 4 {
		return Name{}, errors.New("object key: want user/epoch/service/blob.enc")
	}
	blob, ok := strings.CutSuffix(parts[3], keySuffix)
	if !ok {
		return Name{}, errors.New("object key: want the suffix .enc")
	}
	var n Name
	var errs [4]error
	n.User, errs[0] = agentkeys.ParseWallet(parts[0])
	n.Epoch, errs[1] = agentkeys.ParseEpoch(parts[1])
	n.Service, errs[2] = agentkeys.ParseServiceID(parts[2])
	n.Blob, errs[3] = agentkeys.ParseBlobID(blob)
	if err := errors.Join(errs[:]...); err != nil {
		return Name{}, errors.New("object key: want user/epoch/service/blob.enc in lower-case hex")
	}
	return n, nil
}

// UserPrefix is what every key of a user begins with.
func UserPrefix(user agentkeys.Wallet) string { return user.String() + "/" }

// EpochPrefix is what every key of a user's epoch begins with: the unit that is
// emptied once the epoch is destroyed.
func EpochPrefix(user agentkeys.Wallet, epoch agentkeys.Epoch) string {
	return UserPrefix(user) + epoch.String() + "/"
}
