package devstack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is one process of the stack, kept alive: started, watched, started again
// with growing pauses. It stops when its standard input closes, so it never
// outlives the supervisor, however that ends.
type child struct {
	name string
	bin  string
	args []string
	log  string
	env  []string

	ready chan string // the JSON of each ready line

	mu  sync.Mutex
	pid int // 0 while it does not run
}

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	stopWithin   = 8 * time.Second
)

func newChild(name, bin, logDir string, args ...string) *child {
	return &child{name: name, bin: bin, args: args, log: filepath.Join(logDir, name+".log"), ready: make(chan string, 1)}
}

// run keeps the process alive until ctx ends.
func (c *child) run(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > 10*time.Second {
			pause = firstPause
		}
		c.note(fmt.Sprintf("ended (%v), starting again in %v", err, pause))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
	return ctx.Err()
}

// once runs the process to its end.
func (c *child) once(ctx context.Context) error {
	logFile, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(c.bin, c.args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = logFile, logFile, []*os.File{w}
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}, c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.Close()
		return err
	}
	if err := cmd.Start(); err != nil {
		w.Close()
		return err
	}
	w.Close()
	c.started(cmd.Process.Pid)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { c.awaitReady(r) })
	wg.Go(func() { stopChild(ctx, cmd, stdin, done) })
	err = cmd.Wait()
	close(done)
	r.Close()
	wg.Wait()
	c.started(0)
	return err
}

func (c *child) started(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pid = pid
}

func (c *child) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

func (c *child) awaitReady(r io.Reader) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return
	}
	if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "ready "); ok {
		select {
		case <-c.ready: // nobody took the last one
		default:
		}
		c.ready <- rest
	}
}

// stopChild closes the process's input when ctx ends, and kills it if it does not
// stop.
func stopChild(ctx context.Context, cmd *exec.Cmd, stdin io.Closer, done <-chan struct{}) {
	defer stdin.Close()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	stdin.Close()
	select {
	case <-done:
	case <-time.After(stopWithin):
		_ = cmd.Process.Kill()
	}
}

// wait returns what the process said when it became ready.
func (c *child) wait(ctx context.Context, into any) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s did not become ready: %w; its log: %s\n%s", c.name, ctx.Err(), c.log, tail(c.log))
	case line := <-c.ready:
		if into == nil {
			return nil
		}
		return json.Unmarshal([]byte(line), into)
	}
}

func (c *child) note(s string) {
	f, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "supervisor: %s %s\n", c.name, s)
}

// tail is the end of a log, for an error message.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return string(b)
}

// findBinary looks in bin, beside this program, and in PATH.
func findBinary(bin, name string) (string, error) {
	var dirs []string
	if bin != "" {
		dirs = append(dirs, bin)
	}
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	for _, d := range dirs {
		p := filepath.Join(d, name)
		if st, err := os.Stat(p); err == nil && !st.IsDir() {
			return filepath.Abs(p)
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return "", errors.New(name + " is not there; build it: make build")
	}
	return p, nil
}
