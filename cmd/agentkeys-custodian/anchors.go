package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"example.org/agentkeys/custodian"
	"example.org/agentkeys/erasure"
)

// anchorFlag is one --anchor: which anchor the chain knows by an id, and where its root
// lies.
type anchorFlag struct {
	id  erasure.AnchorID
	dir string
}

// anchorFlags are the anchors of one custodian, in the order in which shares are put.
type anchorFlags []anchorFlag

func (f *anchorFlags) String() string {
	var all []string
	for _, a := range *f {
		all = append(all, fmt.Sprintf("%s=file:%s", a.id, a.dir))
	}
	return strings.Join(all, ",")
}

// anchorStart is where one anchor begins in a list: a directory may have commas.
var anchorStart = regexp.MustCompile(`(^|,)[0-9a-fA-F]{32}=`)

// Set takes one anchor, or several with commas between them, as the environment has them.
func (f *anchorFlags) Set(text string) error {
	starts := anchorStart.FindAllStringIndex(text, -1)
	if len(starts) == 0 || starts[0][0] != 0 {
		return errors.New("want ID=file:DIR with an id of 32 hex digits")
	}
	for i, start := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		if err := f.add(strings.TrimPrefix(text[start[0]:end], ",")); err != nil {
			return err
		}
	}
	return nil
}

func (f *anchorFlags) add(text string) error {
	id, where, _ := strings.Cut(text, "=")
	kind, dir, _ := strings.Cut(where, ":")
	if kind != "file" || dir == "" || strings.Contains(dir, "=file:") {
		return fmt.Errorf("this build has anchors of kind file only: want %s=file:DIR", id)
	}
	b, err := hex.DecodeString(id)
	if err != nil {
		return err
	}
	a := anchorFlag{erasure.AnchorID(b), dir}
	for _, other := range *f {
		if other.id == a.id || sameDir(other.dir, a.dir) {
			return errors.New("two anchors with one id or one directory are one anchor")
		}
	}
	*f = append(*f, a)
	return nil
}

// sameDir also finds two spellings of one directory; those that are there, by what they are.
func sameDir(a, b string) bool {
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	if errA != nil || errB != nil || absA == absB {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// open gives the anchors, and in one sentence what they do not withstand.
func (f anchorFlags) open() (kept []custodian.KeptAnchor, limit string) {
	for _, a := range f {
		kept, limit = append(kept, custodian.KeptAnchor{ID: a.id, Anchor: erasure.NewFileAnchor(a.dir)}), (&erasure.FileAnchor{}).Limit()
	}
	return kept, limit
}
