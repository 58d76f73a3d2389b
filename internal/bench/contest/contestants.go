package main

import (
	"context"
	"slices"
	"time"

	"tandem/client"
	"tandem/internal/bench"
	"tandem/session/frame"
)

// A contestant is something that echoes messages. To add one, give it a bench.Opener
// and put it into house.contestants.
type contestant struct {
	name string
	open bench.Opener
	// web and backend are the main processes of its servers; 0: there is none.
	web, backend int
	// quick says that it runs in a test as well: it needs nothing but what tests need.
	quick bool
	loads []bench.Load // that it takes part in; nil: all
}

// Names of contestants that goals speak of.
const (
	goWebSocket       = "Go WebSocket, nginx"
	goWebSocketDirect = "Go WebSocket, no web server"
	rawTCP            = "Go TCP, nginx stream"
	bareEcho          = "bare line echo, nginx"
	tandemBinary      = "Tandem `binary`, nginx"
	tandemJSON        = "Tandem `json`, nginx"
	tandemLighttpd    = "Tandem `binary`, lighttpd"
	tandemCat         = "Tandem with `cat`, nginx"
	websocketdCat     = "websocketd with `cat`, nginx"
	clientSingle      = "Tandem, nginx, package client, single"
	clientLighttpd    = "Tandem, lighttpd, package client, single"
	clientSplit       = "Tandem, nginx, package client, split"
	clientStreamed    = "Tandem, nginx, package client, split, streamed"
)

// contestants are the echoes whose rates are compared; the first is what the others
// are compared with.
func (h *house) contestants() []*contestant {
	web := h.nginx.proc.Pid()
	tandem := h.backends[programTandem].Pid()
	ours := func(name, path string, codec frame.Codec) *contestant {
		return &contestant{name: name, open: wire(h.nginx.host, path, codec), web: web, backend: tandem, quick: true}
	}
	bare := func(name, path string) *contestant {
		return &contestant{name: name, open: wire(h.nginx.host, path, frame.Lines), web: web, backend: h.backends[programBare].Pid(), quick: true}
	}
	socket := h.backends[programWebSocket].Pid()
	all := []*contestant{
		{name: goWebSocket, open: webSocket(h.nginx.host, "/websocket", buffer), web: web, backend: socket, quick: true},
		{name: goWebSocketDirect, open: webSocket(h.direct, "/", buffer), backend: socket, quick: true},
	}
	if h.nginx.stream != "" {
		all = append(all, &contestant{name: rawTCP, open: tcp(h.nginx.stream, buffer), web: web, backend: h.backends[programTCP].Pid()})
	}
	all = append(all,
		bare(bareEcho, "/bare"), bare("bare, flushed together, nginx", "/bare/together"),
		ours("Tandem `lines`, nginx", "/tandem", frame.Lines), ours(tandemBinary, "/tandem", frame.Binary), ours(tandemJSON, "/tandem", frame.JSON),
		&contestant{name: tandemLighttpd, open: wire(h.lighttpd.URL, "/tandem", frame.Binary, declared), web: h.lighttpd.Pid(), backend: tandem, quick: true},
		ours(tandemCat, "/tandem/cat", frame.Binary),
	)
	if h.websocketd != "" {
		all = append(all, &contestant{name: websocketdCat, open: webSocket(h.nginx.host, "/websocketd", buffer), web: web, backend: h.backends[programWebsocketd].Pid()})
	}
	return append(all, h.products(web, tandem)...)
}

// products are sessions of package client, one for each transport that works there.
func (h *house) products(web, tandem int) (all []*contestant) {
	for _, server := range []struct {
		name, url  string
		pid        int
		transports []string
	}{
		{"nginx", "http://" + h.nginx.host + "/tandem", web, []string{client.Single, client.Split, client.Poll}},
		{"lighttpd", h.lighttpd.FastCGI(), h.lighttpd.Pid(), []string{client.Single}},
		{"Apache", h.apache.FastCGI(), h.apache.Pid(), []string{client.Pulse, client.Split, client.Poll}},
	} {
		for _, transport := range server.transports {
			all = append(all, &contestant{name: "Tandem, " + server.name + ", package client, " + transport,
				open: product(server.url, client.Options{Transport: transport}), web: server.pid, backend: tandem, quick: transport != client.Poll, loads: productLoads})
			if server.name == "nginx" && transport == client.Split {
				all = append(all, &contestant{name: clientStreamed,
					open: product(server.url, client.Options{Memory: streamed{}}), web: server.pid, backend: tandem, quick: true, loads: productLoads})
			}
		}
	}
	return all
}

// streamed is what a client has found out that goes on with transport split where
// requests stream: what it sends is one long request. A client told to use split
// doesn't find out, and sends a request for each batch.
type streamed struct{}

func (streamed) Recall(string) (client.Known, bool) {
	return client.Known{Transport: client.Split, Declared: 1 << 40, Best: []string{client.Split}, Streamed: true, Until: time.Now().Add(time.Hour)}, true
}

func (streamed) Remember(string, client.Known) {}

// offered tells whether package client can do it: transports are added to it over time.
func (c *contestant) offered(ctx context.Context) (bool, error) {
	s, err := c.open(ctx, 0)
	if err != nil {
		if isUsage(err) {
			return false, nil
		}
		return false, err
	}
	return true, s.Close()
}

func (c *contestant) takes(l bench.Load) bool {
	return c.loads == nil || slices.Contains(c.loads, l)
}
