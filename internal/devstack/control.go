package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func randRead(b []byte) (int, error) { return rand.Read(b) }

// Running gives the supervisor's process id, 0 when none has the directory.
func Running(dir string) (int, error) {
	f, err := os.OpenFile(filepath.Join(dir, "supervisor.pid"), os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return 0, nil // the lock was free: nobody runs, whatever the file says
	}
	b := make([]byte, 32)
	n, _ := f.Read(b)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid <= 1 {
		return 0, errors.New("dev: the directory is locked by a process without a name; wait a moment")
	}
	return pid, nil
}

// Stop ends the supervisor of a directory and waits until the directory is free.
// It reports whether one ran.
func Stop(ctx context.Context, dir string) (bool, error) {
	pid, err := Running(dir)
	if err != nil || pid == 0 {
		return false, err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return true, fmt.Errorf("dev: process %d: %w", pid, err)
	}
	for {
		if now, err := Running(dir); err != nil || now != pid {
			return true, err
		}
		select {
		case <-ctx.Done():
			return true, fmt.Errorf("dev: process %d does not stop; end it by hand: kill -9 %d", pid, pid)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Part is one process of a stack and whether its port answers.
type Part struct {
	Name string `json:"name"`
	Addr string `json:"address"`
	Up   bool   `json:"up"`
	Log  string `json:"log"`
}

// Parts asks every port of a stack.
func Parts(dir string, c Config) []Part {
	parts := []Part{
		{Name: "agentkeysd", Addr: addr(c.Ports.RPC)}, {Name: "agentkeys-devcloud", Addr: addr(c.Ports.S3)},
		{Name: "agentkeys-custodian", Addr: addr(c.Ports.API)}, {Name: "agentkeys-operator", Addr: addr(c.Ports.Relay)},
	}
	for i := range parts {
		parts[i].Log = filepath.Join(dir, "log", parts[i].Name+".log")
		conn, err := net.DialTimeout("tcp", parts[i].Addr, time.Second)
		if err == nil {
			parts[i].Up = true
			conn.Close()
		}
	}
	return parts
}
