package vault_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/statement"
)

// The numbers of docs/spec/chain.md are those of the code.
func TestTheSpecHasTheCodesNumbers(t *testing.T) {
	b, err := os.ReadFile("../../../docs/spec/chain.md")
	if err != nil {
		t.Fatal(err)
	}
	p := statement.DefaultParams()
	for _, want := range []string{
		fmt.Sprintf("| a statement or act | %d |", vault.GasStatement),
		fmt.Sprintf("| each of its bytes | %d |", vault.GasByte),
		fmt.Sprintf("| a wallet's signature | %d |", vault.GasSecp256k1),
		fmt.Sprintf("| a process's signature | %d |", vault.GasEd25519),
		fmt.Sprintf("1 to %d", vault.MaxStatements),
		fmt.Sprintf("at most %d gas and %d bytes", app.MaxGas, app.MaxBytes),
		fmt.Sprintf("| Cadence | %d s |", p.Cadence),
		fmt.Sprintf("| DrainWindow | %d s |", p.DrainWindow),
		fmt.Sprintf("| MaxHeadAge | %d s |", p.MaxHeadAge),
		fmt.Sprintf("| MaxValidity | %d s |", p.MaxValidity),
		fmt.Sprintf("| LostAfter | %d s |", p.LostAfter),
		fmt.Sprintf("| MeasurementWait | %d s |", p.MeasurementWait),
	} {
		if !strings.Contains(strings.Join(strings.Fields(string(b)), " "), want) {
			t.Errorf("docs/spec/chain.md lacks %q", want)
		}
	}
}
