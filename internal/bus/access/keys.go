package access

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"
)

// Endings of the key files.
const (
	seedFile     = ".nk"
	previousFile = ".previous.nk" // the key before, while both are valid
)

// Errors of the keys.
var (
	// ErrRole: there is no such user.
	ErrRole = errors.New("no such role")
	// ErrRotating: the key before the present one is still valid.
	ErrRotating = errors.New("the previous key has not been retired yet")
	// ErrNotRotating: there is no previous key.
	ErrNotRotating = errors.New("there is no previous key")
	// ErrNoKey: the role has no key to replace.
	ErrNoKey = errors.New("there is no key yet")
)

// keys are the files of a site's keys.
type keys struct{ dir string }

func (k keys) path(role string) string     { return filepath.Join(k.dir, role+seedFile) }
func (k keys) previous(role string) string { return filepath.Join(k.dir, role+previousFile) }

// public returns the role's public keys, the present one first; it makes the first key.
func (k keys) public(role string) ([]string, error) {
	pub, err := publicKey(k.path(role))
	if errors.Is(err, os.ErrNotExist) {
		pub, err = k.create(role)
	}
	if err != nil {
		return nil, err
	}
	all := []string{pub}
	switch pub, err = publicKey(k.previous(role)); {
	case err == nil:
		all = append(all, pub)
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	return all, nil
}

// create makes a new key for the role, readable by its owner.
func (k keys) create(role string) (public string, err error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return "", fmt.Errorf("create nkey: %w", err)
	}
	defer kp.Wipe()
	seed, err := kp.Seed()
	if err != nil {
		return "", fmt.Errorf("create nkey: %w", err)
	}
	if err := replaceFile(k.path(role), append(seed, '\n'), 0o600); err != nil {
		return "", err
	}
	return kp.PublicKey()
}

// rotate makes a new key; the present one stays valid as the previous one.
func (k keys) rotate(role string) error {
	if _, err := os.Stat(k.previous(role)); err == nil {
		return fmt.Errorf("rotate key of %s: %w", role, ErrRotating)
	}
	if _, err := os.Stat(k.path(role)); err != nil {
		return fmt.Errorf("rotate key of %s: %w", role, ErrNoKey)
	}
	// A link first, so that there is no moment without a key file.
	if err := os.Link(k.path(role), k.previous(role)); err != nil {
		return fmt.Errorf("rotate key of %s: %w", role, err)
	}
	_, err := k.create(role)
	return err
}

// retire forgets the previous key.
func (k keys) retire(role string) error {
	err := os.Remove(k.previous(role))
	if errors.Is(err, os.ErrNotExist) {
		err = ErrNotRotating
	}
	if err != nil {
		return fmt.Errorf("retire key of %s: %w", role, err)
	}
	return nil
}

func publicKey(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	kp, err := nkeys.FromSeed(bytes.TrimSpace(b))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	defer kp.Wipe()
	pub, err := kp.PublicKey()
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return pub, nil
}

// replaceFile writes a file so that a reader sees the old content or the new one.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
