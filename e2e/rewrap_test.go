package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rewrapped: every data key goes under a new shielding key, over a kill of the custodian;
// all is read meanwhile and after.
func rewrapped(t *testing.T, v *vault) {
	anna, bruno := v.enrol(t), v.enrol(t)
	out, err := v.rewrap(t)
	if err != nil || !strings.Contains(out, "shielding key 2: ") {
		t.Fatalf("%v: %s", err, out)
	}
	v.kill(t, "agentkeys-custodian")
	deadline := time.Now().Add(time.Minute)
	for {
		out, err = v.rewrap(t, "--status", "--watch")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: %s", err, out)
		}
		time.Sleep(200 * time.Millisecond)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if f := strings.Fields(lines[len(lines)-1]); len(f) < 6 || f[2] != "2:" || f[3] != f[5] {
		t.Errorf("at the end: %s", out)
	}
	anna.mustRead(t, "first")
	bruno.rotated(t, bruno.ask(t))
	for _, p := range []*person{anna, bruno} {
		p.mustRead(t, "first")
	}
}

func (v *vault) rewrap(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(v.bin, "agentkeys-operator"), append([]string{"rewrap", "--custodian", v.cfg.CustodianForOperator(),
		"--relay", v.cfg.Relay(), "--token-file", v.path("dev", "custodian", "operator.token")}, args...)...)
	b, err := cmd.CombinedOutput()
	return string(b), err
}
