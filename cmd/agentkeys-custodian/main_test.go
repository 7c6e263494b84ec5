package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys/custodian"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/statement"
)

// complete is a configuration that passes every check.
func complete() []string {
	return []string{"--development", "--home", "h", "--relay", "http://r", "--node", "http://n", "--chain-id", "c", "--bucket", "b",
		"--issuer", "http://i", "--anchor", strings.Repeat("3", 32) + "=file:a", "--vault", strings.Repeat("1", 64), "--trust-hash", strings.Repeat("2", 64),
		"--trust-height", "1"}
}

func TestCheck(t *testing.T) {
	c, err := parse(complete())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*config){
		"--development": func(c *config) { c.development = false },
		"--home":        func(c *config) { c.home = "" },
		"--relay":       func(c *config) { c.relay = "" },
		"--node":        func(c *config) { c.node = "" },
		"--chain-id":    func(c *config) { c.chainID = "" },
		"--bucket":      func(c *config) { c.bucket = "" },
		"--issuer":      func(c *config) { c.issuer = "" },
		"--idle":        func(c *config) { c.idle = "never" },
		"--anchor":      func(c *config) { c.anchors = nil },
		"--vault":       func(c *config) { c.vault = "x" },
		"--trust-hash":  func(c *config) { c.trustHash = "x" },
	} {
		broken := c
		change(&broken)
		if _, _, err := broken.check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFlagsOverEnvironment(t *testing.T) {
	t.Setenv("AGENTKEYS_CUSTODIAN_CHAIN_ID", "from-env")
	t.Setenv("AGENTKEYS_CUSTODIAN_REGION", "eu-env-1")
	c, err := parse([]string{"--chain-id", "from-flag"})
	if err != nil {
		t.Fatal(err)
	}
	if c.chainID != "from-flag" || c.region != "eu-env-1" {
		t.Errorf("chain id %q, region %q", c.chainID, c.region)
	}
	t.Setenv("AGENTKEYS_CUSTODIAN_TRUST_HEIGHT", "x")
	if _, err := parse(nil); err == nil || !strings.Contains(err.Error(), "AGENTKEYS_CUSTODIAN_TRUST_HEIGHT") {
		t.Errorf("a bad variable: %v", err)
	}
	if _, err := parse([]string{"stray"}); err == nil {
		t.Error("a stray argument was taken")
	}
}

func TestOperatorListensOnLoopbackOnly(t *testing.T) {
	if ln, err := listen("operator-listen", "0.0.0.0:0", true); err == nil {
		ln.Close()
		t.Error("plain HTTP on every address")
	}
	ln, err := listen("operator-listen", "127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := listen("listen", ln.Addr().String(), false); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port in use: %v", err)
	}
}

