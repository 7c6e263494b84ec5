package app

import (
	abci "github.com/cometbft/cometbft/abci/types"
	comettypes "github.com/cometbft/cometbft/types"
)

// InitRequest is how CometBFT hands doc to the application.
func InitRequest(doc *comettypes.GenesisDoc) *abci.RequestInitChain {
	params := doc.ConsensusParams.ToProto()
	return &abci.RequestInitChain{
		Time:            doc.GenesisTime,
		ChainId:         doc.ChainID,
		ConsensusParams: &params,
		AppStateBytes:   doc.AppState,
		InitialHeight:   doc.InitialHeight,
	}
}
