package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// operatorScreen: doctor says what is well, and what is red when the node hangs.
func operatorScreen(t *testing.T, v *vault) {
	doctor := func() (string, error) {
		b, err := exec.CommandContext(t.Context(), filepath.Join(v.bin, "agentkeys-operator"), "doctor", "--relay", v.cfg.Relay(), "--node", v.cfg.RPC(),
			"--chain-id", v.cfg.ChainID, "--custodian", v.cfg.CustodianForOperator(), "--file", v.path("dev", "custodian", "operator.token")).CombinedOutput()
		return string(b), err
	}
	out, err := doctor()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, want := range []string{"ok    operator", "ok    custodian", "ok    node       chain " + v.cfg.ChainID, "rotation", "2 live", v.cfg.Anchors[1] + "  file    live"} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
	resume := v.pause(t, "agentkeysd")
	out, err = doctor()
	resume()
	if err == nil || !strings.Contains(out, "FAIL  node") || !strings.Contains(out, "checks fail") {
		t.Errorf("with a node that hangs: %v: %s", err, out)
	}
}
