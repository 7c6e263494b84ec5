// The runtime would read the limits of its container again and again, from files that
// are closed by then.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Agentkeys-rotator is TEE-B. It is started by the operator with one descriptor, 3,
// and does nothing but answer on it. It exits after any error.
//
//	agentkeys-rotator --vault HEX [--no-sandbox]
//
// On Linux it starts itself once more in namespaces of its own, makes its keys, reads
// its evidence, and shuts itself in before it reads the first byte. Without a sandbox
// it runs only when told so.
package main

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"os"

	"example.org/agentkeys"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/internal/sandbox"
	"example.org/agentkeys/rotator"
)

// courier is the descriptor that the operator gives.
const courier = 3

func main() {
	vault := flag.String("vault", "", "vault id, 64 hex digits")
	open := flag.Bool("no-sandbox", false, "run without a sandbox: a fault in this program then reaches all that its user reaches")
	inside := flag.Bool("inside", false, "given by this program itself, when it starts itself in namespaces of its own")
	flag.Parse()
	code, err := run(*vault, *open, *inside)
	if err != nil && !errors.Is(err, io.EOF) {
		tell(err.Error())
		code = 1
	}
	os.Exit(code)
}

func tell(s string) { _, _ = os.Stderr.WriteString("agentkeys-rotator: " + s + "\n") }

func run(vaultHex string, open, inside bool) (code int, err error) {
	vault, err := agentkeys.ParseVaultID(vaultHex)
	if err != nil {
		return 0, errors.New("--vault: " + err.Error())
	}
	f := os.NewFile(courier, "courier")
	if _, err := f.Stat(); err != nil {
		return 0, errors.New("descriptor 3 is not open; the operator starts this program")
	}
	switch {
	case !sandbox.Here:
		tell("sandbox: none on this system; whoever controls this machine's user controls this program")
	case open:
		tell("sandbox: off, by --no-sandbox")
	case !inside:
		return sandbox.Again(courier, []string{"--vault", vaultHex, "--inside"}, func(s string) { tell("sandbox: " + s) })
	}
	return 0, serve(vault, f, sandbox.Here && !open)
}

func serve(vault agentkeys.VaultID, f *os.File, shut bool) error {
	r, err := rotator.New(vault, &conn{bufio.NewReaderSize(newQuiet(f), 128<<10), f})
	if err != nil {
		return err
	}
	m, err := attest.MeasureSelf()
	if err != nil {
		return err
	}
	e := attest.Software(m, attest.KeysHash(r.Public()))
	if shut {
		if err := sandbox.Shut(courier); err != nil {
			return errors.New(err.Error() + "; to run without: agentkeys dev start --no-sandbox, or of the operator --rotator-no-sandbox")
		}
	}
	return r.Serve(e.Append(nil))
}

// conn reads through a buffer: a message is a header and a body.
type conn struct {
	io.Reader
	io.Writer
}
