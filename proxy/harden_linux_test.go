package proxy

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test program be a process that holds a secret, hardened or not.
func TestMain(m *testing.M) {
	switch os.Getenv("AGENTKEYS_TEST_HOLDS") {
	case "":
		os.Exit(m.Run())
	case "hardened":
		if err := Harden(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A program of the same user id reads neither memory nor environment of a hardened
// process, and cannot trace it; of another process it can. Under root the two run as
// another user, because root reads everything.
func TestSameUserCannotReadAHardenedProcess(t *testing.T) {
	for _, how := range []string{"plain", "hardened"} {
		t.Run(how, func(t *testing.T) {
			holder := exec.Command(selfCopy(t))
			holder.Env, holder.SysProcAttr = []string{"AGENTKEYS_TEST_HOLDS=" + how}, sameUser()
			stdin, err := holder.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := holder.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := holder.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stdin.Close(); _ = holder.Wait() }()
			if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
				t.Fatalf("%q %v", line, err)
			}
			pid := holder.Process.Pid
			reader := exec.Command("sh", "-c", fmt.Sprintf("cat /proc/%d/environ; cat /proc/%d/maps; exec 3</proc/%d/mem && echo mem", pid, pid, pid))
			reader.SysProcAttr = sameUser()
			out, _ := reader.Output()
			got := []bool{strings.Contains(string(out), "AGENTKEYS_TEST_HOLDS"), strings.Contains(string(out), "[stack]"), strings.Contains(string(out), "mem")}
			for i, what := range []string{"environment", "map of its memory", "memory"} {
				if got[i] != (how == "plain") {
					t.Errorf("%s process: a program of the same user reads its %s: %v", how, what, got[i])
				}
			}
		})
	}
}

// sameUser is the user id of both: this one, or under root another.
func sameUser() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// selfCopy is this program where another user can start it.
func selfCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "agentkeys-harden-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/holder", b, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + "/holder"
}
