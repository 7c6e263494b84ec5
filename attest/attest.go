// Package attest is evidence of what a process runs. It makes and checks the
// software kind alone, which any root user can forge and which says so; evidence of
// other platforms is refused. Bytes: docs/spec/token.md, "Evidence". Whoever believes
// a process calls [Verify] with a measurement that the proven allow-list names.
package attest

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// Measurement is SHA-384 of what runs.
type Measurement [48]byte

// Evidence ties keys to a measurement on a platform.
type Evidence struct {
	Platform    uint8
	Measurement Measurement
	ReportData  agentkeys.Hash // of all keys of the process, see [KeysHash]
}

// Size of software evidence in bytes: "AKe1" 4, platform 1, measurement 48, report
// data 32.
const Size = 4 + 1 + 48 + 32

var (
	// ErrPlatform: this build cannot check evidence of that platform.
	ErrPlatform = errors.New("evidence: no verifier for this platform in this build")
	// ErrEvidence: the evidence does not show the measurement and keys expected.
	ErrEvidence = errors.New("evidence: another measurement or other keys than expected")
)

// Software makes evidence for development. Nothing vouches for it.
func Software(m Measurement, keys agentkeys.Hash) Evidence {
	return Evidence{statement.PlatformSoftware, m, keys}
}

// Append adds the fixed layout.
func (e Evidence) Append(b []byte) []byte {
	b = append(append(append(b, "AKe1"...), e.Platform), e.Measurement[:]...)
	return append(b, e.ReportData[:]...)
}

// Parse reads software evidence.
func Parse(b []byte) (e Evidence, err error) {
	r := agentkeys.NewReader(b)
	if string(r.Take(4)) != "AKe1" {
		return e, agentkeys.ErrLayout
	}
	e.Platform = r.U8()
	r.Copy(e.Measurement[:])
	r.Copy(e.ReportData[:])
	if err := r.Close(); err != nil {
		return Evidence{}, err
	}
	return e, nil
}

// Verify checks that evidence of a platform shows an allowed measurement and these
// keys. For software evidence that is all there is to check; see [Limit].
func Verify(evidence []byte, platform uint8, allowed Measurement, keys agentkeys.Hash) error {
	if platform != statement.PlatformSoftware {
		return ErrPlatform
	}
	e, err := Parse(evidence)
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	if e.Platform != platform || e.Measurement != allowed || e.ReportData != keys {
		return ErrEvidence
	}
	return nil
}

// Limit says what evidence of a platform does not show.
func Limit(platform uint8) string {
	if platform == statement.PlatformSoftware {
		return "software: no protection from root"
	}
	return "not checked: " + ErrPlatform.Error()
}

// KeysHash is the report data of a process: SHA-256 over its public keys, which all
// have fixed lengths, in the order of docs/spec/token.md.
func KeysHash(keys ...[]byte) agentkeys.Hash {
	h := sha256.New()
	for _, k := range keys {
		h.Write(k)
	}
	return agentkeys.Hash(h.Sum(nil))
}

// MeasureFile is the software measurement of a program: SHA-384 of its file.
func MeasureFile(path string) (m Measurement, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, fmt.Errorf("measurement: %w", err)
	}
	defer f.Close()
	h := sha512.New384()
	if _, err := io.Copy(h, f); err != nil {
		return m, fmt.Errorf("measurement: %w", err)
	}
	h.Sum(m[:0])
	return m, nil
}

// MeasureSelf is the measurement of the running program.
func MeasureSelf() (Measurement, error) {
	path, err := os.Executable()
	if err != nil {
		return Measurement{}, fmt.Errorf("measurement: %w", err)
	}
	return MeasureFile(path)
}
