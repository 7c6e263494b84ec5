// Agentkeys-custodian is TEE-A: it authorises, seals and opens. Flags come over
// AGENTKEYS_CUSTODIAN_* (upper case, _ for -). With --development the seed is sealed
// in software and the attestation is software, whatever the anchors are: root can read
// what is live.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"example.org/agentkeys"
	"example.org/agentkeys/internal/service"
	"example.org/agentkeys/statement"
)

// config is everything a custodian is told. Nothing in it is secret.
type config struct {
	home, listen, operatorListen, relay, node, chainID, vault string
	trustHeight                                               uint64
	trustHash                                                 string
	s3, sts, bucket, region, account, issuer, audience        string
	anchors                                                   anchorFlags
	idle                                                      string
	development, stopOnEOF, verbose                           bool
}

func main() {
	service.Tune()
	c, err := parse(os.Args[1:])
	if err == nil {
		// A core file would hold the seed.
		err = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	}
	if err == nil {
		err = run(c)
	}
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "agentkeys-custodian: "+err.Error())
		os.Exit(1)
	}
}

func parse(args []string) (c config, err error) {
	f := flag.NewFlagSet("agentkeys-custodian", flag.ContinueOnError)
	f.StringVar(&c.home, "home", "", "state `directory`, locked while running (needed)")
	f.StringVar(&c.listen, "listen", "127.0.0.1:0", "`address` of the client API (TLS 1.3)")
	f.StringVar(&c.operatorListen, "operator-listen", "127.0.0.1:0", "loopback `address` for the operator")
	f.StringVar(&c.relay, "relay", "", "`URL` of the operator's relay (needed)")
	f.StringVar(&c.node, "node", "", "RPC `URL` of a node (needed)")
	f.StringVar(&c.chainID, "chain-id", "", "chain id (needed)")
	f.StringVar(&c.vault, "vault", "", "vault id, 64 hex digits (needed)")
	f.Uint64Var(&c.trustHeight, "trust-height", 0, "height of a header known to be true (needed)")
	f.StringVar(&c.trustHash, "trust-hash", "", "hash of that header, 64 hex digits (needed)")
	f.StringVar(&c.s3, "s3", "", "S3 endpoint `URL`; empty is AWS")
	f.StringVar(&c.sts, "sts", "", "STS endpoint `URL`; empty is AWS")
	f.StringVar(&c.bucket, "bucket", "", "bucket (needed)")
	f.StringVar(&c.region, "region", "us-east-1", "region of the bucket")
	f.StringVar(&c.account, "account", "000000000000", "account that owns the roles, 12 digits")
	f.StringVar(&c.issuer, "issuer", "", "`URL` of this vault's OIDC issuer (needed)")
	f.StringVar(&c.audience, "audience", "agentkeys-vault", "audience of the tokens for STS")
	f.Var(&c.anchors, "anchor", "`ID=KIND:PLACE`, an anchor: its id, 32 hex digits, and where its root lies: file:DIR, tpm:DEVICE, pkcs11:DIR?library=FILE&token=LABEL&pin-file=FILE, kms:DIR?region=REGION; may be repeated, two are normal (needed)")
	f.StringVar(&c.idle, "idle", "carry", "what happens to credentials that nobody reads until their epoch's window ends, where their owner names no rule: `carry|expire`")
	f.BoolVar(&c.development, "development", false, "software sealing, software attestation: no protection from root")
	f.BoolVar(&c.stopOnEOF, "stop-on-eof", false, "stop when standard input closes")
	f.BoolVar(&c.verbose, "verbose", false, "log more")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return c, environment(f)
}

// environment fills flags that were not given.
func environment(f *flag.FlagSet) (err error) {
	given := map[string]bool{}
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	f.VisitAll(func(fl *flag.Flag) {
		name := "AGENTKEYS_CUSTODIAN_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		if v, ok := os.LookupEnv(name); ok && !given[fl.Name] && err == nil {
			if err = f.Set(fl.Name, v); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		}
	})
	return err
}

var idleRules = map[string]statement.IdleRule{"carry": statement.IdleCarry, "expire": statement.IdleExpire}

// check refuses what cannot work or is not safe.
func (c config) check() (vault agentkeys.VaultID, trust agentkeys.Hash, err error) {
	if !c.development {
		return vault, trust, errors.New("this build seals its seed in software: start it with --development, and only where root is trusted")
	}
	for name, v := range map[string]string{"home": c.home, "relay": c.relay, "node": c.node, "chain-id": c.chainID, "bucket": c.bucket,
		"issuer": c.issuer, "anchor": c.anchors.String()} {
		if v == "" {
			return vault, trust, fmt.Errorf("--%s is missing; see --help", name)
		}
	}
	if idleRules[c.idle] == 0 {
		return vault, trust, fmt.Errorf("--idle: want carry or expire, not %q", c.idle)
	}
	if vault, err = agentkeys.ParseVaultID(c.vault); err != nil {
		return vault, trust, fmt.Errorf("--vault: %w", err)
	}
	if trust, err = agentkeys.ParseHash(c.trustHash); err != nil {
		return vault, trust, fmt.Errorf("--trust-hash: %w", err)
	}
	return vault, trust, nil
}

func listen(flagName, addr string, loopback bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flagName, err)
	}
	if ip := net.ParseIP(host); loopback && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("--%s: want a loopback address; it is plain HTTP", flagName)
	}
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--%s %s: the port is in use; stop what uses it or choose another", flagName, addr)
	}
	return ln, err
}

func (c config) log() *slog.Logger {
	level := slog.LevelWarn
	if c.verbose {
		level = slog.LevelInfo
	}
	return service.Logger("custodian", level)
}
