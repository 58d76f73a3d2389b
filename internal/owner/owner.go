// Package owner has the processes that serve one endpoint find each other.
//
// A session lives in one process, its owner, whose name begins the session's id.
// [Owner] is this process: [Owner.Claim] makes it known to the others, [Owner.Forward]
// relays a request to another one. All that the processes share is a folder, the
// state dir: it has a unix socket for each owner, NAME.sock, that speaks FastCGI, and a
// link for each key that sessions were opened with, HASH.open, which points to the name
// of the owner that has it.
//
// Names are random and never used twice. So a socket that refuses a connection is one
// of a process that has died, for good, and whoever meets it removes it; a link to
// an owner without a socket likewise. That needs no lock but where a link is taken over
// from a dead owner: there the folder is locked (flock).
//
// The folder is this user's alone, and both ends of a connection check that the
// other one is this user (SO_PEERCRED). Linux only.
package owner

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"tandem/fcgi"
	"tandem/internal/problem"
)

// Owner is this process among those that share a state dir. Set its fields before
// its first use; then it is safe for concurrent use. It opens nothing before the
// first Claim.
type Owner struct {
	// Name is what session ids begin with: NewName.
	Name string
	// Dir is the state dir.
	Dir Dir
	// Handler gets the requests that other processes relay to this one.
	Handler http.Handler
	// Optional has a process whose state dir is unusable go on alone, and log that once:
	// it is likely to be the only one.
	Optional bool
	// Log gets what administrators should know; nil: slog.Default().
	Log *slog.Logger

	mu     sync.Mutex
	server *fcgi.Server  // not nil once it listens
	served chan struct{} // closed when Serve has returned
	claims map[string]struct{}
	closed bool
	alone  bool          // that was logged
	open   int           // relayed requests
	idle   chan struct{} // closed when open is 0; nil: nobody waits
}

// isName tells whether s may be an owner's name: it comes from requests, and becomes
// part of a path. (Not a regexp: every CGI process would compile it.)
func isName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(s) == 16
}

// NewName is a name that no other process has: 80 random bits.
func NewName() string {
	var b [10]byte
	rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// ErrClosed is Claim's error after Close.
var ErrClosed = errors.New("owner: this process is ending")

// Claim has other processes find this one from its return on. With a key, this
// process alone has that until release is called; where another one has it already,
// Claim returns that one's name and a nil release. The error names the state dir's key.
func (o *Owner) Claim(key string) (owner string, release func(), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.listen(); err != nil {
		if o.Optional && err != ErrClosed {
			o.goOnAlone(err)
			return o.Name, func() {}, nil
		}
		return "", nil, err
	}
	if key == "" {
		return o.Name, func() {}, nil
	}
	link := claimName(key)
	other, err := o.claim(link)
	if err != nil {
		return "", nil, fmt.Errorf("owner: %w", err)
	}
	if other != o.Name {
		return other, nil, nil
	}
	o.claims[link] = struct{}{}
	return o.Name, func() { o.release(link) }, nil
}

// goOnAlone logs why nobody will find this process. o.mu is held.
func (o *Owner) goOnAlone(err error) {
	if !o.alone {
		o.alone = true
		o.log().Warn("processes that serve the same endpoints would not find this one's sessions", "error", err)
	}
}

// Forward returns what relays requests to the process that is called owner, nil if there
// is none. A process that dies meanwhile is 410 before it answered, as its sessions are gone.
func (o *Owner) Forward(owner string) http.Handler {
	if !isName(owner) || owner == o.Name {
		return nil
	}
	socket := o.Dir.socket(owner)
	if info, err := os.Lstat(socket); err != nil || info.Mode().Type() != fs.ModeSocket {
		return nil
	}
	if err := o.Dir.check(); err != nil {
		o.log().Error("a request for another process isn't relayed", "error", err)
		return nil
	}
	return &fcgi.Relay{Socket: socket, Allowed: ours, Log: o.Log, Unreachable: o.unreachable}
}

// unreachable answers a request for a process that doesn't listen.
func (o *Owner) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	if dead(err) {
		o.sweep()
		problem.Write(w, http.StatusGone, "The process that had this session has ended, and the session with it. Open a new one, with a POST that has no Tandem-Session header.")
		return
	}
	w.Header().Set("Retry-After", "5")
	problem.Write(w, http.StatusServiceUnavailable, "The process that has this session can't be reached. Try again later. The server's log says why.")
}

