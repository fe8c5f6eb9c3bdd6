package main

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"millrace/internal/order"
)

const signatureHeader = "X-Flashbots-Signature"

// signCmd prints a body's signature header.
type signCmd struct {
	Key     string `name:"key" xor:"key" placeholder:"HEX" help:"Private key in hex; it can be seen in the process list, so use a key file for one that matters."`
	KeyFile string `name:"key-file" xor:"key" placeholder:"FILE" help:"File with the private key in hex."`
	File    string `name:"file" short:"f" placeholder:"FILE" help:"File with the body; standard input when not given."`
}

// Help is the long help text.
func (signCmd) Help() string {
	return `Prints "X-Flashbots-Signature: <address>:<signature>" for exactly the bytes of the body. Without a key, one is made for this once.

    curl -H "$(millrace sign -f body.json)" --data-binary @body.json http://127.0.0.1:8080`
}

// Run signs.
func (c *signCmd) Run(a *app) error {
	key, err := c.key()
	if err != nil {
		return usage(err)
	}
	body, err := c.body(a.stdin)
	if err != nil {
		return err
	}
	header, err := order.Sign(key, body)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %s\n", signatureHeader, header)
	return err
}

func (c *signCmd) key() (*ecdsa.PrivateKey, error) {
	text := c.Key
	if c.KeyFile != "" {
		data, err := os.ReadFile(c.KeyFile)
		if err != nil {
			return nil, err
		}
		text = strings.TrimSpace(string(data))
	}
	if text == "" {
		return crypto.GenerateKey()
	}
	key, err := crypto.HexToECDSA(strings.TrimPrefix(text, "0x"))
	if err != nil {
		return nil, errors.New("the key is not 32 bytes of hex") // its own text may quote the key
	}
	return key, nil
}

func (c *signCmd) body(stdin io.Reader) ([]byte, error) {
	if c.File != "" {
		return os.ReadFile(c.File)
	}
	return io.ReadAll(stdin)
}