func TestAnchorFlag(t *testing.T) {
	one, two := strings.Repeat("1", 32), strings.Repeat("2", 32)
	var f anchorFlags
	if err := f.Set(one + "=file:/a,b"); err != nil || f[0].where != "/a,b" {
		t.Errorf("a directory with a comma: %v, %v", f, err)
	}
	f = nil
	if err := f.Set(one + "=file:/a/b:c"); err != nil || f.Set(two+"=file:/d") != nil || len(f) != 2 || f[0].where != "/a/b:c" {
		t.Errorf("%v, %v", f, err)
	}
	var again anchorFlags
	if err := again.Set(f.String()); err != nil || again.String() != f.String() {
		t.Errorf("%s: %v", again.String(), err)
	}
	place := t.TempDir()
	if err := os.Symlink(place, place+".link"); err != nil {
		t.Fatal(err)
	}
	var linked anchorFlags
	if linked.Set(one+"=file:"+place) != nil || linked.Set(two+"=file:"+place+".link") == nil {
		t.Error("a link to another anchor's directory was taken")
	}
	for name, text := range map[string]string{
		"same id": one + "=file:/e", "same directory": strings.Repeat("3", 32) + "=file:/d", "same directory, other words": strings.Repeat("3", 32) + "=file:/x/../d/",
		"an id that is none": strings.Repeat("3", 32) + "=file:/e,zz=file:/f", "a tpm with an id that is none": strings.Repeat("3", 32) + "=file:/e,zz=tpm:/f", "begins with none": "zz," + strings.Repeat("3", 32) + "=file:/e", "short id": "11=file:/e", "no directory": strings.Repeat("3", 32) + "=file:",
		"other kind": strings.Repeat("3", 32) + "=cloud:/x", "empty": "", "no device": strings.Repeat("3", 32) + "=tpm:",
		"an option of another kind": strings.Repeat("3", 32) + "=tpm:/dev/tpm0?region=x", "twice": strings.Repeat("3", 32) + "=tpm:/dev/tpm0?index=1&index=2",
		"no index": strings.Repeat("3", 32) + "=tpm:/dev/tpm0?index=x", "index of another range": strings.Repeat("3", 32) + "=tpm:/dev/tpm0?index=0x81000001",
		"no time": strings.Repeat("3", 32) + "=tpm:/dev/tpm0?interval=-1m", "no library": strings.Repeat("3", 32) + "=pkcs11:/e?token=t&pin-file=/p",
		"no pin": strings.Repeat("3", 32) + "=pkcs11:/e?token=t&library=l&pin-file=", "file with the directory of a kms": strings.Repeat("3", 32) + "=kms:/d",
	} {
		if err := f.Set(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAnchorKinds(t *testing.T) {
	one, two, three := strings.Repeat("1", 32), strings.Repeat("2", 32), strings.Repeat("3", 32)
	var f anchorFlags
	for _, text := range []string{
		one + "=tpm:/dev/tpmrm0?index=0x01800a90&interval=20m," + two + "=pkcs11:/var/lib/a?library=/usr/lib/x.so&token=a+b&pin-file=/run/pin," + three + "=kms:/var/lib/k?region=eu-north-1",
		strings.Repeat("4", 32) + "=tpm:/dev/tpmrm0?index=0x01800a92",
	} {
		if err := f.Set(text); err != nil {
			t.Fatal(err)
		}
	}
	if f[0].kind != statement.AnchorTPM || f[0].where != "/dev/tpmrm0" || f[1].options["token"] != "a b" || f[2].options["region"] != "eu-north-1" {
		t.Errorf("%+v", f)
	}
	if cfg, err := f[0].tpm(); err != nil || cfg.Index != 0x01800a90 || cfg.Interval != 20*time.Minute {
		t.Errorf("%+v, %v", cfg, err)
	}
	var again anchorFlags
	if err := again.Set(f.String()); err != nil || again.String() != f.String() {
		t.Errorf("%s: %v", again.String(), err)
	}
	if err := f.Set(strings.Repeat("5", 32) + "=tpm:/dev/tpmrm0?index=0x01800a91"); err == nil {
		t.Error("two anchors share an index of one TPM")
	}
	for _, part := range []string{"tpm anchor:", "pkcs11 anchor:", "kms anchor:"} {
		if n := strings.Count(f.limits(), part); n != 1 {
			t.Errorf("limits name %q %d times", part, n)
		}
	}
}

// A device that is away is told as that, at the call and not before, and one that comes is used.
func TestDevicesMayBeAway(t *testing.T) {
	home := t.TempDir()
	st, err := custodian.OpenState(home, true)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var f anchorFlags
	socket := filepath.Join(home, "no-tpm")
	if err := f.Set(strings.Repeat("1", 32) + "=tpm:" + socket + "," + strings.Repeat("2", 32) + "=pkcs11:" + home + "/p?library=/nowhere.so&token=t&pin-file=/nowhere"); err != nil {
		t.Fatal(err)
	}
	kept, err := devices{state: st}.open(f)
	if err != nil || len(kept) != 2 {
		t.Fatalf("%v, %v", kept, err)
	}
	if _, err := kept[0].Anchor.Roots(t.Context()); err == nil || !strings.Contains(err.Error(), "tpm anchor: ") || !strings.Contains(err.Error(), socket) {
		t.Errorf("a TPM that is away: %v", err)
	}
	if err := kept[1].Anchor.Stage(t.Context(), erasure.Root{1}); err == nil || !strings.Contains(err.Error(), "pkcs11 anchor: ") {
		t.Errorf("a token that is away: %v", err)
	}
	if _, err := os.Stat(filepath.Join(home, "anchor-"+strings.Repeat("1", 32))); err == nil {
		t.Error("an auth value was kept for a TPM that never answered")
	}
}
