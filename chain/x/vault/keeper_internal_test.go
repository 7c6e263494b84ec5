package vault

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cosmos/cosmos-sdk/runtime"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	"github.com/cosmos/cosmos-sdk/testutil"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

func TestMoreUsersThanARowNamesBecomeAll(t *testing.T) {
	for _, c := range []struct {
		name    string
		users   int
		scope   uint8
		want    uint8
		touched int
	}{
		{"as many as fit", rules.MaxTouched, rules.TouchedUsers, rules.TouchedUsers, rules.MaxTouched},
		{"one too many", rules.MaxTouched + 1, rules.TouchedUsers, rules.TouchedAll, 0},
		{"system and users", 2, rules.TouchedSystem, rules.TouchedSystem, 2},
		{"all", 2, rules.TouchedAll, rules.TouchedAll, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, transient := storetypes.NewKVStoreKey(StoreKey), storetypes.NewTransientStoreKey(TransientKey)
			ctx := testutil.DefaultContext(rows, transient).WithBlockHeight(7)
			k := NewKeeper(runtime.NewKVStoreService(rows), runtime.NewTransientStoreService(transient))
			for i := range c.users {
				var u agentkeys.Wallet
				binary.BigEndian.PutUint32(u[:], uint32(c.users-i))
				r := rules.Result{Users: []agentkeys.Wallet{u}}
				if i == 0 {
					r.Scope = c.scope
				}
				if err := k.gather.note(ctx, uint32(i), r); err != nil {
					t.Fatal(err)
				}
			}
			if err := k.EndBlock(ctx); err != nil {
				t.Fatal(err)
			}
			b, err := k.rows.OpenKVStore(ctx).Get(rules.TouchedKey(7))
			if err != nil {
				t.Fatal(err)
			}
			row, err := rules.ParseTouched(b)
			if err != nil || row.Scope != c.want || len(row.Users) != c.touched {
				t.Fatalf("scope %d with %d users (%v), want %d with %d", row.Scope, len(row.Users), err, c.want, c.touched)
			}
		})
	}
}

func TestGasGrowsWithBytesAndSignatures(t *testing.T) {
	enrol := append([]byte{byte(statement.KindEnrol)}, make([]byte, 99)...)
	rotate := append([]byte{byte(statement.KindRotateBlobs)}, make([]byte, 99)...)
	beat := append([]byte{byte(statement.KindHeartbeat)}, make([]byte, 99)...)
	for _, c := range []struct {
		name string
		wire []byte
		want uint64
	}{
		{"user", enrol, GasStatement + 100*GasByte + GasSecp256k1},
		{"process", beat, GasStatement + 100*GasByte + GasEd25519},
		{"process with receipt", rotate, GasStatement + 100*GasByte + 2*GasEd25519},
		{"nothing", nil, GasStatement},
	} {
		if got := Gas(c.wire); got != c.want {
			t.Errorf("%s: %d gas, want %d", c.name, got, c.want)
		}
	}
}

func TestSkippedRowsAreBigEndian(t *testing.T) {
	if got := packIndices([]uint16{7, 511}); !bytes.Equal(got, []byte{0, 7, 1, 255}) {
		t.Fatalf("packed %x", got)
	}
}
