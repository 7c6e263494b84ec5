package vault

import (
	"context"
	"encoding/json"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
	gateway "github.com/grpc-ecosystem/grpc-gateway/runtime"
	"google.golang.org/grpc"

	"cosmossdk.io/core/appmodule"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
)

var (
	_ module.AppModuleBasic   = AppModule{}
	_ module.HasABCIGenesis   = AppModule{}
	_ appmodule.HasServices   = AppModule{}
	_ appmodule.HasEndBlocker = AppModule{}
)

// AppModule plugs a Keeper into a Cosmos SDK application.
type AppModule struct{ keeper Keeper }

// NewAppModule makes the module of one vault.
func NewAppModule(k Keeper) AppModule { return AppModule{keeper: k} }

// IsAppModule marks the type for the module manager.
func (AppModule) IsAppModule() {}

// IsOnePerModuleType marks the type for the module manager.
func (AppModule) IsOnePerModuleType() {}

// Name is [ModuleName].
func (AppModule) Name() string { return ModuleName }

// ConsensusVersion grows when stored bytes change their meaning.
func (AppModule) ConsensusVersion() uint64 { return 1 }

// RegisterLegacyAminoCodec has nothing to do: messages carry their amino names.
func (AppModule) RegisterLegacyAminoCodec(*codec.LegacyAmino) {}

// RegisterInterfaces makes the messages known to r.
func (AppModule) RegisterInterfaces(r codectypes.InterfaceRegistry) { RegisterInterfaces(r) }

// RegisterGRPCGatewayRoutes serves the queries as HTTP GET.
func (AppModule) RegisterGRPCGatewayRoutes(c client.Context, mux *gateway.ServeMux) {
	if err := RegisterQueryHandlerClient(context.Background(), mux, NewQueryClient(c)); err != nil {
		panic(err)
	}
}

// RegisterServices serves messages and queries.
func (m AppModule) RegisterServices(r grpc.ServiceRegistrar) error {
	RegisterMsgServer(r, msgServer{m.keeper})
	RegisterQueryServer(r, queryServer{m.keeper})
	return nil
}

// EndBlock writes the Touched row when the block changed something.
func (m AppModule) EndBlock(ctx context.Context) error { return m.keeper.EndBlock(ctx) }

// DefaultGenesis is empty and does not validate: a vault has an id and an
// authority, which only whoever starts it can name.
func (AppModule) DefaultGenesis(c codec.JSONCodec) json.RawMessage {
	return c.MustMarshalJSON(&GenesisState{})
}

// ValidateGenesis checks form and invariants of a genesis.
func (AppModule) ValidateGenesis(c codec.JSONCodec, _ client.TxEncodingConfig, raw json.RawMessage) error {
	g := new(GenesisState)
	if err := c.UnmarshalJSON(raw, g); err != nil {
		return fmt.Errorf("vault genesis: %w", err)
	}
	return g.Validate()
}

// InitGenesis writes the rows. It panics on a genesis that ValidateGenesis
// refuses, as the SDK expects.
func (m AppModule) InitGenesis(ctx sdk.Context, c codec.JSONCodec, raw json.RawMessage) []abci.ValidatorUpdate {
	g := new(GenesisState)
	c.MustUnmarshalJSON(raw, g)
	updates, err := m.keeper.initGenesis(ctx, g)
	if err != nil {
		panic(err)
	}
	return updates
}

// ExportGenesis reads the rows back.
func (m AppModule) ExportGenesis(ctx sdk.Context, c codec.JSONCodec) json.RawMessage {
	g, err := m.keeper.exportGenesis(ctx)
	if err != nil {
		panic(err)
	}
	return c.MustMarshalJSON(g)
}
