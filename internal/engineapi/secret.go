package engineapi

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// Secret signs and verifies the tokens of one client. It never shows itself: not in logs, not by
// any verb of fmt, not in JSON.
type Secret [32]byte

const hidden = "[hidden]"

// LoadSecret reads a secret file as execution clients write it: 64 hexadecimal digits, with or
// without 0x, white space around them. The error is ErrSecret or the file's and never shows what
// was read.
func LoadSecret(path string) (Secret, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	s, err := ParseSecret(string(b))
	if err != nil {
		return Secret{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// ParseSecret reads a secret's text.
func ParseSecret(text string) (Secret, error) {
	text = strings.TrimSpace(text)
	if len(text) >= 2 && text[0] == '0' && text[1]|0x20 == 'x' {
		text = text[2:]
	}
	var s Secret
	if len(text) != hex.EncodedLen(len(s)) {
		return Secret{}, ErrSecret
	}
	if _, err := hex.Decode(s[:], []byte(text)); err != nil {
		return Secret{}, ErrSecret
	}
	return s, nil
}

// IsZero says that no secret was set.
func (s Secret) IsZero() bool { return s == Secret{} }

// String hides the secret.
func (s Secret) String() string { return hidden }

// Format hides the secret from every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
