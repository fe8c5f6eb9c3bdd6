package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"millrace/internal/config"
	"millrace/internal/retry"
)

const (
	maxFile    = 8 << 20
	maxEntries = 1024
	// fileEvery is how often the file and the certificates that it names are read without an event.
	fileEvery = 30 * time.Second
)

// ReadFile reads a file of peers, all of it or none.
func ReadFile(path string) ([]Peer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read peers: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read peers: %w", err)
	}
	peers, err := decodeFile(data, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("read peers: %s: %w", path, err)
	}
	return peers, nil
}

// decodeFile reads a document; certificates are relative to dir.
func decodeFile(data []byte, dir string) ([]Peer, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxFile)
	}
	var doc struct {
		Peers []Entry `yaml:"peers"`
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF): // empty, or only comments
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more than one document", ErrMalformed)
	}
	if len(doc.Peers) > maxEntries {
		return nil, fmt.Errorf("%w: more than %d peers", ErrTooLarge, maxEntries)
	}
	peers, skips := entries(doc.Peers, dir, File)
	errs := make([]error, len(skips))
	for i, s := range skips {
		errs[i] = fmt.Errorf("peer %.64q: %w", s.Name, s.Err)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, errors.Join(errs...))
	}
	return peers, nil
}

// watchFile calls changed when the file does. Where it can't be watched, what is missed is read half a
// minute later.
func watchFile(ctx context.Context, path string, changed func(), log *slog.Logger) {
	for n := 0; ; n++ {
		err := config.Watch(ctx, path, changed)
		if ctx.Err() != nil {
			return
		}
		if n == 0 {
			log.LogAttrs(ctx, slog.LevelWarn, "file of peers can't be watched, reading it at intervals", slog.Any("error", err))
		}
		if !retry.Pause(ctx, retry.Backoff(n, time.Second, time.Minute)) {
			return
		}
	}
}
