package fcgi

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"tandem/internal/nowait"
)

// pollers are what a Server's parked connections are read by: as many as can run at once,
// each made when there is something for it.
type pollers struct {
	mu      sync.Mutex
	list    []*poller
	conns   int
	next    int
	closing bool
}

// choose gives c its poller. False: there is none to be had.
func (ps *pollers) choose(c *conn) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.list == nil {
		ps.list = make([]*poller, runtime.GOMAXPROCS(0))
	}
	ps.next = (ps.next + 1) % len(ps.list)
	p := ps.list[ps.next]
	if p == nil {
		var err error
		if p, err = newPoller(); err != nil {
			return false // the goroutine stays
		}
		ps.list[ps.next] = p
	}
	c.poller = p
	return true
}

// add has c be read when something comes. False: not here.
func (ps *pollers) add(c *conn) bool {
	if !c.poller.add(c) {
		return false
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.conns++
	return true
}

// remove ends that.
func (ps *pollers) remove(c *conn) {
	c.poller.remove(c)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.conns--
	ps.closeUnused()
}

// close ends the pollers when the last connection is gone.
func (ps *pollers) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.closing = true
	ps.closeUnused()
}

func (ps *pollers) closeUnused() {
	if !ps.closing || ps.conns > 0 {
		return
	}
	for _, p := range ps.list {
		if p != nil {
			go p.epoll.Close() // which waits for who waits there, and that may be the caller
		}
	}
	ps.list = nil
}

// A poller waits for many connections, in one goroutine: an epoll of its own, which the
// runtime's poller waits for. It is level-triggered, so a read that did not fill the buffer is
// the last one, and what comes with the end of a stream isn't missed.
type poller struct {
	epoll *os.File
	raw   syscall.RawConn
	fill  func(fd uintptr) bool

	mu    sync.Mutex
	conns []*conn // by file descriptor

	// Owned by the goroutine that reads.
	events [64]unix.EpollEvent
	at, n  int // of events: what waits
	in     *nowait.Reader
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else os.NewFile keeps it from the runtime's poller
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{epoll: os.NewFile(uintptr(fd), "epoll"), in: nowait.NewReader(largeBuffer)}
	if p.raw, err = p.epoll.SyscallConn(); err != nil {
		p.epoll.Close()
		return nil, err
	}
	p.fill = p.wait
	go p.run()
	return p, nil
}

func (p *poller) add(c *conn) bool {
	fd := c.in.fd()
	if fd < 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd >= len(p.conns) {
		p.conns = slices.Grow(p.conns, fd+1-len(p.conns))[:fd+1]
	}
	p.conns[fd] = c
	if p.control(unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}) != nil {
		p.conns[fd] = nil
		return false
	}
	c.fd = fd
	return true
}

// remove ends the watch of c. Where c is closed already its number may be another's.
func (p *poller) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns[c.fd] == c {
		p.conns[c.fd] = nil
		p.forget(c.fd)
	}
}

func (p *poller) forget(fd int) { _ = p.control(unix.EPOLL_CTL_DEL, fd, nil) }

func (p *poller) control(op, fd int, event *unix.EpollEvent) (err error) {
	if e := p.raw.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), op, fd, event) }); e != nil {
		return e
	}
	return err
}

// run reads until the epoll is closed, or another goroutine has the next turn.
func (p *poller) run() {
	t := &turn{next: p.run}
	t.lend = t.yield
	for {
		for p.at < p.n {
			fd := int(p.events[p.at].Fd)
			p.at++
			if !p.ready(fd, t) {
				return
			}
		}
		if p.raw.Read(p.fill) != nil {
			return
		}
	}
}

// wait takes what is ready; false: nothing is, wait for it.
func (p *poller) wait(fd uintptr) bool {
	p.at = 0
	for {
		n, err := unix.EpollWait(int(fd), p.events[:], 0)
		if err != unix.EINTR {
			p.n = max(n, 0)
			return p.n > 0
		}
	}
}

// ready deals with a connection that has something to read. False: another goroutine goes on.
func (p *poller) ready(fd int, t *turn) bool {
	p.mu.Lock()
	c := p.conns[fd]
	p.mu.Unlock()
	if c == nil {
		return true
	}
	s := c.poll(p.in)
	if s == nil {
		return true
	}
	t.begin()
	c.turn.Store(t)
	s.Turn(t.lend)
	c.turn.CompareAndSwap(t, nil)
	return t.end()
}
