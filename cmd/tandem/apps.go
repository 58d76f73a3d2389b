package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"tandem/internal/config"
	"tandem/internal/endpoint"
	"tandem/internal/hubsite"
	"tandem/internal/metrics"
	"tandem/internal/natsowner"
	"tandem/internal/owner"
	"tandem/internal/probe"
	"tandem/internal/problem"
	"tandem/program"
	"tandem/session"
	"tandem/web"
)

// apps makes the handlers of a configuration's endpoints. The limits are
// shared by all of them.
type apps struct {
	config   *config.Config
	log      *slog.Logger
	sessions *session.Limits
	children *program.Limiter
	probes   *probe.Handler
	owner    *owner.Owner // this process, as others find it; opens nothing before it is needed
}

func newApps(c *config.Config, log *slog.Logger) *apps {
	l := c.Limits
	return &apps{
		config:   c,
		log:      log,
		sessions: &session.Limits{Sessions: l.Sessions, PerUser: l.SessionsPerUser, PerAddr: l.SessionsPerAddress},
		children: program.NewLimiter(l.Children, l.ChildrenPerUser),
		probes:   probe.New(),
		owner:    &owner.Owner{Name: owner.NewName(), Dir: owner.Find(c.StateDir, os.Getenv), Log: log},
	}
}

// owners are the processes that share one endpoint: a key that opened a session there
// means nothing elsewhere.
type owners struct {
	session.Owners
	endpoint string
}

func (o owners) Claim(key string) (name string, release func(), err error) {
	if key != "" {
		key = o.endpoint + " " + key
	}
	return o.Owners.Claim(key)
}

// served is an endpoint's handler, and what has to end.
type served struct {
	http.Handler
	endpoint *config.Endpoint
	sessions *session.Handler
	hub      *hubsite.Site    // nil: it is none
	hosts    *natsowner.Owner // nil: its processes are this host's
}

// handler makes the handler of e. Errors are the configuration's.
func (a *apps) handler(e *config.Endpoint) (*served, error) {
	log := a.log
	if e.Name != "" {
		log = log.With("endpoint", e.Name)
	}
	s := &served{endpoint: e}
	var app session.App
	var err error
	switch e.App {
	case config.AppEcho:
		app = session.Echo
	case config.AppProgram:
		app, err = program.New(program.Options{
			Command: e.Command, Dir: e.Dir, Env: environ(e.Env), PassEnv: e.PassEnv,
			Framing: program.Framing(e.Framing), Stderr: program.Stderr(e.Stderr),
			MaxMessage: e.MaxMessage, StdinGrace: none(e.StdinGrace), TermGrace: none(e.TermGrace),
			Limiter: a.children,
		})
	case config.AppHub:
		s.hub, app, err = hubsite.New(e, log)
	}
	var oe *program.OptionError
	var ke *hubsite.KeyError
	switch {
	case errors.As(err, &oe):
		return nil, a.config.Blame(e, oe.Key, errors.New(oe.Text))
	case errors.As(err, &ke):
		return nil, a.config.Blame(e, ke.Key, ke.Err)
	case err != nil:
		return nil, err
	}
	var found session.Owners = a.owner
	if s.hub != nil {
		if s.hosts = s.hub.Owners(a.owner); s.hosts != nil {
			found = s.hosts
		}
	}
	s.sessions = session.NewHandler(app, &session.Options{
		Log: log, Limits: a.sessions, Origins: e.Origins,
		Owner: a.owner.Name, Owners: owners{found, e.Name},
		MaxMessage: e.MaxMessage, LinesBuffer: e.LinesBuffer,
		Heartbeat: e.Heartbeat, MaxIdle: e.MaxIdle, MaxLife: e.MaxLife, Grace: e.Grace,
	})
	s.Handler = s.sessions
	if s.hub != nil {
		s.Handler = s.hub.Handler(s.sessions)
	}
	s.Handler = web.Handler(s.Handler, pageOf(e))
	return s, nil
}

