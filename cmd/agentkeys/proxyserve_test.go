package main

import (
	"path/filepath"
	"testing"
)

// One proxy a profile: the place is taken until the process lets go of it.
func TestClaim(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "default.sock")
	first, err := claim(socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(socket); err == nil {
		t.Fatal("two proxies have one place")
	}
	other, err := claim(socket + "2")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := claim(socket)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
