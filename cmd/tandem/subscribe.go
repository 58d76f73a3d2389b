package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

type subscribeCmd struct {
	URL     string   `arg:"" help:"The hub, such as https://www.example.org/.well-known/mercure. NAME:PASSWORD@ in it is as --user."`
	Topic   []string `arg:"" optional:"" help:"The topics; *: all."`
	Pattern []string `short:"p" sep:"none" help:"A URL pattern of topics, such as /books/:id. May be given again." placeholder:"PATTERN"`
	Since   string   `help:"First what the history has behind this event; earliest: all of it." placeholder:"ID"`
	JSON    bool     `name:"json" help:"Print each event as a line of JSON: id, topic, type, data; and {\"gap\":true} where events are missing. Default: its data."`
	Count   uint64   `short:"n" help:"End after so many events." placeholder:"N"`
	Verbose bool     `short:"v" help:"Show frames, and when the transport is lost or changes, on stderr."`
	hubFlags
}

// Help is shown by tandem subscribe --help.
func (*subscribeCmd) Help() string {
	return `Over a session, which works behind each web server that Tandem knows, and goes on by itself where a connection is lost; where the hub ends it, ` +
		`another one follows, behind the last event that came. That events are missing is said on stderr. Ctrl-C ends it.

Exit status: 0 ended; 64 wrong usage; 65 refused for what was asked; 69 no hub; 70 error at the other end; 74 connection lost; 75 try again later; 77 not allowed.`
}

// Waits between sessions: some of it is chance, so that those who lost the same hub don't come back at once.
const (
	firstWait = time.Second
	mostWait  = time.Minute
)

var errEnough = errors.New("all events that were asked for")

func (s *subscribeCmd) Run() error {
	if len(s.Topic)+len(s.Pattern) == 0 {
		return exitWith(exitUsage, errors.New("expected one topic or more, or --pattern"))
	}
	c, o, err := s.connect()
	if err != nil {
		return err
	}
	c.Verbose = s.Verbose
	if s.Verbose {
		o.Trace = traceTo(os.Stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	f := &feed{cmd: s, last: s.Since, enc: json.NewEncoder(os.Stdout)}
	f.enc.SetEscapeHTML(false)
	for wait, opened := firstWait, false; ; {
		err := f.session(ctx, o)
		opened = opened || f.open
		var over *frame.CloseError
		switch {
		case ctx.Err() != nil || err == errEnough:
			return nil
		case errors.As(err, &over) && over.Code.Retry() == frame.RetryNever:
			return c.closed(over)
		case over == nil && !opened:
			return c.dialError(err) // there never was a hub
		case over == nil && f.open: // what it said is wrong, or stdout is
			return err
		}
		if f.open {
			wait = firstWait
		}
		c.say("lost the hub, trying again in %v: %v", wait.Round(time.Second), err)
		f.again = true
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, mostWait)
	}
}

// feed is what is printed, over one session after the other.
type feed struct {
	cmd   *subscribeCmd
	enc   *json.Encoder
	last  string // id of the last event
	open  bool   // the session was
	again bool   // it isn't the first
	n     uint64
}

// session prints what comes over one session, and returns how that ended.
func (f *feed) session(ctx context.Context, o *client.Options) error {
	f.open = false
	conn, err := client.Dial(ctx, f.cmd.URL, o)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	f.open = true
	sub := map[string]any{"topics": f.cmd.Topic, "patterns": f.cmd.Pattern}
	if f.last == "earliest" {
		sub["earliest"] = true
	} else if f.last != "" {
		sub["after"] = f.last
	}
	request, err := json.Marshal(map[string]any{"subscribe": sub})
	if err != nil {
		return err
	}
	if err := conn.Send(ctx, frame.Message{Data: request, Text: true}); err != nil {
		return err
	}
	for {
		m, err := conn.Receive(ctx)
		if ctx.Err() != nil {
			conn.Close(frame.CodeNormal, "")
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := f.message(m.Data); err != nil {
			conn.Close(frame.CodeNormal, "")
			return err
		}
	}
}

// message prints what the hub has sent.
func (f *feed) message(data []byte) error {
	var m struct {
		Event *struct {
			ID      string `json:"id"`
			Topic   string `json:"topic"`
			Type    string `json:"type,omitempty"`
			Data    string `json:"data"`
			Private bool   `json:"private,omitempty"`
		} `json:"event"`
		Gap        bool `json:"gap"`
		Subscribed *struct {
			Recovered bool `json:"recovered"`
		} `json:"subscribed"`
		Error *struct{ Code, Text, Do string } `json:"error"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return exitWith(exitData, fmt.Errorf("this is no hub: expected events, got %.60q", data))
	}
	switch {
	case m.Error != nil:
		status := map[string]int{"bad-request": exitData, "too-large": exitData, "forbidden": exitPermission, "unavailable": exitTryAgain}[m.Error.Code]
		if status == exitTryAgain {
			return frame.Errorf(frame.CodeOverloaded, "%s", m.Error.Text)
		}
		return exitWith(max(status, 1), fmt.Errorf("%s: %s: %s", m.Error.Code, m.Error.Text, m.Error.Do))
	case m.Gap, m.Subscribed != nil && !m.Subscribed.Recovered, m.Subscribed != nil && f.again && f.last == "":
		return f.gap()
	case m.Event == nil:
		return nil
	}
	f.last = m.Event.ID
	var err error
	if f.cmd.JSON {
		err = f.enc.Encode(m.Event)
	} else {
		_, err = fmt.Println(m.Event.Data)
	}
	if err != nil {
		return exitWith(exitIO, fmt.Errorf("can't write events: %w", err))
	}
	if f.n++; f.n == f.cmd.Count {
		return errEnough
	}
	return nil
}

func (f *feed) gap() error {
	fmt.Fprintln(os.Stderr, "tandem: events are missing here: the hub has them no more")
	if f.cmd.JSON {
		if err := f.enc.Encode(map[string]bool{"gap": true}); err != nil {
			return exitWith(exitIO, fmt.Errorf("can't write events: %w", err))
		}
	}
	return nil
}