// pageOf is the view of the demo page that suits e.
func pageOf(e *config.Endpoint) web.Page {
	switch {
	case !e.Page:
		return web.NoPage
	case e.App == config.AppHub:
		return web.HubPage
	}
	return web.Terminal
}

// reached is the way to h, which serves e: a hub is at its own URL, too.
func (a *apps) reached(e *config.Endpoint, h http.Handler) endpoint.Endpoint {
	to := endpoint.Endpoint{Name: e.Name, Path: e.Path, Handler: a.probes.Around(h, e.Probe)}
	if e.App == config.AppHub && e.Path != "" { // without a path all requests are its
		to.Also = hubsite.Paths(&e.Hub)
	}
	return to
}

// all makes the handlers of all endpoints, or reports all that is wrong.
func (a *apps) all() (http.Handler, []*served, error) {
	var made []*served
	var endpoints []endpoint.Endpoint
	var errs []error
	for _, e := range a.config.Endpoints {
		s, err := a.handler(e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		made = append(made, s)
		endpoints = append(endpoints, a.reached(e, s))
	}
	return endpoint.New(endpoints, a.log), made, errors.Join(errs...)
}

// count has page tell of the endpoints.
func (a *apps) count(page *metrics.Server, list []*served) {
	l := a.config.Limits
	page.MaxSessions, page.Programs, page.MaxPrograms = l.Sessions, a.children, l.Children
	for _, s := range list {
		e := metrics.Endpoint{Name: s.endpoint.Name, Sessions: s.sessions}
		if s.hub != nil {
			e.Hub, e.MaxSubscribers, e.Database = s.hub.Hub(), s.endpoint.Hub.MaxSubscribers, s.endpoint.Hub.Database
		}
		page.Endpoints = append(page.Endpoints, e)
	}
}

// needed is all for few requests: an endpoint is made when the first one for it comes,
// so that a CGI program starts no slower for the others, nor fails for them.
// handlers returns those that were made.
func (a *apps) needed() (h http.Handler, handlers func() []*served) {
	var mu sync.Mutex
	var made []*served
	var endpoints []endpoint.Endpoint
	for _, e := range a.config.Endpoints {
		get := sync.OnceValues(func() (*served, error) {
			s, err := a.handler(e)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				made = append(made, s)
			}
			return s, err
		})
		endpoints = append(endpoints, a.reached(e, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h, err := get()
			if err != nil {
				a.log.Error("configuration", "error", err)
				problem.Write(w, http.StatusInternalServerError, "The configuration of this endpoint is wrong. The web server's error log says what to change.")
				return
			}
			h.ServeHTTP(w, r)
		})))
	}
	return endpoint.New(endpoints, a.log), func() []*served {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(made)
	}
}

// shutdown ends the sessions of all handlers at once and waits until their apps are
// done and other processes' requests for them are answered, or ctx is done.
func (a *apps) shutdown(ctx context.Context, list []*served) error {
	a.probes.Close()
	errs := make([]error, len(list))
	var hosts, sessions sync.WaitGroup
	for i, s := range list {
		if s.hosts != nil {
			hosts.Go(func() { _ = s.hosts.Close(ctx) }) // late ones are the local owner's, too
		}
		sessions.Go(func() {
			if s.hub == nil {
				errs[i] = s.sessions.Shutdown(ctx)
				return
			}
			ended := make(chan error, 1)
			go func() { ended <- s.hub.End(ctx) }()
			errs[i] = errors.Join(s.sessions.Shutdown(ctx), <-ended)
		})
	}
	hosts.Wait() // what they relay comes through the local owner
	err := a.owner.Close(ctx)
	sessions.Wait()
	errs = append(errs, err)
	for _, s := range list {
		if s.hub != nil {
			errs = append(errs, s.hub.Close())
		}
	}
	return errors.Join(errs...)
}

func environ(m map[string]string) []string {
	var l []string
	for k, v := range m {
		l = append(l, k+"="+v)
	}
	return l
}

// none is d for package program, where 0 stands for the default.
func none(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}
