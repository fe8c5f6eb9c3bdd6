package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
)

// Why an entry is left out.
var (
	// ErrEntry is an entry that can't be read at all.
	ErrEntry = errors.New("not an entry")
	// ErrName is a name that is missing or no token.
	ErrName = errors.New("name is not 1 to 32 letters, digits, - and _")
	// ErrAddress is an address that is not host:port.
	ErrAddress = errors.New("address is not host:port")
	// ErrTransport is a transport that does not exist.
	ErrTransport = errors.New("transport is not leafnode, https or auto")
	// ErrSigner is a signer that is no address of a key.
	ErrSigner = errors.New("signer is not the address of a key")
	// ErrUnregistered is a builder of a hub that has not registered its key yet.
	ErrUnregistered = errors.New("has not registered yet")
	// ErrCertificate is what is not certificates in PEM.
	ErrCertificate = errors.New("certificate is not certificates in PEM")
	// ErrPin is a pin that is not the SHA-256 of a key in hexadecimal, or too many of them.
	ErrPin = errors.New("pin is not 64 hexadecimal digits")
	// ErrStranger is an entry with nothing that its peer could be known by.
	ErrStranger = errors.New("neither address nor certificate, pins or signer")
	// ErrTaken is an entry whose name, signer or pin another peer has.
	ErrTaken = errors.New("belongs to another peer")
	// ErrLookup is an entry whose details could not be looked up.
	ErrLookup = errors.New("look-up of details")
)

// Why a source failed.
var (
	// ErrStatus is an HTTP status other than 2xx, redirections included.
	ErrStatus = errors.New("status is not 2xx")
	// ErrTooLarge is an answer with too many bytes or entries.
	ErrTooLarge = errors.New("answer is too large")
	// ErrMalformed is an answer that can't be read.
	ErrMalformed = errors.New("answer is malformed")
	// ErrUnusable is an answer of whose entries none can be used.
	ErrUnusable = errors.New("no entry can be used")
)

// reason is an error's place in metrics: a closed set, as it is a label.
type reason struct {
	err   error
	label string
}

// entryTable are the reasons for entries; the first is that of all others.
var entryTable = []reason{
	{ErrEntry, "malformed"},
	{ErrName, "name"},
	{ErrAddress, "address"},
	{ErrTransport, "transport"},
	{ErrSigner, "signer"},
	{ErrUnregistered, "unregistered"},
	{ErrCertificate, "certificate"},
	{ErrPin, "pin"},
	{ErrStranger, "unidentified"},
	{ErrTaken, "taken"},
	{ErrLookup, "lookup"},
}

// faultTable are the reasons for sources; the first is that of all others.
var faultTable = []reason{
	{errOther, "other"},
	{ErrStatus, "status"},
	{ErrTooLarge, "too_large"},
	{ErrMalformed, "malformed"},
	{ErrUnusable, "unusable"},
	{os.ErrDeadlineExceeded, "timeout"},
	{fs.ErrNotExist, "not_found"},
	{errTLS, "tls"},
	{errNetwork, "network"},
}

var (
	errOther   = errors.New("other")
	errTLS     = errors.New("tls")
	errNetwork = errors.New("network")
)

func entryReason(err error) string { return label(entryTable, err) }

// faultReason folds what net and net/http say into the table.
func faultReason(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	var op *net.OpError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var verify *tls.CertificateVerificationError
	switch {
	case label(faultTable, err) != faultTable[0].label:
	case errors.As(err, &dns) && dns.IsNotFound:
		err = fs.ErrNotExist
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		err = os.ErrDeadlineExceeded
	case errors.As(err, &verify), errors.As(err, &record), errors.As(err, &alert):
		err = errTLS
	case errors.As(err, &op), errors.As(err, &dns), errors.As(err, &timeout), errors.Is(err, io.ErrUnexpectedEOF):
		err = errNetwork
	}
	return label(faultTable, err)
}

func label(table []reason, err error) string {
	for _, r := range table {
		if errors.Is(err, r.err) {
			return r.label
		}
	}
	return table[0].label
}
