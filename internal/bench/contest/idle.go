package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tandem/client"
	"tandem/internal/bench"
	"tandem/session/frame"
)

// A sitter is something whose sessions are held open without a message, to see what
// they cost. Each measurement has servers of its own: memory doesn't come back.
type sitter struct {
	name     string
	program  string // the backend
	sessions int
	hold     time.Duration
	open     func(*house) bench.Opener
}

// A sat is one measurement of a sitter. Memory is in KiB for each session of the
// second wave, CPU in percent of a core.
type sat struct {
	web, backend       float64
	webCPU, backendCPU float64
}

// Names of sitters that goals speak of.
const (
	idleTandem     = "Tandem `binary`"
	idleWebSocket  = "Go WebSocket"
	idleTCP        = "Go TCP, nginx stream"
	idleCat        = "Tandem with `cat`"
	idleWebsocketd = "websocketd with `cat`"
)

func (p *plan) sitters() []sitter {
	all := []sitter{
		{idleTandem, programTandem, p.sessions, p.hold, func(h *house) bench.Opener { return wire(h.nginx.host, "/tandem", frame.Binary, small) }},
		{idleWebSocket, programWebSocket, p.sessions, 0, func(h *house) bench.Opener { return webSocket(h.nginx.host, "/websocket", smallBuffer) }},
		{idleCat, programTandem, p.programs, 0, func(h *house) bench.Opener { return wire(h.nginx.host, "/tandem/cat", frame.Binary, small) }},
	}
	if p.all && hasStream() {
		all = append(all, sitter{idleTCP, programTCP, p.sessions, 0, func(h *house) bench.Opener { return tcp(h.nginx.stream, smallBuffer) }})
	}
	if p.all && installed(programWebsocketd) {
		all = append(all, sitter{idleWebsocketd, programWebsocketd, p.programs, 0, func(h *house) bench.Opener { return webSocket(h.nginx.host, "/websocketd", smallBuffer) }})
	}
	return all
}

// sit measures s once.
func (s *sitter) sit(ctx context.Context, programs string, p plan) (_ sat, err error) {
	h, err := newHouse(ctx, programs, s.program)
	defer func() { err = errors.Join(err, h.stop()) }()
	if err != nil {
		return sat{}, err
	}
	// What the first session of all brings in, code above all, is not each session's.
	if _, err := bench.Churn(ctx, s.open(h), 1, 1, nil); err != nil {
		return sat{}, fmt.Errorf("%s, the first session: %w", s.name, err)
	}
	got, err := bench.Idle(ctx, s.open(h), bench.IdlePlan{
		Sessions: s.sessions, Waves: 2, Opening: 50, Settle: p.settle, AfterClose: p.settle, Hold: s.hold, Heartbeat: client.DefaultHeartbeat,
		Pids: [][]int{bench.Family(h.nginx.proc.Pid()), {h.backends[s.program].Pid()}},
	}, nil)
	if err != nil {
		return sat{}, fmt.Errorf("%s, idle: %w", s.name, err)
	}
	if got.Lost > 0 {
		return sat{}, fmt.Errorf("%s, idle: %d of %d sessions were lost", s.name, got.Lost, s.sessions)
	}
	r := sat{web: got.PerSession(1, 0, s.sessions) / 1024, backend: got.PerSession(1, 1, s.sessions) / 1024}
	if s.hold > 0 {
		r.webCPU = 100 * got.CPU[0].Seconds() / got.Held.Seconds()
		r.backendCPU = 100 * got.CPU[1].Seconds() / got.Held.Seconds()
	}
	return r, nil
}
