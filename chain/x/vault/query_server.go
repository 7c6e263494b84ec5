package vault

import (
	"bytes"
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"cosmossdk.io/core/store"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
)

// MaxPage is the most rows of one answer.
const MaxPage = 1000

type queryServer struct{ k Keeper }

// Row reads one row.
func (q queryServer) Row(c context.Context, r *QueryRowRequest) (*QueryRowResponse, error) {
	if len(r.Key) == 0 {
		return nil, status.Error(codes.InvalidArgument, "row: the key is empty")
	}
	value, err := q.k.rows.OpenKVStore(c).Get(r.Key)
	if err != nil {
		return nil, err
	}
	return &QueryRowResponse{Value: value}, nil
}

// UserRows lists the rows of one user, table by table.
func (q queryServer) UserRows(c context.Context, r *QueryUserRowsRequest) (*QueryUserRowsResponse, error) {
	if len(r.User) != len(agentkeys.Wallet{}) {
		return nil, status.Error(codes.InvalidArgument, "user rows: the user is not 20 bytes")
	}
	prefixes := rules.UserPrefixes(agentkeys.Wallet(r.User))
	slices.SortFunc(prefixes, bytes.Compare)
	rows, more, err := page(q.k.rows.OpenKVStore(c), prefixes, r.After, r.Limit)
	if err != nil {
		return nil, err
	}
	return &QueryUserRowsResponse{Rows: rows, More: more}, nil
}

// Users lists enrolled users.
func (q queryServer) Users(c context.Context, r *QueryUsersRequest) (*QueryUsersResponse, error) {
	var after []byte
	if len(r.After) > 0 {
		if len(r.After) != len(agentkeys.Wallet{}) {
			return nil, status.Error(codes.InvalidArgument, "users: after is not 20 bytes")
		}
		after = append(rules.UsersPrefix(), r.After...)
	}
	rows, more, err := page(q.k.rows.OpenKVStore(c), [][]byte{rules.UsersPrefix()}, after, r.Limit)
	if err != nil {
		return nil, err
	}
	out := &QueryUsersResponse{More: more}
	for _, row := range rows {
		out.Users = append(out.Users, row.Key[len(rules.UsersPrefix()):])
	}
	return out, nil
}

// Params gives the vault's id, its authority and its Params row.
func (q queryServer) Params(c context.Context, _ *QueryParamsRequest) (*QueryParamsResponse, error) {
	settings, err := q.k.settings(c)
	if err != nil {
		return nil, err
	}
	kv := q.k.rows.OpenKVStore(c)
	id, err := kv.Get(rules.VaultKey())
	if err != nil {
		return nil, err
	}
	row, err := kv.Get(rules.ParamsKey())
	if err != nil {
		return nil, err
	}
	return &QueryParamsResponse{Row: row, VaultId: id, Authority: settings.Authority}, nil
}

// page lists up to limit rows above the key after, in the tables that begin with
// the given prefixes, which are in ascending order.
func page(kv store.KVStore, prefixes [][]byte, after []byte, limit uint32) (rows []Row, more bool, err error) {
	if limit == 0 || limit > MaxPage {
		limit = MaxPage
	}
	for _, prefix := range prefixes {
		more, err = pageOf(kv, prefix, after, int(limit), &rows)
		if err != nil || more {
			return rows, more, err
		}
	}
	return rows, false, nil
}

// pageOf appends the rows of one table and reports whether some were left out.
func pageOf(kv store.KVStore, prefix, after []byte, limit int, rows *[]Row) (bool, error) {
	from, to := prefix, prefixEnd(prefix)
	if next := append(after[:len(after):len(after)], 0); len(after) > 0 && string(next) > string(from) {
		from = next
	}
	if string(from) >= string(to) {
		return false, nil
	}
	it, err := kv.Iterator(from, to)
	if err != nil {
		return false, err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		if len(*rows) == limit {
			return true, nil
		}
		*rows = append(*rows, Row{Key: it.Key(), Value: it.Value()})
	}
	return false, nil
}

// prefixEnd is the first key above every key that begins with prefix. A prefix
// begins with a table's number, which is below 0xff.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; ; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
}
