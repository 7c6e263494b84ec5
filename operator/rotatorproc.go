package operator

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/rotation"
)

// rotatorProcess is one start of the rotator: a child with one descriptor. It is
// dead after any error; the next job starts another.
type rotatorProcess struct {
	cmd   *exec.Cmd
	conn  net.Conn
	hello api.RotatorHello
	ended chan struct{} // closed when the process is gone
}

// startRotator runs the binary with one end of a socket pair as descriptor 3 and
// reads what it says of itself. open leaves its sandbox off.
func startRotator(bin string, vault agentkeys.VaultID, stderr io.Writer, open bool) (*rotatorProcess, error) {
	// Not every system makes descriptors that close on exec in one step: no child may
	// be started in between.
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("rotator: %w", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "courier"), os.NewFile(uintptr(fds[1]), "rotator")
	defer near.Close()
	defer far.Close()
	conn, err := net.FileConn(near)
	if err != nil {
		return nil, fmt.Errorf("rotator: %w", err)
	}
	args := []string{"--vault", vault.String()}
	if open {
		args = append(args, "--no-sandbox")
	}
	p := &rotatorProcess{cmd: exec.Command(bin, args...), conn: conn, ended: make(chan struct{})}
	// Through a pipe even when ours is a file: the rotator may write into none. A crash
	// prints no frames, they hold words of the stack.
	p.cmd.ExtraFiles, p.cmd.Stderr, p.cmd.Env = []*os.File{far}, struct{ io.Writer }{stderr}, []string{"GOTRACEBACK=none"}
	if err := p.cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("rotator: %w", err)
	}
	far.Close() // the child has the only one now, so its death is seen
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	if err := p.greet(); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *rotatorProcess) greet() error {
	_ = p.conn.SetDeadline(time.Now().Add(10 * time.Second))
	defer func() { _ = p.conn.SetDeadline(time.Time{}) }()
	b, err := p.ask(rotation.Hello, nil, rotation.Hello)
	if err != nil {
		return err
	}
	r := agentkeys.NewReader(b)
	p.hello.Key = r.Take(32)
	keys, err := channel.ParsePublicKeys(r.Take(len(channel.PublicKeys{}.Append(nil))))
	p.hello.Evidence = r.Take(r.Len())
	if err != nil || r.Close() != nil || len(p.hello.Evidence) < 5 {
		return fmt.Errorf("rotator: its greeting does not parse; is it of this build?")
	}
	p.hello.Noise, p.hello.MLKEM = keys.Noise[:], keys.KEM[:]
	p.hello.Platform = p.hello.Evidence[4]
	return nil
}

// ask sends one message and reads one answer of the wanted type.
func (p *rotatorProcess) ask(typ uint8, body []byte, want uint8) ([]byte, error) {
	if err := rotation.WriteMessage(p.conn, typ, body); err != nil {
		return nil, fmt.Errorf("rotator: %w", err)
	}
	return p.read(want)
}

func (p *rotatorProcess) read(want uint8) ([]byte, error) {
	typ, b, err := rotation.ReadMessage(p.conn)
	if err != nil {
		return nil, fmt.Errorf("rotator: %w", err)
	}
	if typ != want {
		return nil, fmt.Errorf("rotator: answered with type %d where %d was due", typ, want)
	}
	return b, nil
}

func (p *rotatorProcess) key() string { return hex.EncodeToString(p.hello.Key) }

// alive reports whether the child is there to take another job.
func (p *rotatorProcess) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// stop ends the child and waits until it is gone. It may be repeated.
func (p *rotatorProcess) stop() {
	p.conn.Close()
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// rotatorPool keeps one rotator that a custodian has vouched for.
type rotatorPool struct {
	bin    string
	vault  agentkeys.VaultID
	stderr io.Writer
	open   bool // without its sandbox
	vouch  func(context.Context, api.RotatorHello) error

	mu sync.Mutex
	p  *rotatorProcess
}

// get gives the rotator, starting and registering one where there is none.
func (r *rotatorPool) get(ctx context.Context) (*rotatorProcess, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.p.alive() {
		return r.p, nil
	}
	r.end()
	p, err := startRotator(r.bin, r.vault, r.stderr, r.open)
	if err != nil {
		return nil, err
	}
	if err := r.vouch(ctx, p.hello); err != nil {
		p.stop()
		return nil, err
	}
	r.p = p
	return p, nil
}

// drop ends a rotator: after any error it is of no use. Somebody else may have another
// one already.
func (r *rotatorPool) drop(p *rotatorProcess) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.p == p {
		r.end()
	}
}

func (r *rotatorPool) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
}

// end is called with mu held.
func (r *rotatorPool) end() {
	if r.p != nil {
		r.p.stop()
		r.p = nil
	}
}
