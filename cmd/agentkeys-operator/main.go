// Agentkeys-operator relays statements, schedules rotation and carries bytes. It is
// trusted for availability only.
package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"example.org/agentkeys"
	"example.org/agentkeys/internal/service"
	"example.org/agentkeys/operator"
)

func main() {
	service.Tune()
	root := &cobra.Command{Use: "agentkeys-operator", Short: "Relay, scheduler and courier of an AgentKeys vault",
		SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(startCommand(), rotateCommand(), rewrapCommand(), statusCommand(), doctorCommand(), enclaveCommand(), anchorCommand())
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "agentkeys-operator: "+err.Error())
		os.Exit(1)
	}
}

// startFlags are the configuration of one operator: flags over AGENTKEYS_OPERATOR_*.
type startFlags struct {
	vault, chainID, node, custodian, tokenFile, keyFile, rotator, listen string
	stopOnEOF, verbose, noSandbox                                        bool
}

func startCommand() *cobra.Command {
	var f startFlags
	c := &cobra.Command{Use: "start", Short: "Run the operator until stopped", Args: cobra.NoArgs,
		Example: "  agentkeys-operator start --vault HEX --chain-id ID --node http://127.0.0.1:26657 --custodian http://127.0.0.1:8081 \\\n    --token-file operator.token --relay-key-file relay.key --rotator bin/agentkeys-rotator",
		RunE:    func(*cobra.Command, []string) error { return start(f) }}
	fl := c.Flags()
	for _, s := range []struct {
		p                *string
		name, def, usage string
	}{
		{&f.vault, "vault", "", "vault id, 64 hex digits"},
		{&f.chainID, "chain-id", "", "chain id"},
		{&f.node, "node", "", "RPC address of the node, http://host:port"},
		{&f.custodian, "custodian", "", "operator address of the custodian, http://host:port"},
		{&f.tokenFile, "token-file", "", "file with the custodian's operator token"},
		{&f.keyFile, "relay-key-file", "", "file with the paying account's key, 64 hex digits, mode 0600"},
		{&f.rotator, "rotator", "agentkeys-rotator", "rotator program"},
		{&f.listen, "listen", "127.0.0.1:0", "address of relay, health and metrics"},
	} {
		def := s.def
		if v, ok := os.LookupEnv("AGENTKEYS_OPERATOR_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))); ok {
			def = v
		}
		fl.StringVar(s.p, s.name, def, s.usage)
	}
	fl.BoolVar(&f.stopOnEOF, "stop-on-eof", false, "stop when standard input closes")
	fl.BoolVar(&f.noSandbox, "rotator-no-sandbox", false, "run the rotator without its sandbox, where the kernel has none; a fault in it then reaches all that its user reaches")
	fl.BoolVar(&f.verbose, "verbose", false, "log progress")
	return c
}

func start(f startFlags) error {
	vault, err := agentkeys.ParseVaultID(f.vault)
	if err != nil {
		return fmt.Errorf("--vault: %w", err)
	}
	token, err := service.SecretFile(f.tokenFile)
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	key, err := service.SecretFile(f.keyFile)
	if err != nil {
		return fmt.Errorf("--relay-key-file: %w", err)
	}
	raw, err := hex.DecodeString(key)
	if err != nil {
		return errors.New("--relay-key-file: want 64 hex digits")
	}
	ln, err := listen(f.listen)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelInfo
	}
	o, err := operator.New(operator.Config{Vault: vault, ChainID: f.chainID, Node: f.node, Custodian: f.custodian, Token: token,
		RelayKey: agentkeys.NewSecret(raw), RotatorBin: f.rotator, NoSandbox: f.noSandbox, Listener: ln, Log: service.Logger("operator", level), Stderr: os.Stderr})
	if err != nil {
		return err
	}
	ctx, cancel := service.Context(f.stopOnEOF)
	defer cancel()
	if err := service.Ready(map[string]string{"relay": "http://" + ln.Addr().String()}); err != nil {
		return err
	}
	return o.Run(ctx)
}

func listen(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, errors.New("--listen: the relay has no authentication of its own; listen on a loopback address and put a proxy in front")
	}
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--listen %s: the port is in use; stop what uses it or choose another", addr)
	}
	return ln, err
}
