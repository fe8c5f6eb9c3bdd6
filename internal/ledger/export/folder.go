package export

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sys/unix"
)

const (
	extension = ".parquet"
	lockName  = ".lock"
)

// Keys in a file's footer.
const (
	metaDataset = "millrace.dataset"
	metaLog     = "millrace.log"
	metaStream  = "millrace.stream" // creation time of the stream
	metaFirst   = "millrace.first"
	metaLast    = "millrace.last"
	metaNode    = "millrace.node"
)

// folder holds the files of one dataset and log.
type folder struct {
	path    string
	dataset string
	log     Log
}

// span is one finished file.
type span struct {
	name        string
	first, last uint64
	rows        int64
	stream      time.Time
}

func (f folder) name(first, last uint64) string {
	return fmt.Sprintf("%s-%s-%020d-%020d%s", f.dataset, f.log, first, last, extension)
}

func (f folder) hidden() string {
	return filepath.Join(f.path, "."+f.dataset+"-"+f.log.String()+".writing")
}

// open makes the folder, removes what an earlier process left unfinished, and returns the newest
// file; nil: there is none.
func (f folder) open() (*span, error) {
	if err := makeDir(f.path); err != nil {
		return nil, err
	}
	if err := os.Remove(f.hidden()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	spans, err := f.spans()
	if err != nil || len(spans) == 0 {
		return nil, err
	}
	newest := spans[len(spans)-1]
	for _, s := range spans[:len(spans)-1] {
		if s.last < newest.first {
			continue
		}
		// Its successor covers it, and this process's predecessor was killed before it could remove it.
		if err := f.inspect(&s); err != nil {
			return nil, err
		}
		if s.rows != 0 || s.first < newest.first {
			return nil, fmt.Errorf("%w: %s and %s overlap", ErrFiles, s.name, newest.name)
		}
		if err := f.remove(s.name); err != nil {
			return nil, err
		}
	}
	return &newest, f.inspect(&newest)
}

// spans lists the finished files by their last sequence, of equal ones the longest last.
func (f folder) spans() ([]span, error) {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return nil, err
	}
	pattern := regexp.MustCompile(`^` + f.dataset + `-` + f.log.String() + `-(\d{20})-(\d{20})\` + extension + `$`)
	var spans []span
	for _, e := range entries {
		m := pattern.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		first, err1 := strconv.ParseUint(m[1], 10, 64)
		last, err2 := strconv.ParseUint(m[2], 10, 64)
		if err1 != nil || err2 != nil || first > last {
			return nil, fmt.Errorf("%w: %s is no range", ErrFiles, e.Name())
		}
		spans = append(spans, span{name: e.Name(), first: first, last: last})
	}
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.last, b.last), cmp.Compare(b.first, a.first))
	})
	return spans, nil
}

// inspect reads a file's footer, which must say what its name does.
func (f folder) inspect(s *span) error {
	file, err := os.Open(filepath.Join(f.path, s.name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	st, err := file.Stat()
	if err != nil {
		return err
	}
	p, err := parquet.OpenFile(file, st.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFiles, s.name, err)
	}
	for key, want := range map[string]string{
		metaDataset: f.dataset, metaLog: f.log.String(),
		metaFirst: strconv.FormatUint(s.first, 10), metaLast: strconv.FormatUint(s.last, 10),
	} {
		if got, _ := p.Lookup(key); got != want {
			return fmt.Errorf("%w: %s says that its %s is %q", ErrFiles, s.name, key, got)
		}
	}
	stream, _ := p.Lookup(metaStream)
	if s.stream, err = time.Parse(time.RFC3339Nano, stream); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFiles, s.name, err)
	}
	s.rows = p.NumRows()
	return nil
}

// publish gives a written file its name. Afterwards it is there whatever happens.
func (f folder) publish(file *os.File, s span) error {
	err := errors.Join(file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(f.hidden(), filepath.Join(f.path, s.name))
	}
	if err == nil {
		err = syncDir(f.path)
	}
	if err != nil {
		return fmt.Errorf("publish %s: %w", s.name, err)
	}
	return nil
}

func (f folder) remove(name string) error {
	if err := os.Remove(filepath.Join(f.path, name)); err != nil {
		return err
	}
	return syncDir(f.path)
}

// lock takes dir for this process; the kernel gives it back when the file is closed or the process
// dies.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// makeDir makes dir, and its name survives a crash.
func makeDir(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
