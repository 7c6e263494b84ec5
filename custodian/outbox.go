package custodian

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys/record"
)

// outbox is the durable queue of read records: a record is on disk before its read
// is answered, and stays until a proven row commits it. One file, named by its first
// sequence, of records with a CRC-32 each; a torn tail was never answered and is cut
// off at start. One fsync serves all who wait. Only the goroutine of run writes.
type outbox struct {
	dir  string
	step func(string)

	mu     sync.Mutex
	closed bool
	wait   []*pending
	kick   chan struct{}
	done   chan struct{}

	file   *os.File
	size   int64
	next   uint64
	unsent []record.Record // on disk, not known to be committed
}

type pending struct {
	recs []record.Record
	err  error
	done chan struct{}
}

const entrySize = record.Size + 4

var (
	errClosed  = errors.New("outbox: closed")
	errDamaged = errors.New("outbox: damaged or an old copy: restore the outbox directory, or register a new custodian")
)

func outboxDir(home string) string { return filepath.Join(home, "outbox") }

// openOutbox reads what an earlier start left and writes this start's boot record.
func openOutbox(dir string, boot uint64, step func(string)) (*outbox, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	o := &outbox{dir: dir, step: step, kick: make(chan struct{}, 1), done: make(chan struct{})}
	if err := o.load(); err != nil {
		return nil, err
	}
	go o.run()
	_, err := o.append(record.Record{Kind: record.KindBoot, Boot: boot, Time: uint64(time.Now().Unix())})
	if err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

// load opens the newest file; an older one is left from a crash between starting
// the new and removing the old, and holds only committed records.
func (o *outbox) load() error {
	names, err := filepath.Glob(filepath.Join(o.dir, "*.log"))
	if err != nil {
		return err
	}
	sort.Strings(names)
	if len(names) == 0 {
		return o.begin(1)
	}
	path := names[len(names)-1]
	first, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".log"), 10, 64)
	if err != nil || first == 0 {
		return fmt.Errorf("outbox: %s is not a name of an outbox file", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	o.next = first
	for ; len(b) >= entrySize; b = b[entrySize:] {
		r, err := record.Parse(b[:record.Size])
		if err != nil || crc32.ChecksumIEEE(b[:record.Size]) != binary.BigEndian.Uint32(b[record.Size:]) || r.Sequence != o.next {
			break
		}
		o.unsent = append(o.unsent, r)
		o.next++
		o.size += entrySize
	}
	if anyEntry(b) {
		return fmt.Errorf("%w: %s, byte %d", errDamaged, path, o.size)
	}
	if o.file, err = os.OpenFile(path, os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return o.cut()
}

// anyEntry finds a good entry behind a bad one: that is damage, no torn write.
func anyEntry(b []byte) bool {
	for ; len(b) >= entrySize; b = b[entrySize:] {
		if crc32.ChecksumIEEE(b[:record.Size]) == binary.BigEndian.Uint32(b[record.Size:entrySize]) {
			return true
		}
	}
	return false
}

// behind says that the chain has committed records which this outbox never wrote:
// its files were lost or put back from a copy. What would be recorded now could
// never be committed, so nothing may be read.
func (o *outbox) behind(next uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if next > o.next {
		return fmt.Errorf("%w: the chain has %d records, this outbox goes on at %d", errDamaged, next-1, o.next)
	}
	return nil
}

// cut removes a torn tail.
func (o *outbox) cut() error {
	if err := errors.Join(o.file.Truncate(o.size), o.file.Sync()); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// begin starts an empty file whose first record will have this sequence.
func (o *outbox) begin(first uint64) error {
	path := filepath.Join(o.dir, fmt.Sprintf("%020d.log", first))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := errors.Join(f.Sync(), syncDir(o.dir)); err != nil {
		f.Close()
		return err
	}
	o.file, o.size, o.next = f, 0, first
	return nil
}

// append returns once the record is on disk, with its sequence.
func (o *outbox) append(r record.Record) (record.Record, error) {
	recs := []record.Record{r}
	err := o.appendAll(recs)
	return recs[0], err
}

// appendAll returns once all of these are on disk, with their sequences, or none is.
func (o *outbox) appendAll(recs []record.Record) error {
	p := &pending{recs: recs, done: make(chan struct{})}
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return errClosed
	}
	o.wait = append(o.wait, p)
	o.mu.Unlock()
	select {
	case o.kick <- struct{}{}:
	default:
	}
	<-p.done
	return p.err
}

func (o *outbox) run() {
	defer close(o.done)
	for range o.kick {
		o.mu.Lock()
		batch, closed := o.wait, o.closed
		o.wait = nil
		if len(batch) > 0 {
			o.write(batch)
		}
		o.mu.Unlock()
		for _, p := range batch {
			close(p.done)
		}
		if closed {
			return
		}
	}
}

// write puts a batch at the end of the file. After a failure the file is cut back,
// so that no sequence is used twice or left out.
func (o *outbox) write(batch []*pending) {
	buf := make([]byte, 0, len(batch)*entrySize)
	next := o.next
	for _, p := range batch {
		for i := range p.recs {
			p.recs[i].Sequence = next
			next++
			at := len(buf)
			buf = p.recs[i].Append(buf)
			buf = binary.BigEndian.AppendUint32(buf, crc32.ChecksumIEEE(buf[at:]))
		}
	}
	o.step("outbox.write")
	_, err := o.file.WriteAt(buf, o.size)
	if err == nil {
		o.step("outbox.sync")
		err = o.file.Sync()
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("outbox: %w", err), o.cut())
		for _, p := range batch {
			p.err = err
		}
		return
	}
	o.size += int64(len(buf))
	o.next = next
	for _, p := range batch {
		o.unsent = append(o.unsent, p.recs...)
	}
}

// pendingFrom gives the unsent records from a sequence on, at most max.
func (o *outbox) pendingFrom(next uint64, max int) []record.Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := sort.Search(len(o.unsent), func(i int) bool { return o.unsent[i].Sequence >= next })
	rest := o.unsent[i:]
	return append([]record.Record(nil), rest[:min(len(rest), max)]...)
}

// rotateAt is the size from which a file whose records are all committed is left
// behind.
const rotateAt = 1 << 20

// committed forgets records below next. The file goes once it is large and nothing
// in it is still needed.
func (o *outbox) committed(next uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := sort.Search(len(o.unsent), func(i int) bool { return o.unsent[i].Sequence >= next })
	o.unsent = append([]record.Record(nil), o.unsent[i:]...)
	if len(o.unsent) > 0 || o.size < rotateAt {
		return nil
	}
	old := o.file
	if err := o.begin(o.next); err != nil {
		o.file = old
		return err
	}
	return errors.Join(old.Close(), os.Remove(old.Name()))
}

func (o *outbox) close() error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil
	}
	o.closed = true
	o.mu.Unlock()
	select {
	case o.kick <- struct{}{}:
	default:
	}
	<-o.done
	return o.file.Close()
}
