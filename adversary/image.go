package adversary

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Image is what a process had in writable memory.
type Image struct {
	Process string
	At      uint64 // address of the first byte
	Bytes   []byte
}

// images reads the writable memory of processes. That takes root, or the right to
// trace them; where it is missing the loot says so.
func (l *Loot) images(processes map[int]string) error {
	if runtime.GOOS != "linux" {
		l.NoImages = "memory images are read from /proc, which " + runtime.GOOS + " has not"
		return nil
	}
	for pid, name := range processes {
		images, err := readImage(name, pid)
		if errors.Is(err, os.ErrPermission) {
			l.NoImages = err.Error()
			return nil
		}
		if err != nil {
			return fmt.Errorf("image of %s: %w", name, err)
		}
		l.Images = append(l.Images, images...)
	}
	return nil
}

func readImage(name string, pid int) (all []Image, err error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 5 || !strings.HasPrefix(f[1], "rw") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		first, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		images, err := readRange(name, mem, first, end)
		if err != nil {
			return nil, err
		}
		all = append(all, images...)
	}
	if len(all) == 0 {
		return nil, errors.New("no writable memory")
	}
	return all, lines.Err()
}

// readRange leaves out pages of zeros: a heap reserves far more than it uses.
func readRange(name string, mem io.ReaderAt, first, end uint64) (all []Image, err error) {
	const page = 4096
	zeros, b := make([]byte, page), make([]byte, page)
	var run *Image
	for at := first; at < end; at += page {
		if _, err := mem.ReadAt(b, int64(at)); err != nil {
			if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EFAULT) {
				run = nil
				continue // a guard page or a device
			}
			return nil, err
		}
		if bytes.Equal(b, zeros) {
			run = nil
			continue
		}
		if run == nil {
			all = append(all, Image{Process: name, At: at})
			run = &all[len(all)-1]
		}
		run.Bytes = append(run.Bytes, b...)
	}
	return all, nil
}

// Descendants gives the processes below one: its children, and theirs.
func Descendants(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent ..., and a name may hold anything.
		rest := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(rest) < 2 || rest[1] != strconv.Itoa(parent) || rest[0] == "Z" {
			continue
		}
		pid, _, _ := strings.Cut(string(b), " ")
		if n, err := strconv.Atoi(pid); err == nil {
			pids = append(append(pids, n), Descendants(n)...)
		}
	}
	return pids
}
