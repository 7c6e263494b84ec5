package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/node"
)

// asMain makes the test binary run as agentkeysd.
const asMain = "AGENTKEYS_CHAIN_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asMain+"=1")
	return cmd
}

// run runs a command that ends, in this process.
func run(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	cmd := rootCommand(nil)
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func wantError(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Fatalf("got %v, want an error with %q", err, words)
	}
}

var testVault = agentkeys.VaultID{1, 2, 3}

func initHome(t *testing.T, extra ...string) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "chain")
	relayer, authority := chaintest.NewAccount("relayer", 0), chaintest.NewAccount("authority", 1)
	args := []string{"init", "--home", home, "--chain-id", chaintest.ChainID, "--vault-id", hex.EncodeToString(testVault[:]),
		"--authority", addressText(t, authority), "--fund", addressText(t, relayer) + "=1000000"}
	if _, err := run(t, append(args, extra...)...); err != nil {
		t.Fatal(err)
	}
	return home
}

// process is a running agentkeysd.
type process struct {
	*exec.Cmd
	ready  node.Ready
	stdin  io.WriteCloser
	stderr *bytes.Buffer
}

// start waits for the ready line. The process is killed when the test ends.
func start(t *testing.T, home string, extra ...string) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := &process{Cmd: command(t, append([]string{"start", "--home", home, "--rpc", "127.0.0.1:0"}, extra...)...), stderr: new(bytes.Buffer)}
	p.ExtraFiles, p.Stderr = []*os.File{w}, p.stderr
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(p.kill)
	_ = r.SetReadDeadline(time.Now().Add(30 * time.Second))
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		p.kill()
		t.Fatalf("no ready line: %v: %s", err, p.stderr)
	}
	rest, ok := strings.CutPrefix(line, "ready ")
	if !ok || json.Unmarshal([]byte(rest), &p.ready) != nil {
		t.Fatalf("ready line %q", line)
	}
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

func TestInitRefuses(t *testing.T) {
	good := addressText(t, chaintest.NewAccount("authority", 0))
	vault := strings.Repeat("ab", 32)
	for name, c := range map[string]struct {
		want string
		args []string
	}{
		"no chain id":      {"--chain-id", []string{"--vault-id", vault, "--authority", good}},
		"short vault id":   {"--vault-id", []string{"--chain-id", "c", "--vault-id", "ab", "--authority", good}},
		"zero vault id":    {"--vault-id", []string{"--chain-id", "c", "--vault-id", strings.Repeat("00", 32), "--authority", good}},
		"no authority":     {"--authority", []string{"--chain-id", "c", "--vault-id", vault}},
		"foreign address":  {"agent1", []string{"--chain-id", "c", "--vault-id", vault, "--authority", "cosmos1zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3kcqxq4"}},
		"fund without sum": {"ADDRESS=AMOUNT", []string{"--chain-id", "c", "--vault-id", vault, "--authority", good, "--fund", good}},
		"fund of nothing":  {"amount", []string{"--chain-id", "c", "--vault-id", vault, "--authority", good, "--fund", good + "=0"}},
		"fund twice":       {"twice", []string{"--chain-id", "c", "--vault-id", vault, "--authority", good, "--fund", good + "=1", "--fund", good + "=1"}},
		"unknown param":    {"--params", []string{"--chain-id", "c", "--vault-id", vault, "--authority", good, "--params", `{"Speed":1}`}},
		"impossible param": {"params", []string{"--chain-id", "c", "--vault-id", vault, "--authority", good, "--params", `{"Cadence":1,"DrainWindow":2}`}},
		"genesis and more": {"--genesis", []string{"--vault-id", vault, "--genesis", "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			home := filepath.Join(t.TempDir(), "chain")
			_, err := run(t, append([]string{"init", "--home", home}, c.args...)...)
			wantError(t, err, c.want)
			if _, err := os.Stat(filepath.Join(home, "config", "genesis.json")); err == nil {
				t.Fatal("a genesis was left behind")
			}
		})
	}
	_, err := run(t, "init", "--chain-id", "c")
	wantError(t, err, "--home is missing")
}

func TestHomeIsOneChainOfOneProcess(t *testing.T) {
	home := initHome(t)
	_, err := run(t, "init", "--home", home, "--chain-id", "again", "--vault-id", strings.Repeat("ab", 32),
		"--authority", addressText(t, chaintest.NewAccount("authority", 0)))
	wantError(t, err, "holds a chain already")

	p := start(t, home)
	for _, args := range [][]string{
		{"start", "--home", home, "--rpc", "127.0.0.1:0"},
		{"export", "--home", home},
	} {
		_, err := run(t, args...)
		wantError(t, err, "in use by another agentkeysd")
	}
	_, err = run(t, "start", "--home", initHome(t), "--rpc", strings.TrimPrefix(p.ready.RPC, "http://"))
	wantError(t, err, "address already in use")
	_, err = run(t, "start", "--home", filepath.Join(t.TempDir(), "empty"), "--rpc", "127.0.0.1:0")
	wantError(t, err, "run agentkeysd init first")
	_, err = run(t, "start", "--home", home, "--rpc", "0.0.0.0:0")
	wantError(t, err, "not a loopback address")
}

func TestItStopsWhenAsked(t *testing.T) {
	for name, stop := range map[string]func(*process) error{
		"SIGTERM":      func(p *process) error { return p.Process.Signal(syscall.SIGTERM) },
		"end of stdin": func(p *process) error { return p.stdin.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, initHome(t), "--stop-on-eof")
			if err := stop(p); err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err != nil || p.stderr.Len() > 0 {
				t.Fatalf("ended with %v and said %q", err, p.stderr)
			}
			if _, err := net.Dial("tcp", strings.TrimPrefix(p.ready.RPC, "http://")); err == nil {
				t.Fatal("the RPC still answers")
			}
		})
	}
}

func TestFlagsComeFromTheEnvironment(t *testing.T) {
	home := initHome(t)
	cmd := command(t, "start", "--rpc", "127.0.0.1:0")
	cmd.Env = append(cmd.Env, "AGENTKEYS_CHAIN_HOME="+home, "AGENTKEYS_CHAIN_LOG_LEVEL=loud")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "loud") {
		t.Fatalf("%v: %s", err, out)
	}
}
