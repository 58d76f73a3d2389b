package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tandem/client"
)

// hubFlags are how the commands for hubs reach one.
type hubFlags struct {
	Token      string   `env:"TANDEM_TOKEN" help:"The access token. Better in $$TANDEM_TOKEN: others can see arguments." placeholder:"JWT"`
	Header     []string `short:"H" sep:"none" help:"A header for the request, \"Name: value\". May be given again." placeholder:"LINE"`
	User       string   `help:"Log in with Basic authentication." placeholder:"NAME:PASSWORD"`
	Insecure   bool     `short:"k" help:"Take any certificate. For tests only: anybody can be in between."`
	CACert     string   `name:"cacert" type:"path" help:"Trust the certificate authorities in this PEM file, and no others." placeholder:"FILE"`
	HTTP1      bool     `name:"http1" help:"Don't use HTTP/2."`
	UnixSocket string   `type:"path" help:"Connect to this socket instead of the URL's host." placeholder:"FILE"`
}

// connect is the command connect with these flags: what it says and its exit statuses are ours, too.
func (f *hubFlags) connect() (*connectCmd, *client.Options, error) {
	c := &connectCmd{Codec: "binary", Header: f.Header, User: f.User, Insecure: f.Insecure, CACert: f.CACert, HTTP1: f.HTTP1, UnixSocket: f.UnixSocket}
	if f.Token != "" {
		if f.User != "" {
			return nil, nil, exitWith(exitUsage, errors.New("either --token or --user: a request has one Authorization header"))
		}
		c.Header = append(c.Header, "Authorization: Bearer "+f.Token)
	}
	o, err := c.options()
	return c, o, exitWith(exitUsage, err)
}

type publishCmd struct {
	URL     string `arg:"" help:"The hub, such as https://www.example.org/.well-known/mercure. NAME:PASSWORD@ in it is as --user."`
	Topic   string `arg:"" help:"What the event is about."`
	Data    string `arg:"" optional:"" help:"Its data. -: all of stdin."`
	Private bool   `help:"Only for those whose token lets them read the topic."`
	Type    string `help:"Its type, the event of Server-Sent Events." placeholder:"NAME"`
	ID      string `name:"id" help:"Its id. Default: the hub makes one. Publishing again with the same id does not double the event." placeholder:"ID"`
	Retry   uint64 `help:"How long subscribers by Server-Sent Events are to wait before they connect again, ms." placeholder:"MS"`
	hubFlags
}

// Help is shown by tandem publish --help.
func (*publishCmd) Help() string {
	return `One POST, as the Mercure protocol has it: it works with other hubs, too. Prints the event's id once the event is stored.

Exit status: 0 stored; 64 wrong usage; 65 refused for what it is; 69 no hub; 74 no answer, it may be stored or not; 75 try again later; 77 not allowed.`
}

// publishTimeout is how long a hub may take to store an event.
const publishTimeout = time.Minute

func (p *publishCmd) Run() error {
	c, o, err := p.connect()
	if err != nil {
		return err
	}
	if p.Data == "-" {
		data, err := io.ReadAll(os.Stdin)
		if err != nil {
			return exitWith(exitIO, fmt.Errorf("can't read the data: %w", err))
		}
		p.Data = string(data)
	}
	if !utf8.ValidString(p.Data) {
		return exitWith(exitData, errors.New("the data: expected text in UTF-8; encode binary data, such as with base64"))
	}
	form := url.Values{"topic": {p.Topic}, "data": {p.Data}}
	if p.Private {
		form.Set("private", "on")
	}
	for name, value := range map[string]string{"type": p.Type, "id": p.ID} {
		if value != "" {
			form.Set(name, value)
		}
	}
	if p.Retry > 0 {
		form.Set("retry", strconv.FormatUint(p.Retry, 10))
	}
	req, err := http.NewRequest(http.MethodPost, p.URL, strings.NewReader(form.Encode()))
	if err != nil || req.URL.Host == "" {
		return exitWith(exitUsage, fmt.Errorf("expected a URL such as https://www.example.org/.well-known/mercure, got %q", p.URL))
	}
	req.Header = o.Header
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!o.HTTP1)
	hc := &http.Client{
		Timeout:   publishTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: o.DialContext, TLSClientConfig: o.TLS, Protocols: &protocols},
		// A redirected POST would become a GET, or publish elsewhere with the token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := hc.Do(req)
	if err != nil {
		return publishError(c, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return exitWith(exitIO, fmt.Errorf("the answer can't be read: %w: the event may be stored or not", err))
	}
	if answer.StatusCode/100 == 2 {
		fmt.Println(strings.TrimSpace(string(body)))
		return nil
	}
	return refusal(answer, body)
}

// publishError is for a request without an answer. Only what was not sent is certain not to be stored.
func publishError(c *connectCmd, err error) error {
	var sent *url.Error
	if errors.As(err, &sent) && sent.Timeout() || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return exitWith(exitIO, fmt.Errorf("no answer: %w: the event may be stored or not", err))
	}
	return c.dialError(err)
}

// refusal is an answer that isn't 2xx.
func refusal(answer *http.Response, body []byte) error {
	var problem struct {
		Detail string `json:"detail"`
	}
	text := answer.Status
	if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
		text += ": " + problem.Detail
	} else if answer.Header.Get("Location") != "" {
		text += ": it has moved to " + answer.Header.Get("Location")
	}
	status := exitUnavailable
	switch answer.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		status = exitData
	case http.StatusUnauthorized, http.StatusForbidden:
		status = exitPermission
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		status = exitTryAgain
	}
	return exitWith(status, errors.New(text))
}
