package record

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/bits"
	"testing"

	"example.org/agentkeys"
)

// The eight leaves and their roots are the known answers of the Certificate
// Transparency project for RFC 6962.
func TestTreeHashKnownAnswers(t *testing.T) {
	leaves := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var hashes []agentkeys.Hash
	for n, want := range roots {
		if got := treeHash(hashes); got.String() != want {
			t.Errorf("%d leaves: %s, want %s", n, got, want)
		}
		if n < len(leaves) {
			b, err := hex.DecodeString(leaves[n])
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, sha256.Sum256(append([]byte{0}, b...)))
		}
	}
}

// The tree by levels gives the same root as the recursion of the RFC.
func TestTreeHashAgreesWithLevels(t *testing.T) {
	var hashes []agentkeys.Hash
	for n := range 130 {
		if got, want := treeHash(hashes), byLevels(hashes); got != want {
			t.Fatalf("%d leaves (%d bits): %s, want %s", n, bits.Len(uint(n)), got, want)
		}
		hashes = append(hashes, sha256.Sum256(fmt.Append(nil, n)))
	}
}

// byLevels pairs neighbours and carries an odd last one up, which is the same tree.
func byLevels(level []agentkeys.Hash) agentkeys.Hash {
	if len(level) == 0 {
		return sha256.Sum256(nil)
	}
	for len(level) > 1 {
		var up []agentkeys.Hash
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				up = append(up, level[i])
				continue
			}
			up = append(up, sha256.Sum256(append(append([]byte{1}, level[i][:]...), level[i+1][:]...)))
		}
		level = up
	}
	return level[0]
}

func TestRootHashesRecordsAsLeaves(t *testing.T) {
	if got := Root(nil); got.String() != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Fatal(got)
	}
	a, b := Record{Sequence: 1, Kind: KindBoot}, Record{Sequence: 2, Kind: KindRead, Mode: 1}
	la, lb := sha256.Sum256(append([]byte{0}, a.Append(nil)...)), sha256.Sum256(append([]byte{0}, b.Append(nil)...))
	if got := Root([]Record{a}); got != la {
		t.Fatal(got)
	}
	if got, want := Root([]Record{a, b}), sha256.Sum256(append(append([]byte{1}, la[:]...), lb[:]...)); got != want {
		t.Fatal(got)
	}
}
