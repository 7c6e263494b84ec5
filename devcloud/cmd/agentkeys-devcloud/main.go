// Command agentkeys-devcloud is the S3 and STS of the development stack.
//
// It writes one line, ready {"s3":"http://…","sts":"http://…"}, to descriptor 3 if
// that is open and else to standard output, and stops on SIGTERM or SIGINT.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"example.org/agentkeys/devcloud"
)

func main() {
	ready := readyFile()
	// versitygw reports to standard output, which is for the ready line alone.
	os.Stdout = os.Stderr
	// The live heap is a few megabytes, so collecting at twice its size would take
	// a tenth of the processor while requests come in.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, ready))
}

// run is main with its surroundings. Exit codes: 0 stopped as asked, 1 error, 2 usage.
func run(ctx context.Context, args []string, stdin io.Reader, ready io.Writer) int {
	c, stopOnEOF, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if stopOnEOF {
		// Not waited for: nothing but the end of the process interrupts a read.
		go func() { _, _ = io.Copy(io.Discard, stdin); cancel() }()
	}
	c.Ready = func(e devcloud.Endpoints) {
		line, _ := json.Marshal(e)
		fmt.Fprintf(ready, "ready %s\n", line)
	}
	if err := devcloud.Run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "agentkeys-devcloud:", err)
		return 1
	}
	return 0
}

func parse(args []string) (c devcloud.Config, stopOnEOF bool, err error) {
	f := flag.NewFlagSet("agentkeys-devcloud", flag.ContinueOnError)
	f.StringVar(&c.Dir, "dir", "", "data `directory`, locked while running (needed)")
	f.StringVar(&c.S3Addr, "s3", "127.0.0.1:0", "loopback `address` of S3")
	f.StringVar(&c.STSAddr, "sts", "127.0.0.1:0", "loopback `address` of STS")
	f.StringVar(&c.Bucket, "bucket", devcloud.DefaultBucket, "bucket `name`")
	f.BoolVar(&c.Versioned, "versioned", false, "keep every version of every object; chosen at the first start")
	f.StringVar(&c.Issuer, "issuer", "", "`URL` that tokens must carry as iss (needed)")
	f.StringVar(&c.Audience, "audience", "", "aud that tokens must carry (needed)")
	f.StringVar(&c.JWKSFile, "jwks", "", "`file` with the issuer's public keys; may appear later (needed)")
	f.BoolVar(&stopOnEOF, "stop-on-eof", false, "stop when standard input ends")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "Example: agentkeys-devcloud --dir store --issuer https://vault.test --audience agentkeys --jwks jwks.json")
		f.PrintDefaults()
	}
	if err = f.Parse(args); err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
		fmt.Fprintln(f.Output(), err)
	}
	return c, stopOnEOF, err
}

// readyFile is descriptor 3 if a supervisor left one there. What was inherited has
// no close-on-exec flag; the Go runtime's own files, which take low numbers before
// main, have it.
func readyFile() *os.File {
	flags, err := unix.FcntlInt(3, unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return os.Stdout
	}
	return os.NewFile(3, "ready")
}
