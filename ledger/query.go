package ledger

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
)

// ErrNoAccount means that the chain has no account at the address: it exists once it
// has been paid or granted something.
var ErrNoAccount = errors.New("account: not on the chain yet: send it coins or a fee grant first")

// Answer is the application's answer to a query. Value is nil for a row that is not
// there. It is unproven until [VerifyRow] or [VerifyAbsent] took Proof.
type Answer struct {
	Code      uint32 `json:"code"`
	Codespace string `json:"codespace"`
	Log       string `json:"log"`
	Height    uint64 `json:"height,string"`
	Key       []byte `json:"key"`
	Value     []byte `json:"value"`
	Proof     *Proof `json:"proofOps"`
}

// Query asks the application, at the state after block height (0: the newest). A code
// other than 0 is in the answer, not an error.
func (n *Node) Query(ctx context.Context, path string, data []byte, height uint64, prove bool) (Answer, error) {
	if height > math.MaxInt64 {
		return Answer{}, errors.New("node: query: height out of range")
	}
	params := map[string]any{"path": path, "data": hex.EncodeToString(data), "height": fmt.Sprint(height), "prove": prove}
	return n.ask(ctx, params)
}

// Account asks for number and next sequence of the account at a bech32 address.
func (n *Node) Account(ctx context.Context, address string) (number, sequence uint64, err error) {
	a, err := n.Query(ctx, "/cosmos.auth.v1beta1.Query/Account", appendBytes(nil, 1, address), 0, false)
	if err != nil {
		return 0, 0, err
	}
	if a.Code == codeNotFound {
		return 0, 0, ErrNoAccount
	}
	if a.Code != 0 {
		return 0, 0, fmt.Errorf("account: code %d: %s", a.Code, a.Log)
	}
	return parseAccount(a.Value, address)
}

// codeNotFound is what the SDK answers for gRPC's NotFound: its error "key not found".
const codeNotFound = 22

// parseAccount reads QueryAccountResponse {account 1 Any {type url 1, BaseAccount 2
// {address 1, key 2, number 3, sequence 4}}}.
func parseAccount(b []byte, address string) (number, sequence uint64, err error) {
	var item, value []byte
	var typeURL, got string
	err = fields(b, map[int]int{1: wireBytes}, 0, func(f wireField) error {
		item = f.data
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("account: %w", err)
	}
	if typeURL, value, err = parseAny(item); err != nil || typeURL != "/cosmos.auth.v1beta1.BaseAccount" {
		return 0, 0, errors.New("account: not a base account")
	}
	kinds := map[int]int{1: wireBytes, 2: wireBytes, 3: wireVarint, 4: wireVarint}
	err = fields(value, kinds, 0, func(f wireField) error {
		switch f.id {
		case 1:
			got = string(f.data)
		case 3:
			number = f.num
		case 4:
			sequence = f.num
		}
		return nil
	})
	if err != nil || got != address {
		return 0, 0, errors.New("account: malformed, or of another address")
	}
	return number, sequence, nil
}
