package ledger

import (
	"errors"
	"fmt"
)

// errTx is returned for transactions that this package cannot take apart.
var errTx = errors.New("tx: malformed")

// Message is one message of a transaction that was in a block. Parts are the
// statements of a [MsgSubmit] or the acts of a [MsgAuthority]; other messages have
// none.
type Message struct {
	Type   string
	Signer string // relayer or authority, bech32
	Parts  [][]byte
}

// Messages takes a transaction apart: TxRaw {body 1, auth info 2, signatures 3}, body
// {messages 1, ...}. A relayer may have encoded the same content in another order than
// [Signer] does; what the chain accepts is read the way the chain reads it, the last of
// a repeated single field counting. Signatures are the chain's business.
func Messages(tx []byte) ([]Message, error) {
	body, err := lastBytes(tx, 1)
	if err != nil {
		return nil, err
	}
	items, err := allBytes(body, 1)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("%w: no message", errTx)
	}
	out := make([]Message, len(items))
	for i, item := range items {
		if out[i], err = parseMessage(item); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Statements returns the statements of all MsgSubmit in a transaction, in the order in
// which the chain applied them; none for a transaction of another kind.
func Statements(tx []byte) ([][]byte, error) {
	messages, err := Messages(tx)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, m := range messages {
		if m.Type == MsgSubmit {
			out = append(out, m.Parts...)
		}
	}
	return out, nil
}

func parseMessage(item []byte) (m Message, err error) {
	typeURL, err := lastBytes(item, 1)
	if err != nil {
		return m, err
	}
	m.Type = string(typeURL)
	if m.Type != MsgSubmit && m.Type != MsgAuthority {
		return m, nil
	}
	value, err := lastBytes(item, 2)
	if err != nil {
		return m, err
	}
	signer, err := lastBytes(value, 1)
	if err != nil {
		return m, err
	}
	m.Signer = string(signer)
	if m.Parts, err = allBytes(value, 2); err == nil && len(m.Parts) > MaxParts {
		err = fmt.Errorf("%w: over %d parts", errTx, MaxParts)
	}
	return m, err
}

// allBytes collects a repeated bytes field and skips the others.
func allBytes(b []byte, field int) (out [][]byte, err error) {
	r := wireReader{b: b}
	for f, ok := r.next(); ok; f, ok = r.next() {
		if f.id != field {
			continue
		}
		if f.wire != wireBytes {
			return nil, errTx
		}
		out = append(out, f.data)
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %v", errTx, r.err)
	}
	return out, nil
}

func lastBytes(b []byte, field int) ([]byte, error) {
	all, err := allBytes(b, field)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[len(all)-1], nil
}

// Result is what became of one statement or act. Code 0 is applied, 1 already applied,
// others are refusals (docs/spec/chain.md). Skipped holds the indices of batch rows
// that did not match.
type Result struct {
	Code    uint32
	Reason  string
	Skipped []uint16
}

// Results reads the data of a successful transaction with one MsgSubmit or
// MsgAuthority: TxMsgData {responses 2: Any}, response {results 1: {code 1, reason 2,
// skipped 3}}.
func Results(data []byte) ([]Result, error) {
	var any, value []byte
	var typeURL string
	err := fields(data, map[int]int{2: wireBytes}, 0, func(f wireField) error {
		any = f.data
		return nil
	})
	if err == nil {
		typeURL, value, err = parseAny(any)
	}
	if err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	if typeURL != MsgSubmit+"Response" && typeURL != MsgAuthority+"Response" {
		return nil, fmt.Errorf("results: response of another message: %q", typeURL)
	}
	var out []Result
	err = fields(value, map[int]int{1: wireBytes}, 1, func(f wireField) error {
		r, err := parseResult(f.data)
		if out = append(out, r); len(out) > MaxParts {
			return errWire
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	return out, nil
}

func parseResult(b []byte) (r Result, err error) {
	kinds := map[int]int{1: wireVarint, 2: wireBytes, 3: wireBytes}
	err = fields(b, kinds, 0, func(f wireField) error {
		switch f.id {
		case 1:
			if r.Code = uint32(f.num); uint64(r.Code) != f.num {
				return errWire
			}
		case 2:
			r.Reason = string(f.data)
		case 3:
			if len(f.data)%2 != 0 {
				return errWire
			}
			for i := 0; i < len(f.data); i += 2 {
				r.Skipped = append(r.Skipped, uint16(f.data[i])<<8|uint16(f.data[i+1]))
			}
		}
		return nil
	})
	return r, err
}
