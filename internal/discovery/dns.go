package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/sync/errgroup"
)

const (
	srvEvery   = time.Minute
	srvTotal   = 10 * time.Second
	txtTotal   = 3 * time.Second
	txtAtOnce  = 8
	maxTargets = 256
)

// Resolver looks up what DNS says; *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// srv asks for the SRV records of one name. It is used by one goroutine.
type srv struct {
	name     string // rooted, so that no search list is tried
	resolver Resolver
	known    map[string]Peer // by target and port: those of the last answer
}

func newSRV(name string, r Resolver) *srv {
	if r == nil {
		r = net.DefaultResolver
	}
	return &srv{name: strings.TrimSuffix(name, ".") + ".", resolver: r}
}

func (s *srv) list(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, srvTotal)
	defer cancel()
	_, records, err := s.resolver.LookupSRV(ctx, "", "", s.name)
	if err != nil && len(records) == 0 {
		return answer{}, fmt.Errorf("look up SRV: %w", err)
	}
	if len(records) > maxTargets {
		return answer{}, fmt.Errorf("look up SRV: %w: more than %d records", ErrTooLarge, maxTargets)
	}
	var (
		mu    sync.Mutex
		a     answer
		known = map[string]Peer{}
	)
	if err != nil { // some of the names can't be used
		a.skips = append(a.skips, Skip{Name: s.name, Err: fmt.Errorf("%w: %w", ErrAddress, err)})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(txtAtOnce)
	for _, r := range records {
		if r.Target == "." {
			continue // nobody, says RFC 2782
		}
		g.Go(func() error {
			p, err := s.target(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				a.skips = append(a.skips, Skip{Name: r.Target, Err: err})
				return nil // it costs this target only
			}
			a.peers = append(a.peers, p)
			known[key(r)] = p
			return nil
		})
	}
	_ = g.Wait() // no error is returned
	if len(a.peers) == 0 && len(a.skips) > 0 {
		return answer{}, fmt.Errorf("look up SRV: %w: %d of them, the first: %w", ErrUnusable, len(a.skips), a.skips[0].Err)
	}
	s.known = known
	return a, nil
}

func key(r *net.SRV) string { return r.Target + ":" + strconv.Itoa(int(r.Port)) }

// target adds to a record what the TXT records of its target say. A look-up that fails must not take
// away pins, so then the peer stays as it was.
func (s *srv) target(ctx context.Context, r *net.SRV) (Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, txtTotal)
	defer cancel()
	texts, err := s.resolver.LookupTXT(ctx, r.Target)
	var none *net.DNSError
	if err != nil && (!errors.As(err, &none) || !none.IsNotFound) {
		if p, ok := s.known[key(r)]; ok {
			return p, nil
		}
		return Peer{}, fmt.Errorf("%w: %w", ErrLookup, err)
	}
	host := strings.TrimSuffix(r.Target, ".")
	p := Peer{
		Name: token(strings.ReplaceAll(host, ".", "-")), Address: net.JoinHostPort(host, strconv.Itoa(int(r.Port))),
		Transport: Auto, Source: DNS,
	}
	if err := p.describe(texts); err != nil {
		return Peer{}, err
	}
	return p, p.complete()
}

// describe takes the words of TXT records; those that are not ours are passed over.
func (p *Peer) describe(texts []string) error {
	for _, text := range texts {
		for word := range strings.FieldsSeq(text) {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "pin":
				p.Pins = append(p.Pins, value)
			case "name":
				if p.Name = value; !validName(value) {
					return fmt.Errorf("%w: %.64q", ErrName, value)
				}
			case "transport":
				if err := p.Transport.UnmarshalText([]byte(value)); err != nil {
					return err
				}
			case "signer":
				if !common.IsHexAddress(value) {
					return fmt.Errorf("%w: %.64q", ErrSigner, value)
				}
				p.Signer = common.HexToAddress(value)
			}
		}
	}
	return nil
}