// dead tells whether a connection failed because its process has ended.
func dead(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// serve counts the requests for Idle.
func (o *Owner) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.open++
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.open--
		if o.open == 0 && o.idle != nil {
			close(o.idle)
			o.idle = nil
		}
	}()
	o.Handler.ServeHTTP(w, r)
}

// Idle waits until no request is open that another process relayed here, or ctx is done.
func (o *Owner) Idle(ctx context.Context) {
	o.mu.Lock()
	if o.open == 0 {
		o.mu.Unlock()
		return
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	o.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// Close has other processes find this one no more, waits until the requests that they
// relayed are answered, or ctx is done, and drops those that are not.
func (o *Owner) Close(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	for link := range o.claims {
		_ = os.Remove(o.Dir.file(link))
	}
	o.claims = nil
	server, served := o.server, o.served
	o.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Shutdown(ctx) // closes the listener, which removes the socket
	_ = server.Close()
	<-served
	return err
}

func (o *Owner) log() *slog.Logger {
	if o.Log == nil {
		return slog.Default()
	}
	return o.Log
}

// listen makes the socket, once. It has its name only when it can be connected to:
// one that refuses is a dead one. o.mu is held.
func (o *Owner) listen() error {
	switch {
	case o.closed:
		return ErrClosed
	case o.server != nil:
		return nil
	}
	if err := o.Dir.Open(); err != nil {
		return err
	}
	temporary, path := o.Dir.file("."+o.Name), o.Dir.socket(o.Name)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	l.SetUnlinkOnClose(false) // of the name that it had
	if err := os.Rename(temporary, path); err != nil {
		l.Close()
		_ = os.Remove(temporary)
		return fmt.Errorf("owner: %w", err)
	}
	o.sweep()
	own := &listener{UnixListener: l, path: path, ours: ours, log: o.log()}
	server := &fcgi.Server{Handler: http.HandlerFunc(o.serve), Log: o.Log, Relays: []uint32{uint32(os.Geteuid())}, MaxParams: maxParams}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(own); !errors.Is(err, http.ErrServerClosed) {
			o.log().Error("other processes can't reach this one any more", "error", err)
		}
	}()
	o.server, o.served, o.claims = server, served, make(map[string]struct{})
	return nil
}

// maxParams is larger than what a web server's connection may bring: a relay adds
// to it.
const maxParams = 2 * fcgi.DefaultMaxParams

// listener takes connections of this user alone, and removes its socket when closed.
type listener struct {
	*net.UnixListener
	path string
	ours func(uid uint32) bool
	log  *slog.Logger
	once sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.UnixListener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := fcgi.PeerUID(nc)
		if err == nil && l.ours(uid) {
			return nc, nil
		}
		l.log.Warn("owner: connection closed: expected one of this user", "uid", uid, "error", err)
		_ = nc.Close()
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { _ = os.Remove(l.path) })
	return l.UnixListener.Close()
}

// ours tells whether a peer is this process's user.
func ours(uid uint32) bool { return uid == uint32(os.Geteuid()) }

// alive tells whether a process called owner listens.
func (o *Owner) alive(owner string) bool {
	switch {
	case owner == o.Name:
		return true
	case !isName(owner):
		return false
	}
	nc, err := net.DialTimeout("unix", o.Dir.socket(owner), time.Second)
	if err == nil {
		_ = nc.Close()
	}
	return !dead(err)
}
