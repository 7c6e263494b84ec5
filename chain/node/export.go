package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	cometjson "github.com/cometbft/cometbft/libs/json"
	tmproto "github.com/cometbft/cometbft/proto/tendermint/types"
	comettypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"

	"cosmossdk.io/log/v2"

	"example.org/agentkeys/chain/app"
)

// Export reads the newest state of a stopped node as a genesis. A chain started
// from it goes on at the next height, so heights in rows keep their meaning.
func Export(dir string) (_ []byte, err error) {
	h, err := openHome(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	doc, err := comettypes.GenesisDocFromFile(h.genesisFile())
	if err != nil {
		return nil, fmt.Errorf("export: %s holds no chain: %w", dir, err)
	}
	db, err := dbm.NewDB("application", dbm.GoLevelDBBackend, filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	a, err := app.New(log.NewNopLogger(), db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if a.LastBlockHeight() == 0 {
		return nil, fmt.Errorf("export: %s has no block yet; start it once", dir)
	}
	return exportState(a, doc.ChainID)
}

func exportState(a *app.App, chainID string) ([]byte, error) {
	ctx := a.NewContextLegacy(true, tmproto.Header{Height: a.LastBlockHeight()})
	state, err := a.Modules.ExportGenesis(ctx, a.Codec)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	params := comettypes.ConsensusParamsFromProto(a.GetConsensusParams(ctx))
	doc := &comettypes.GenesisDoc{
		ChainID:         chainID,
		GenesisTime:     time.Now().UTC(),
		InitialHeight:   a.LastBlockHeight() + 1,
		ConsensusParams: &params,
	}
	if doc.AppState, err = json.Marshal(state); err != nil {
		return nil, err
	}
	return cometjson.MarshalIndent(doc, "", "  ")
}
