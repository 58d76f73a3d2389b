package natsbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"tandem/hub"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// Credentials say who this process is. At most one kind; none is fine where the servers ask for none.
type Credentials struct {
	File     string // a .creds file, as nsc makes it
	NKeyFile string // a file with an nkey's seed
	User     string
	Password string
	Token    string
}

// TLS says how servers are trusted. With any of it, or with a tls: URL, a server without TLS is refused.
type TLS struct {
	CAFile string // PEM; "": the system's
	// CertFile and KeyFile are the client's certificate, PEM.
	CertFile, KeyFile string
	// Insecure trusts any certificate: whoever is between can read and write all. It is logged.
	Insecure bool
}

// OptionError is an option that can't be used.
type OptionError struct {
	Option string // the field's name
	Text   string
}

func (e *OptionError) Error() string { return "natsbus: " + e.Option + ": " + e.Text }

// validName is no regexp: one would be compiled at the start of each CGI process.
func validName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// check fills in defaults.
func (o *Options) check() error {
	if len(o.Servers) == 0 {
		o.Servers = []string{nats.DefaultURL}
	}
	if o.Name == "" {
		o.Name = "tandem"
	}
	if o.ConnectionName == "" {
		o.ConnectionName = "tandem"
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.DuplicateWindow == 0 {
		o.DuplicateWindow = hub.DuplicateWindow
		if o.MaxAge > 0 { // an event that is gone needs no window
			o.DuplicateWindow = min(o.DuplicateWindow, o.MaxAge)
		}
	}
	for _, s := range o.Servers {
		if err := checkURL(s); err != nil {
			return err
		}
	}
	c, kinds := &o.Credentials, 0
	for _, s := range []string{c.File, c.NKeyFile, c.User, c.Token} {
		if s != "" {
			kinds++
		}
	}
	switch {
	case !validName(o.Name):
		return &OptionError{"Name", fmt.Sprintf("%q: expected 1 to 64 letters, digits, - or _", o.Name)}
	case o.Replicas < 1 || o.Replicas > 5 || o.Replicas%2 == 0:
		return &OptionError{"Replicas", fmt.Sprintf("%d: expected 1, 3 or 5", o.Replicas)}
	case o.MaxAge < 0 || o.MaxAge > 0 && o.MaxAge < time.Second:
		return &OptionError{"MaxAge", fmt.Sprintf("%v: expected 1s or more, or 0 for no bound", o.MaxAge)}
	case o.MaxEvents < 0:
		return &OptionError{"MaxEvents", fmt.Sprintf("%d: expected a number of events, or 0 for no bound", o.MaxEvents)}
	case o.MaxBytes < 0:
		return &OptionError{"MaxBytes", fmt.Sprintf("%d: expected a number of bytes, or 0 for no bound", o.MaxBytes)}
	case o.MaxAge > 0 && o.DuplicateWindow > o.MaxAge:
		return &OptionError{"DuplicateWindow", fmt.Sprintf("%v: expected no more than MaxAge, %v", o.DuplicateWindow, o.MaxAge)}
	case o.DuplicateWindow < min(hub.DuplicateWindow, max(o.MaxAge, 1)) || o.MaxAge == 0 && o.DuplicateWindow < hub.DuplicateWindow:
		return &OptionError{"DuplicateWindow", fmt.Sprintf("%v: expected %v or more", o.DuplicateWindow, hub.DuplicateWindow)}
	case kinds > 1:
		return &OptionError{"Credentials", "expected one of a credentials file, an nkey, a user and a token; several are given"}
	case c.User == "" && c.Password != "":
		return &OptionError{"Credentials", "a password is given without a user"}
	case (o.TLS.CertFile == "") != (o.TLS.KeyFile == ""):
		return &OptionError{"TLS", "expected a client's certificate with its key; one is missing"}
	}
	return nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return &OptionError{"Servers", "a URL can't be read: expected one such as nats://host:4222 or tls://host"} // err may show a password
	case u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss":
		return &OptionError{"Servers", fmt.Sprintf("%q: expected a URL such as nats://host:4222 or tls://host", u.Redacted())}
	}
	return nil
}

// connect starts connecting. It returns before there is a connection.
func (b *Bus) connect() error {
	o := &b.o
	opts := []nats.Option{
		nats.Name(o.ConnectionName),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(backoff), nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.Timeout(3 * time.Second), nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1), // what can't be sent is tried again by who wants it sent
		nats.ConnectHandler(b.up), nats.ReconnectHandler(b.up), nats.DisconnectErrHandler(b.down),
		nats.ErrorHandler(b.asyncError),
	}
	c := o.Credentials
	switch {
	case c.File != "":
		text, err := os.ReadFile(c.File)
		if err != nil {
			return &OptionError{"Credentials", err.Error()}
		}
		if _, err := nkeys.ParseDecoratedUserNKey(text); err != nil {
			return &OptionError{"Credentials", fmt.Sprintf("%s: expected a credentials file, as nsc makes it: %v", c.File, err)}
		}
		opts = append(opts, nats.UserCredentials(c.File))
	case c.NKeyFile != "":
		opt, err := nats.NkeyOptionFromSeed(c.NKeyFile)
		if err != nil {
			return &OptionError{"Credentials", fmt.Sprintf("%s: expected a file with an nkey's seed: %v", c.NKeyFile, err)}
		}
		opts = append(opts, opt)
	case c.User != "":
		opts = append(opts, nats.UserInfo(c.User, c.Password))
	case c.Token != "":
		opts = append(opts, nats.Token(c.Token))
	}
	secure, err := o.TLS.config()
	if err != nil {
		return err
	}
	if secure != nil {
		opts = append(opts, nats.Secure(secure))
	}
	b.warn(secure != nil)
	nc, err := nats.Connect(strings.Join(o.Servers, ","), opts...)
	if err != nil {
		return &OptionError{"Servers", err.Error()}
	}
	b.nc = nc
	b.js, err = jetstream.New(nc)
	return err
}

