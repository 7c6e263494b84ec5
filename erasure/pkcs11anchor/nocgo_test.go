//go:build !cgo

package pkcs11anchor

import (
	"strings"
	"testing"
)

func TestWithoutCgoItSaysSo(t *testing.T) {
	_, err := New(Config{Library: "l", Token: "t", PIN: func() (string, error) { return "", nil }, Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("New: %v", err)
	}
}
