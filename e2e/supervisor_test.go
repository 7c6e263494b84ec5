package e2e

import (
	"errors"
	"testing"

	"example.org/agentkeys/internal/devstack"
)

// secondProcess: a directory has one supervisor.
func secondProcess(t *testing.T, v *vault) {
	if _, err := devstack.Open(devstack.Options{Dir: v.path("dev"), Bin: v.bin}); !errors.Is(err, devstack.ErrRunning) {
		t.Errorf("a second supervisor: %v", err)
	}
	v.fails(t, 1, "agentkeys dev status", "dev", "run", "--dir", v.path("dev"), "--bin", v.bin)
}