// config is nil where nothing is asked for: then the URLs decide.
func (t *TLS) config() (*tls.Config, error) {
	if *t == (TLS{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.Insecure}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, &OptionError{"TLS", err.Error()}
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &OptionError{"TLS", t.CAFile + ": expected certificates in PEM, found none"}
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, &OptionError{"TLS", err.Error()}
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// warn says what others on the network could see.
func (b *Bus) warn(secure bool) {
	if b.o.TLS.Insecure {
		b.log.Warn("natsbus: any certificate of a server is trusted: who is between can read and write all events")
	}
	if secure || b.o.Credentials.Password == "" && b.o.Credentials.Token == "" {
		return
	}
	for _, s := range b.o.Servers {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "tls" || u.Scheme == "wss" {
			continue
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			b.log.Warn("natsbus: a password or token goes to a server in clear: use a tls: URL, or a credentials file", "server", u.Redacted())
		}
	}
}

// backoff is the wait after all servers were tried n times.
func backoff(n int) time.Duration { return min(50*time.Millisecond<<min(n, 10), 5*time.Second) }

func (b *Bus) up(nc *nats.Conn) {
	b.mu.Lock()
	close(b.connected)
	b.connected = make(chan struct{})
	b.mu.Unlock()
	b.log.Info("natsbus: connected", "server", nc.ConnectedUrlRedacted())
}

func (b *Bus) down(nc *nats.Conn, err error) {
	if b.ctx.Err() == nil {
		b.log.Warn("natsbus: connection lost: trying again", "server", nc.ConnectedUrlRedacted(), "error", err)
	}
}

func (b *Bus) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if b.ctx.Err() != nil {
		return
	}
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		if fd := b.feed; fd != nil && fd.sub.Load() == sub {
			b.log.Warn("natsbus: followers are slow: events are fetched again")
			b.tasks.Go(func() { _ = fd.look() }) // if it fails, the next one finds them
		}
		return
	}
	b.log.Error("natsbus", "error", err)
}

// reconnected is closed with the next connection.
func (b *Bus) reconnected() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.connected
}

// A fatal error is not tried again.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// attempt is how long one request may take before it is made again.
const attempt = 2 * time.Second

// alone is how long a call waits for a connection: one that another server can take over is back sooner.
const alone = 2 * time.Second

// retry calls op until it succeeds, or its error is fatal, or ctx is done, or Options.Timeout is over, or there
// is no connection. The error says what can't be done, and wraps hub.ErrUnavailable.
func (b *Bus) retry(ctx context.Context, what string, op func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, b.o.Timeout)
	defer cancel()
	stop := context.AfterFunc(b.ctx, cancel)
	defer stop()
	wait := 5 * time.Millisecond
	var why error // the last that says more than that time was up
	var lost time.Time
	for {
		reconnected := b.reconnected()
		var err error
		if b.nc.IsConnected() {
			var once context.Context
			var done context.CancelFunc
			once, done = context.WithTimeout(ctx, attempt)
			err = op(once)
			done()
			lost = time.Time{}
		} else {
			err = nats.ErrDisconnected
			wait = time.Second // the connection is what is waited for
			if lost.IsZero() {
				lost = time.Now()
			}
			if time.Since(lost) >= alone {
				return b.unavailable(ctx, what, err)
			}
		}
		var f fatal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &f):
			return f.error
		case why == nil, !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
			why = err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return b.unavailable(ctx, what, why)
		case <-reconnected:
		case <-t.C:
		}
		t.Stop()
		wait = min(2*wait, 500*time.Millisecond)
	}
}

// unavailable is the error after err for those who ask, and for the administrator who reads it.
func (b *Bus) unavailable(ctx context.Context, what string, err error) error {
	if b.ctx.Err() != nil {
		return fmt.Errorf("natsbus: %s: it is closed: %w", what, hub.ErrUnavailable)
	}
	where, hint := "server "+b.nc.ConnectedUrlRedacted(), ""
	var api *jetstream.APIError
	switch {
	case !b.nc.IsConnected():
		where = "no connection to " + b.servers()
		if last := b.nc.LastError(); last != nil {
			err = last
		}
		hint = "; expected a NATS server there: see that one runs, and the network and credentials"
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrNoStreamResponse):
		err = errors.New("nobody answers for JetStream")
		hint = "; expected a server with jetstream {} in its configuration, and in a cluster a majority of its servers"
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		hint = "; enable JetStream for this account"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		err = errors.New("no answer in time")
		hint = "; see that a majority of the servers runs, and that this user may publish to $JS.API.> and " + b.o.Name + ".>"
	case errors.As(err, &api):
		hint = "; see the server's log"
	}
	err = fmt.Errorf("natsbus: %s: %s: %w%s: %w", what, where, err, hint, hub.ErrUnavailable)
	if cause := ctx.Err(); cause != nil {
		err = errors.Join(err, cause)
	}
	return err
}

func (b *Bus) servers() string {
	var s []string
	for _, raw := range b.o.Servers {
		if u, err := url.Parse(raw); err == nil {
			s = append(s, u.Redacted())
		}
	}
	return strings.Join(s, ", ")
}
