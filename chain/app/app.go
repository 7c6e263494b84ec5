// Package app wires the node's application by hand: accounts, balances, fee
// grants, consensus parameters and the vault, and nothing else. Start with [New].
package app

import (
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/gogoproto/proto"

	"cosmossdk.io/log/v2"

	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	"github.com/cosmos/cosmos-sdk/codec/address"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/runtime"
	"github.com/cosmos/cosmos-sdk/std"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/x/auth"
	authkeeper "github.com/cosmos/cosmos-sdk/x/auth/keeper"
	authtx "github.com/cosmos/cosmos-sdk/x/auth/tx"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	"github.com/cosmos/cosmos-sdk/x/bank"
	bankkeeper "github.com/cosmos/cosmos-sdk/x/bank/keeper"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	"github.com/cosmos/cosmos-sdk/x/consensus"
	consensuskeeper "github.com/cosmos/cosmos-sdk/x/consensus/keeper"
	consensustypes "github.com/cosmos/cosmos-sdk/x/consensus/types"
	"github.com/cosmos/cosmos-sdk/x/feegrant"
	feegrantkeeper "github.com/cosmos/cosmos-sdk/x/feegrant/keeper"
	feegrantmodule "github.com/cosmos/cosmos-sdk/x/feegrant/module"
	txsigning "github.com/cosmos/cosmos-sdk/x/tx/signing"

	"example.org/agentkeys/chain/x/vault"
)

const (
	// Name is the application's name in node information.
	Name = "agentkeysd"
	// Prefix begins every account address in text.
	Prefix = "agent"
	// Denom is the coin that pays for transactions.
	Denom = "uagent"
)

// App is the application of one node.
type App struct {
	*baseapp.BaseApp
	Codec    codec.Codec
	TxConfig client.TxConfig
	Modules  *module.Manager
	Basics   module.BasicManager

	accounts authkeeper.AccountKeeper
	bank     bankkeeper.BaseKeeper
	feegrant feegrantkeeper.Keeper
}

// New opens the application at its last height. It owns nothing but db's rows;
// the caller closes db after Close.
func New(logger log.Logger, db dbm.DB, options ...func(*baseapp.BaseApp)) (*App, error) {
	usePrefix()
	registry, err := newRegistry()
	if err != nil {
		return nil, err
	}
	cdc := codec.NewProtoCodec(registry)
	tx := authtx.NewTxConfig(cdc, authtx.DefaultSignModes)
	a := &App{Codec: cdc, TxConfig: tx}
	a.BaseApp = baseapp.NewBaseApp(Name, logger, db, tx.TxDecoder(), options...)
	a.SetInterfaceRegistry(registry)
	a.SetTxEncoder(tx.TxEncoder())

	a.wire(cdc, registry, logger)
	if err := a.Modules.RegisterServices(module.NewConfigurator(cdc, a.MsgServiceRouter(), a.GRPCQueryRouter())); err != nil {
		return nil, err
	}
	if err := a.setHandlers(); err != nil {
		return nil, err
	}
	return a, a.LoadLatestVersion()
}

// usePrefix sets the SDK's own global, which some of its modules print addresses
// with. Every application of this program sets the same value.
func usePrefix() {
	c := sdk.GetConfig()
	c.SetBech32PrefixForAccount(Prefix, Prefix+"pub")
	c.SetBech32PrefixForValidator(Prefix+"valoper", Prefix+"valoperpub")
	c.SetBech32PrefixForConsensusNode(Prefix+"valcons", Prefix+"valconspub")
}

func newRegistry() (codectypes.InterfaceRegistry, error) {
	registry, err := codectypes.NewInterfaceRegistryWithOptions(codectypes.InterfaceRegistryOptions{
		ProtoFiles: proto.HybridResolver,
		SigningOptions: txsigning.Options{
			AddressCodec:          address.NewBech32Codec(Prefix),
			ValidatorAddressCodec: address.NewBech32Codec(Prefix + "valoper"),
		},
	})
	if err != nil {
		return nil, err
	}
	std.RegisterInterfaces(registry)
	return registry, nil
}

// wire makes stores, keepers and modules.
func (a *App) wire(cdc codec.Codec, registry codectypes.InterfaceRegistry, logger log.Logger) {
	keys := storetypes.NewKVStoreKeys(authtypes.StoreKey, banktypes.StoreKey, feegrant.StoreKey, consensustypes.StoreKey, vault.StoreKey)
	transient := storetypes.NewTransientStoreKeys(vault.TransientKey)
	kv := func(name string) *storetypes.KVStoreKey { return keys[name] }

	// Nobody holds this address: consensus parameters change by a release.
	nobody := authtypes.NewModuleAddress("nobody").String()
	consensusKeeper := consensuskeeper.NewKeeper(cdc, runtime.NewKVStoreService(kv(consensustypes.StoreKey)), nobody, runtime.EventService{})
	a.SetParamStore(consensusKeeper.ParamsStore)
	a.accounts = authkeeper.NewAccountKeeper(cdc, runtime.NewKVStoreService(kv(authtypes.StoreKey)), authtypes.ProtoBaseAccount,
		map[string][]string{authtypes.FeeCollectorName: nil}, address.NewBech32Codec(Prefix), Prefix, nobody)
	a.bank = bankkeeper.NewBaseKeeper(cdc, runtime.NewKVStoreService(kv(banktypes.StoreKey)), a.accounts, map[string]bool{}, nobody, logger)
	a.feegrant = feegrantkeeper.NewKeeper(cdc, runtime.NewKVStoreService(kv(feegrant.StoreKey)), a.accounts)
	keeper := vault.NewKeeper(runtime.NewKVStoreService(kv(vault.StoreKey)), runtime.NewTransientStoreService(transient[vault.TransientKey]))

	a.Modules = module.NewManager(
		auth.NewAppModule(cdc, a.accounts, nil),
		bank.NewAppModule(cdc, a.bank, a.accounts),
		feegrantmodule.NewAppModule(cdc, a.accounts, a.bank, a.feegrant, registry),
		consensus.NewAppModule(cdc, consensusKeeper),
		vault.NewAppModule(keeper),
	)
	order := []string{authtypes.ModuleName, banktypes.ModuleName, feegrant.ModuleName, consensustypes.ModuleName, vault.ModuleName}
	a.Modules.SetOrderInitGenesis(order...)
	a.Modules.SetOrderExportGenesis(order...)
	a.Modules.SetOrderEndBlockers(banktypes.ModuleName, feegrant.ModuleName, vault.ModuleName)
	a.Basics = module.NewBasicManagerFromManager(a.Modules, nil)
	a.Basics.RegisterInterfaces(registry)
	a.MountKVStores(keys)
	a.MountTransientStores(transient)
}
