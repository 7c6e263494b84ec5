package tpmanchor

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// swtpm is a TPM in a process. Its state is what the host of a virtual TPM has.
type swtpm struct {
	t     *testing.T
	state string
	sock  string
	cmd   *exec.Cmd
}

// startTPM skips where there is no swtpm, unless AGENTKEYS_NEED names it.
func startTPM(t *testing.T) *swtpm {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		if slices.Contains(strings.Fields(os.Getenv("AGENTKEYS_NEED")), "swtpm") {
			t.Fatal("AGENTKEYS_NEED names swtpm, and there is none in PATH")
		}
		t.Skip("there is no swtpm in PATH; on Debian: apt-get install swtpm")
	}
	dir, err := os.MkdirTemp("", "tpm") // short: the path of a socket has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &swtpm{t: t, state: filepath.Join(dir, "state"), sock: filepath.Join(dir, "sock")}
	if err := os.Mkdir(s.state, 0o700); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *swtpm) start() {
	s.t.Helper()
	s.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+s.state, "--server", "type=unixio,path="+s.sock,
		"--flags", "not-need-init,startup-clear")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", s.sock)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("swtpm does not start: %v", err)
		}
	}
}

// stop is a power loss.
func (s *swtpm) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
	os.Remove(s.sock)
}

func (s *swtpm) open() *bus {
	s.t.Helper()
	tpm, err := linuxudstpm.Open(s.sock)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { tpm.Close() })
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
