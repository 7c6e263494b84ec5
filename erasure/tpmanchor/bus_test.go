package tpmanchor

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"example.org/agentkeys/erasure/anchortest/emulator"
)

// busTo is the way to a TPM.
func busTo(t *testing.T, s *emulator.TPM) *bus {
	t.Helper()
	tpm, err := linuxudstpm.Open(s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Close() })
	return &bus{tpm: tpm}
}

var errDied = errors.New("process: died")

// bus records all that goes to the TPM and comes from it, and can be cut.
type bus struct {
	tpm      transport.TPM
	mu       sync.Mutex
	commands [][]byte
	recorded []byte
	n        int
	after    bool
	dead     bool
}

func (b *bus) Send(command []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.n == 1
	if b.n > 0 {
		b.n--
	}
	if b.dead || last && !b.after {
		b.dead = true
		return nil, errDied
	}
	response, err := b.tpm.Send(command)
	b.commands = append(b.commands, slices.Clone(command))
	b.recorded = append(append(b.recorded, command...), response...)
	if last {
		b.dead = true
		return nil, errDied
	}
	return response, err
}

func (b *bus) cut(n int, after bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n, b.after, b.dead = n, after, false
	if n == 0 { // the kernel flushes what a process that died leaves in the TPM
		b.flush()
	}
}

func (b *bus) flush() {
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} {
		for _, h := range handles(b.tpm, first) {
			_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(b.tpm)
		}
	}
}

func handles(tpm transport.TPM, first uint32) []tpm2.TPMHandle {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 32}.Execute(tpm)
	if err != nil {
		return nil
	}
	list, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		return nil
	}
	return list.Handle
}

// attack asks for every NV index there is, with every auth there is and each way of
// using it, and sends every recorded read again.
func (b *bus) attack(auth, owner []byte) func(context.Context) [][]byte {
	return func(context.Context) (answers [][]byte) {
		for _, command := range b.commands {
			if binary.BigEndian.Uint32(command[6:]) == uint32(tpm2.TPMCCNVRead) {
				if rsp, err := b.tpm.Send(command); err == nil {
					answers = append(answers, rsp)
				}
			}
		}
		for _, h := range handles(b.tpm, 0x01000000) {
			public, err := tpm2.NVReadPublic{NVIndex: h}.Execute(b.tpm)
			if err != nil {
				continue
			}
			index := tpm2.NamedHandle{Handle: h, Name: public.NVName}
			for _, who := range []tpm2.AuthHandle{
				{Handle: h, Name: public.NVName, Auth: tpm2.PasswordAuth(auth)},
				{Handle: h, Name: public.NVName, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(auth))},
				{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(owner)},
				{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)},
			} {
				rsp, err := tpm2.NVRead{AuthHandle: who, NVIndex: index, Size: uint16(slotSize)}.Execute(b.tpm)
				if err == nil {
					answers = append(answers, rsp.Data.Buffer)
				}
			}
		}
		return append(answers, b.recorded)
	}
}
