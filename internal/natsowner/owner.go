// Package natsowner has the processes of many hosts find each other's sessions, over NATS, as package owner does for
// those of one host.
//
// A process hears at NAME.owner.OWNER, OWNER being its name in session ids. Who has a request for one of its sessions
// opens a stream there (conn), speaks FastCGI over it, as over the unix socket of a process of its own host, and
// the owner joins the stream to its own socket: so it answers requests of other hosts and of its own alike.
// Keys that sessions were opened with are in the JetStream key-value bucket NAME-owners.
//
// Whoever may use the subjects NAME.owner.> is trusted as the user of a state dir is: NATS accounts and permissions say who.
package natsowner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tandem/fcgi"
	"tandem/internal/owner"
	"tandem/internal/problem"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Owner is this process among those of all hosts. Set its fields before its first use; then it is safe for concurrent use.
// It implements session.Owners.
type Owner struct {
	// Local is this process among those of its host.
	Local *owner.Owner
	// Conn is the connection; who made it closes it, after Close.
	Conn *nats.Conn
	// Name begins the subjects: the hub's.
	Name string
	// Replicas is how many servers store keys. 0: 1.
	Replicas int
	// Log gets what administrators should know; nil: slog.Default().
	Log *slog.Logger

	mu      sync.Mutex
	sub     *nats.Subscription
	keys    jetstream.KeyValue
	closed  bool
	claims  map[string]uint64    // revision of each key's entry
	joined  map[*conn]struct{}   // open
	joins   sync.WaitGroup       //
	missing map[string]time.Time // owners that nobody heard, since when
}

const (
	// timeout is how long the servers, or another process, may take to answer, and attempt how long one request of that.
	timeout = 3 * time.Second
	attempt = 2 * time.Second
	// goneAfter is how long nobody hears at an owner's subject before its sessions are taken for lost: one whose connection is lost is
	// back sooner.
	goneAfter = 15 * time.Second
	// maxMissing is how many names are kept of which nothing was heard: they come from requests.
	maxMissing = 4096
)

// validName is no regexp: one would be compiled at the start of each CGI process.
func validName(s string) bool {
	return len(s) == 16 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

func (o *Owner) subject(owner string) string { return o.Name + ".owner." + owner }

func (o *Owner) log() *slog.Logger {
	if o.Log == nil {
		return slog.Default()
	}
	return o.Log
}

// Forward returns what relays requests to the process that is called owner: of this host, or of another one.
// Whether there is such a one the request finds out: an owner that nobody has heard of is 503 for a while, and then 410.
func (o *Owner) Forward(owner string) http.Handler {
	if !validName(owner) || owner == o.Local.Name {
		return nil
	}
	if h := o.Local.Forward(owner); h != nil {
		return h
	}
	return &fcgi.Relay{Log: o.Log, Socket: o.subject(owner),
		Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := dial(ctx, o.Conn, o.subject(owner))
			if err != nil {
				return nil, err
			}
			o.heard(owner)
			return c, nil
		},
		Unreachable: func(w http.ResponseWriter, r *http.Request, err error) { o.unreachable(w, owner, err) },
	}
}

func (o *Owner) heard(owner string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.missing, owner)
}

// away returns for how long an owner has been missing.
func (o *Owner) away(owner string) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	since, ok := o.missing[owner]
	if ok {
		return time.Since(since)
	}
	if o.missing == nil {
		o.missing = make(map[string]time.Time)
	}
	for old, since := range o.missing {
		if len(o.missing) < maxMissing && time.Since(since) < 2*goneAfter {
			break // one look is enough while there is room
		}
		delete(o.missing, old)
	}
	o.missing[owner] = time.Now()
	return 0
}

func (o *Owner) unreachable(w http.ResponseWriter, owner string, err error) {
	if errors.Is(err, errNobody) && o.away(owner) > goneAfter {
		problem.Write(w, http.StatusGone, "The process that had this session has ended, and the session with it. Open a new one, with a POST that has no Tandem-Session header.")
		return
	}
	w.Header().Set("Retry-After", "2")
	problem.Write(w, http.StatusServiceUnavailable, "The process that has this session can't be reached. Try again later. The server's log says why.")
}

// Claim has the processes of all hosts find this one from its return on; see session.Owners.
func (o *Owner) Claim(key string) (owner string, release func(), err error) {
	if _, _, err := o.Local.Claim(""); err != nil {
		return "", nil, err
	}
	err = o.connected()
	if err == nil {
		err = o.listen()
	}
	if err != nil {
		return "", nil, fmt.Errorf("natsowner: other hosts can't find this process: %w", err)
	}
	if key == "" {
		return o.Local.Name, func() {}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*timeout)
	defer cancel()
	sum := sha256.Sum256([]byte(key))
	entry := hex.EncodeToString(sum[:16])
	other, revision, err := o.claim(ctx, entry)
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("natsowner: a session's key can't be claimed: %w", err)
	case revision == 0:
		return other, nil, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		go o.remove(entry, revision)
		return "", nil, errClosed
	}
	o.claims[entry] = revision
	return other, func() { o.release(entry) }, nil
}

// errClosed is Claim's error after Close.
var errClosed = owner.ErrClosed

