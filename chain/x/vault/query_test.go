package vault_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

func TestListingsAreCompletePageByPage(t *testing.T) {
	c := chaintest.New(t)
	alice := rulestest.Wallet("alice")
	var batch [][]byte
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin"} {
		batch = append(batch, enrol(t, c, name))
	}
	for i := range 7 {
		agent := rulestest.Wallet(fmt.Sprint("agent", i)).Wallet()
		batch = append(batch, sign(t, c, alice, statement.RevokeAgent{User: alice.Wallet(), Agent: agent}))
	}
	c.Submit(batch...)
	user := alice.Wallet()
	var want [][]byte
	for _, r := range c.Genesis().Rows {
		if owner, ok := rules.Owner(r.Key); ok && owner == user {
			want = append(want, r.Key)
		}
	}
	if len(want) != 1+1+7 {
		t.Fatalf("alice has %d rows, want User, herself as agent, and 7 agents", len(want))
	}
	for limit := range uint32(len(want) + 2) {
		var got [][]byte
		req := &vault.QueryUserRowsRequest{User: user[:], Limit: limit}
		for more := true; more; {
			var res vault.QueryUserRowsResponse
			if err := c.Query("UserRows", req, &res); err != nil {
				t.Fatal(err)
			}
			for _, r := range res.Rows {
				got = append(got, r.Key)
			}
			if more = res.More; more {
				req.After = res.Rows[len(res.Rows)-1].Key
			}
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("limit %d: %d rows, want %d", limit, len(got), len(want))
		}
	}
}

func TestUsersAreListedInOrder(t *testing.T) {
	c := chaintest.New(t)
	names := []string{"alice", "bob", "carol"}
	var batch, want [][]byte
	for _, name := range names {
		w := rulestest.Wallet(name).Wallet()
		batch, want = append(batch, enrol(t, c, name)), append(want, w[:])
	}
	slices.SortFunc(want, bytes.Compare)
	c.Submit(batch...)
	var got [][]byte
	req := &vault.QueryUsersRequest{Limit: 2}
	for more := true; more; {
		var res vault.QueryUsersResponse
		if err := c.Query("Users", req, &res); err != nil {
			t.Fatal(err)
		}
		got, more = append(got, res.Users...), res.More
		req.After = got[len(got)-1]
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("users %x, want %x", got, want)
	}
}

func TestRowAndParams(t *testing.T) {
	c := chaintest.New(t)
	c.Block()
	var params vault.QueryParamsResponse
	if err := c.Query("Params", &vault.QueryParamsRequest{}, &params); err != nil {
		t.Fatal(err)
	}
	row, err := rules.ParseParams(params.Row)
	if err != nil || row.Current != statement.DefaultParams() {
		t.Fatalf("params %+v, %v", row, err)
	}
	if !bytes.Equal(params.VaultId, c.Vault[:]) || params.Authority != c.Authority.Address().String() {
		t.Fatalf("vault id %x, authority %s", params.VaultId, params.Authority)
	}
	var res vault.QueryRowResponse
	if err := c.Query("Row", &vault.QueryRowRequest{Key: rules.VaultKey()}, &res); err != nil || !bytes.Equal(res.Value, c.Vault[:]) {
		t.Fatalf("row %x, %v", res.Value, err)
	}
	if err := c.Query("Row", &vault.QueryRowRequest{Key: []byte("absent")}, &res); err != nil || len(res.Value) != 0 {
		t.Fatalf("absent row %x, %v", res.Value, err)
	}
}

func TestQueriesRefuseWrongSizes(t *testing.T) {
	c := chaintest.New(t)
	c.Block()
	if err := c.Query("Row", &vault.QueryRowRequest{}, &vault.QueryRowResponse{}); err == nil {
		t.Error("an empty key was answered")
	}
	if err := c.Query("UserRows", &vault.QueryUserRowsRequest{User: make([]byte, 19)}, &vault.QueryUserRowsResponse{}); err == nil {
		t.Error("a user of 19 bytes was answered")
	}
	if err := c.Query("Users", &vault.QueryUsersRequest{After: make([]byte, 21)}, &vault.QueryUsersResponse{}); err == nil {
		t.Error("a page after 21 bytes was answered")
	}
}
