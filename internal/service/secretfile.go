package service

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// SecretFile reads the last non-empty line of a file that others cannot read;
// lines before it are labels.
func SecretFile(path string) (string, error) {
	if path == "" {
		return "", errors.New("not given; --help has an example")
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s is readable by others; set its mode to 0600", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1], nil
}
