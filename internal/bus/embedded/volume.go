package embedded

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Volume returns the size of the store's file system and how much of it is not available to this
// process, in bytes. What is reserved for root counts as used.
func (s *Server) Volume() (used, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.cfg.StoreDir, &st); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", s.cfg.StoreDir, err)
	}
	size := uint64(st.Bsize) //nolint:gosec // a block size is positive
	total = st.Blocks * size
	return total - min(total, st.Bavail*size), total, nil
}