// claim makes the entry, unless a living owner has it, and returns who has it then; revision is 0 if it had it before.
func (o *Owner) claim(ctx context.Context, entry string) (string, uint64, error) {
	kv, err := o.bucket(ctx)
	if err != nil {
		return "", 0, err
	}
	me := o.Local.Name
	for {
		var revision uint64
		err := again(ctx, func(ctx context.Context) (err error) {
			revision, err = kv.Create(ctx, entry, []byte(me))
			return err
		})
		if err == nil {
			return me, revision, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return "", 0, err
		}
		var e jetstream.KeyValueEntry
		err = again(ctx, func(ctx context.Context) (err error) {
			e, err = kv.Get(ctx, entry)
			return err
		})
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // it was released just now
		}
		if err != nil {
			return "", 0, err
		}
		other := string(e.Value())
		if other == me {
			return me, e.Revision(), nil // an answer was lost
		}
		alive, err := o.alive(ctx, other)
		if err != nil || alive {
			return other, 0, err
		}
		err = again(ctx, func(ctx context.Context) (err error) {
			revision, err = kv.Update(ctx, entry, []byte(me), e.Revision())
			return err
		})
		if err == nil {
			return me, revision, nil
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) {
			return "", 0, err
		}
		// Another one was faster, or the answer to this one was lost.
	}
}

// again asks the servers until one answers, or ctx is done: while they elect a leader nobody does.
func again(ctx context.Context, ask func(context.Context) error) error {
	for {
		once, done := context.WithTimeout(ctx, attempt)
		err := ask(once)
		done()
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, jetstream.ErrNoStreamResponse) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// alive asks an owner. One that isn't heard is asked again for a while: its connection may be lost for a moment.
func (o *Owner) alive(ctx context.Context, owner string) (bool, error) {
	if owner == o.Local.Name {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		c, err := dial(ctx, o.Conn, o.subject(owner))
		if err == nil {
			return true, c.Close()
		}
		if !errors.Is(err, errNobody) {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(timeout / 4):
		}
	}
}

func (o *Owner) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	o.mu.Lock()
	keys := o.keys
	o.mu.Unlock()
	if keys != nil {
		return keys, nil
	}
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, err
	}
	err = again(ctx, func(ctx context.Context) (err error) {
		keys, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: o.Name + "-owners", Description: "Tandem: keys of open sessions", History: 1, Replicas: max(o.Replicas, 1)})
		return err
	})
	if err == nil {
		o.mu.Lock()
		o.keys = keys
		o.mu.Unlock()
	}
	return keys, err
}

func (o *Owner) release(entry string) {
	o.mu.Lock()
	revision, ok := o.claims[entry]
	delete(o.claims, entry)
	o.mu.Unlock()
	if ok {
		o.remove(entry, revision)
	}
}

// remove gives a key up. Nothing is left of it, unlike of what KeyValue deletes; and what another one has put in its place stays.
func (o *Owner) remove(entry string, revision uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	js, err := jetstream.New(o.Conn)
	if err == nil {
		var s jetstream.Stream
		if s, err = js.Stream(ctx, "KV_"+o.Name+"-owners"); err == nil {
			err = s.Purge(ctx, jetstream.WithPurgeSubject("$KV."+o.Name+"-owners."+entry), jetstream.WithPurgeSequence(revision+1))
		}
	}
	if err != nil {
		o.log().Warn("natsowner: a session's key can't be given up: the next who wants it has to wait until this process ends", "error", err)
	}
}

// connected waits for a connection as long as another server may need to take it over, no longer: whoever opens a session waits.
func (o *Owner) connected() error {
	for end := time.Now().Add(attempt); !o.Conn.IsConnected(); time.Sleep(20 * time.Millisecond) {
		if o.Conn.IsClosed() || time.Now().After(end) {
			return nats.ErrDisconnected
		}
	}
	return nil
}

// listen hears what other hosts have for this process, once.
func (o *Owner) listen() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return errClosed
	case o.sub != nil:
		return nil
	}
	// In a queue: two endpoints of this process may have one hub.
	sub, err := o.Conn.QueueSubscribe(o.subject(o.Local.Name), "owner", o.opened)
	if err == nil {
		err = o.Conn.FlushTimeout(timeout)
		if err != nil {
			_ = sub.Unsubscribe()
		}
	}
	if err != nil {
		return err
	}
	o.sub, o.claims, o.joined = sub, make(map[string]uint64), make(map[*conn]struct{})
	return nil
}

// opened joins a stream of another host to this process's own socket.
func (o *Owner) opened(m *nats.Msg) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || m.Reply == "" {
		return
	}
	c, err := accept(o.Conn, m)
	if err != nil {
		o.log().Warn("natsowner: a request of another host", "error", err)
		return
	}
	o.joined[c] = struct{}{}
	o.joins.Go(func() {
		defer func() {
			c.Close()
			o.mu.Lock()
			delete(o.joined, c)
			o.mu.Unlock()
		}()
		local, err := net.Dial("unix", filepath.Join(o.Local.Dir.Path, o.Local.Name+".sock"))
		if err != nil {
			o.log().Error("natsowner: a request of another host", "error", err)
			return
		}
		join(c, local.(*net.UnixConn))
	})
}

// join copies both ways until the response has ended, or the other host's end is over: that of a request
// that was cut.
func join(far *conn, near *net.UnixConn) {
	var up sync.WaitGroup
	up.Go(func() {
		if _, err := io.Copy(near, far); err == nil {
			_ = near.CloseWrite()
		}
	})
	up.Go(func() {
		<-far.over
		near.Close()
	})
	_, _ = io.Copy(far, near)
	far.Close() // what might still come up has no reader
	up.Wait()
}

// Close has other hosts find this process no more, waits until the requests that they relayed are answered, or ctx
// is done, and drops those that are not. Call it before Local's.
func (o *Owner) Close(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	sub, claims := o.sub, o.claims
	o.claims = nil
	o.mu.Unlock()
	if sub == nil {
		return nil
	}
	_ = sub.Unsubscribe()
	for entry, revision := range claims {
		o.remove(entry, revision)
	}
	done := make(chan struct{})
	go func() { o.joins.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	o.mu.Lock()
	for c := range o.joined {
		c.end(net.ErrClosed)
	}
	o.mu.Unlock()
	<-done
	return ctx.Err()
}
