package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/tpmanchor"
	"example.org/agentkeys/statement"
	"github.com/google/go-tpm/tpm2"
)

// anchorFlag is one --anchor: which anchor the chain knows by an id, what it is, and where.
type anchorFlag struct {
	id      erasure.AnchorID
	kind    uint8
	where   string            // a directory; of a tpm its device or socket
	options map[string]string // of anchorOptions
}

// anchorOptions are what can follow a place after "?", by kind; "!" marks what must.
var anchorOptions = map[uint8][]string{
	statement.AnchorFile:   nil,
	statement.AnchorTPM:    {"index", "interval", "owner-file"},
	statement.AnchorPKCS11: {"library!", "token!", "pin-file!"},
	statement.AnchorKMS:    {"endpoint", "region", "policy-file"},
}

const anchorUsage = "want ID=file:DIR, ID=tpm:DEVICE, ID=pkcs11:DIR?library=FILE&token=LABEL&pin-file=FILE or ID=kms:DIR?region=REGION, with an id of 32 hex digits"

// anchorFlags are the anchors of one custodian, in the order in which shares are put.
type anchorFlags []anchorFlag

func (f *anchorFlags) String() string {
	var all []string
	for _, a := range *f {
		all = append(all, a.String())
	}
	return strings.Join(all, ",")
}

func (a anchorFlag) String() string {
	text := fmt.Sprintf("%s=%s:%s", a.id, statement.AnchorKindName(a.kind), a.where)
	values := url.Values{}
	for name, v := range a.options {
		values.Set(name, v)
	}
	if len(values) > 0 {
		text += "?" + values.Encode()
	}
	return text
}

// anchorStart is where one anchor begins in a list: a directory may have commas.
var anchorStart = regexp.MustCompile(`(^|,)[0-9a-fA-F]{32}=`)

// strayAnchor is one in a list whose id is none: it must not become part of a directory's name.
var strayAnchor = regexp.MustCompile(`,[^,/]*=(file|tpm|pkcs11|kms):`)

// Set takes one anchor, or several with commas between them, as the environment has them.
func (f *anchorFlags) Set(text string) error {
	starts := anchorStart.FindAllStringIndex(text, -1)
	if len(starts) == 0 || starts[0][0] != 0 {
		return errors.New(anchorUsage)
	}
	for i, start := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		a, err := parseAnchor(strings.TrimPrefix(text[start[0]:end], ","))
		if err != nil {
			return err
		}
		for _, other := range *f {
			if other.id == a.id || other.samePlace(a) {
				return errors.New("two anchors with one id or one place are one anchor")
			}
		}
		*f = append(*f, a)
	}
	return nil
}

func parseAnchor(text string) (a anchorFlag, err error) {
	id, place, _ := strings.Cut(text, "=")
	kind, where, _ := strings.Cut(place, ":")
	b, err := hex.DecodeString(id)
	if err != nil {
		return a, err
	}
	a.id = erasure.AnchorID(b)
	if a.kind, err = statement.ParseAnchorKind(kind); err != nil {
		return a, fmt.Errorf("%w: %s", err, anchorUsage)
	}
	a.where = where
	if a.kind != statement.AnchorFile { // a directory may have any name
		var query string
		a.where, query, _ = strings.Cut(where, "?")
		if a.options, err = parseOptions(query, anchorOptions[a.kind]); err != nil {
			return a, fmt.Errorf("%s anchor: %w", kind, err)
		}
	}
	if a.where == "" || strayAnchor.MatchString(a.where) {
		return a, errors.New(anchorUsage)
	}
	if a.kind == statement.AnchorTPM {
		_, err = a.tpm()
	}
	return a, err
}

// parseOptions refuses names that are unknown, given twice or empty, and what is missing.
func parseOptions(query string, known []string) (map[string]string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	options := map[string]string{}
	for _, name := range known {
		name, must := strings.CutSuffix(name, "!")
		switch v := values[name]; {
		case len(v) > 1 || len(v) == 1 && v[0] == "":
			return nil, fmt.Errorf("%s: want one value", name)
		case len(v) == 1:
			options[name] = v[0]
		case must:
			return nil, fmt.Errorf("%s is missing: give it after the place, as ?%s=VALUE", name, name)
		}
		delete(values, name)
	}
	for name := range values {
		return nil, fmt.Errorf("%q is no option of it", name)
	}
	return options, nil
}

// tpm is the options of a TPM.
func (a anchorFlag) tpm() (cfg tpmanchor.Config, err error) {
	cfg.Index, cfg.Interval = tpmanchor.DefaultIndex, tpmanchor.DefaultInterval
	if text := a.options["index"]; text != "" {
		n, err := strconv.ParseUint(text, 0, 32)
		if err != nil || n < 0x01000000 || n > 0x01fffffe {
			return cfg, fmt.Errorf("tpm anchor: index %q: want an NV index such as 0x01800a90", text)
		}
		cfg.Index = tpm2.TPMHandle(n)
	}
	if text := a.options["interval"]; text != "" {
		if cfg.Interval, err = time.ParseDuration(text); err != nil || cfg.Interval <= 0 {
			return cfg, fmt.Errorf("tpm anchor: interval %q: want a time such as 15m", text)
		}
	}
	return cfg, nil
}

// samePlace says that two anchors would hold their roots in one place.
func (a anchorFlag) samePlace(b anchorFlag) bool {
	if !sameFile(a.where, b.where) {
		return false
	}
	if a.kind != statement.AnchorTPM || b.kind != statement.AnchorTPM {
		return true
	}
	one, _ := a.tpm()
	two, _ := b.tpm()
	return max(one.Index, two.Index)-min(one.Index, two.Index) < 2 // each has two indices
}

// sameFile also finds two spellings of one place; those that are there, by what they are.
func sameFile(a, b string) bool {
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	if errA != nil || errB != nil || absA == absB {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// limits says in one sentence for each kind what it does not withstand.
func (f anchorFlags) limits() string {
	var all []string
	for _, a := range f {
		if l := limitOf(a.kind); !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return strings.Join(all, "; ")
}
