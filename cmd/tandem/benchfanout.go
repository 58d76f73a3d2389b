package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"tandem/client"
	"tandem/internal/bench"
)

type benchFanOut struct {
	URL         string        `arg:"" help:"The hub, such as http://localhost/hub or http://localhost/.well-known/mercure."`
	Topic       string        `help:"What is published and subscribed to; the token has to grant both. Others must not publish there. Default: one of its own." placeholder:"TOPIC"`
	Subscribers int           `short:"n" help:"How many subscribers. Default: ${default}." default:"1000" placeholder:"N"`
	Sessions    bool          `help:"Subscribe with sessions, of package client, instead of Server-Sent Events."`
	AtOnce      int           `help:"Open so many at once. Default: ${default}." default:"50" placeholder:"N"`
	Rate        float64       `help:"Events to publish a second; 0: as fast as they are delivered. Default: ${default}." default:"20" placeholder:"N"`
	Ahead       int           `help:"Publish an event only when all have the one that is so many before it. Default: ${default}." default:"4" placeholder:"N"`
	Size        int           `help:"Bytes in an event's data. Default: ${default}." default:"100" placeholder:"N"`
	Warm        time.Duration `help:"Publish, but don't measure, for so long. Default: ${default}." default:"1s" placeholder:"TIME"`
	Duration    time.Duration `short:"d" help:"Measure for so long. Default: ${default}." default:"5s" placeholder:"TIME"`
	PID         []int         `name:"pid" help:"Measure CPU time of this process and its children, such as the web server's. May be given again." placeholder:"N"`
	JSON        bool          `name:"json" help:"Print one JSON object."`
	hubFlags
}

// Help is shown by tandem bench fan-out --help.
func (*benchFanOut) Help() string {
	return `Subscribers and the publisher are this process's, so one clock measures from before an event is published until a subscriber has read it. Without --sessions it works with every Mercure hub. Subscribers by Server-Sent Events speak HTTP/1.1 by hand, with next to no work of their own.

Events are numbered: lost are those that a subscriber has not got though it got a later one. One that has stopped getting any ends the measurement.`
}

func (b *benchFanOut) Run() error {
	u, err := url.Parse(b.URL)
	if err == nil && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		err = fmt.Errorf("expected a URL such as http://localhost/hub, got %q", b.URL)
	}
	if err = errors.Join(err, within("subscribers", b.Subscribers, 1, benchMostSessions), within("at-once", b.AtOnce, 1, benchMostSessions),
		within("rate", b.Rate, 0, 10_000), within("ahead", b.Ahead, 1, bench.MostAhead), within("size", b.Size, bench.LeastSize, benchMostSize),
		within("warm", b.Warm, 0, benchMostTime), within("duration", b.Duration, time.Millisecond, benchMostTime)); err != nil {
		return exitWith(exitUsage, err)
	}
	c, o, err := b.connect()
	if err != nil {
		return err
	}
	pids, err := families(b.PID)
	if err != nil {
		return err
	}
	if u.User != nil && o.Header.Get("Authorization") == "" {
		password, _ := u.User.Password()
		(&http.Request{Header: o.Header}).SetBasicAuth(u.User.Username(), password)
	}
	if b.Topic == "" {
		b.Topic = "tandem-bench-" + rand.Text()
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	hc := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: o.DialContext, TLSClientConfig: o.TLS, Protocols: &protocols}}
	r, err := b.measure(ctx, u, o, hc, pids)
	if err != nil {
		return c.dialError(err)
	}
	return r.show(b.JSON)
}

// audience are the subscribers, and how the report names their transport and client.
func (b *benchFanOut) audience(u *url.URL, o *client.Options) (a bench.Audience, transport, by string) {
	if b.Sessions {
		return &bench.Sessions{URL: b.URL, Topic: b.Topic, Options: *o}, "sessions", clientPackage
	}
	at := *u
	at.User = nil
	query := at.Query()
	query.Add("match", b.Topic)
	query.Add("topic", b.Topic) // hubs of earlier drafts know nothing of match
	at.RawQuery = query.Encode()
	s := &bench.Streams{URL: &at, Header: o.Header, TLS: o.TLS}
	if o.DialContext != nil {
		s.Dial = func(ctx context.Context, _ int) (net.Conn, error) { return o.DialContext(ctx, "tcp", u.Host) }
	}
	return s, "event streams", clientWire
}

func (b *benchFanOut) measure(ctx context.Context, u *url.URL, o *client.Options, hc *http.Client, pids [][]int) (*benchReport, error) {
	progress, ended := showProgress()
	defer ended()
	audience, transport, by := b.audience(u, o)
	f, opening, err := bench.OpenFanOut(ctx, audience, bench.Mercure(hc, b.URL, b.Topic, o.Header), b.Subscribers, b.AtOnce, b.Size, progress)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	got, err := f.Measure(ctx, bench.FanOutLoad{Rate: b.Rate, Ahead: b.Ahead, Warm: b.Warm, During: b.Duration}, pids...)
	if err != nil {
		return nil, err
	}
	r := &benchReport{Mode: "fan-out", URL: b.URL, Transport: transport, Proto: "HTTP/1.1", Client: by, Sessions: b.Subscribers, Size: b.Size,
		Lost: got.Lost, Open: opened(&opening), FanOut: &benchFanned{Topic: b.Topic, Rate: b.Rate, Ahead: b.Ahead, Events: got.Events,
			PerSecond: float64(got.Events) / got.Took.Seconds(), Doubled: got.Doubled}}
	for _, pid := range b.PID {
		r.Processes = append(r.Processes, benchProcess{PID: pid})
	}
	r.counted(got.Delivered, got.Took, &got.Times, got.CPU)
	return r, nil
}
