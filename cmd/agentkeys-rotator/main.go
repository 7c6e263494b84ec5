// Agentkeys-rotator is TEE-B. It is started by the operator with one descriptor, 3,
// and does nothing but answer on it. It exits after any error.
//
//	agentkeys-rotator --vault HEX
package main

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"os"

	"example.org/agentkeys"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/rotator"
)

func main() {
	vault := flag.String("vault", "", "vault id, 64 hex digits")
	flag.Parse()
	if err := run(*vault); err != nil && !errors.Is(err, io.EOF) {
		os.Stderr.WriteString("agentkeys-rotator: " + err.Error() + "\n")
		os.Exit(1)
	}
}

func run(vaultHex string) error {
	vault, err := agentkeys.ParseVaultID(vaultHex)
	if err != nil {
		return errors.New("--vault: " + err.Error())
	}
	f := os.NewFile(3, "courier")
	if _, err := f.Stat(); err != nil {
		return errors.New("descriptor 3 is not open; the operator starts this program")
	}
	r, err := rotator.New(vault, &conn{bufio.NewReaderSize(f, 128<<10), f})
	if err != nil {
		return err
	}
	m, err := attest.MeasureSelf()
	if err != nil {
		return err
	}
	pub := r.Public()
	e := attest.Software(m, attest.KeysHash(pub))
	return r.Serve(e.Append(nil))
}

// conn reads through a buffer: a message is a header and a body.
type conn struct {
	io.Reader
	io.Writer
}
