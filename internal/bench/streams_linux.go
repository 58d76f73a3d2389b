package bench

import (
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// One goroutine for each processor reads all streams, by epoll: with a goroutine for each, which Go's own poller
// wakes, the load would take twice the time of a processor that its servers run on as well.

// detach takes a connection out of Go's poller, where it can be read without: c is to be closed then.
func detach(c net.Conn) (fd int, ok bool) {
	var raw interface {
		Control(func(uintptr)) error
	}
	var err error
	switch c := c.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	default:
		return 0, false
	}
	if err != nil {
		return 0, false
	}
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		err = cerr
	}
	return fd, err == nil
}

func closeDetached(fd int) { unix.Close(fd) }

// poll starts a goroutine for each list.
func (a *Streams) poll(lists [][]*stream, l Listener) (stop func(), err error) {
	var end [2]int // a pipe: closing one end wakes all who poll the other
	if err := unix.Pipe2(end[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	var running sync.WaitGroup
	stop = func() {
		unix.Close(end[1])
		running.Wait()
		unix.Close(end[0])
	}
	for worker, list := range lists {
		if len(list) == 0 {
			continue
		}
		poller, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return stop, fmt.Errorf("epoll_create: %w", err)
		}
		if err := add(poller, end[0], -1); err != nil {
			unix.Close(poller)
			return stop, err
		}
		running.Go(func() { a.serve(poller, list, newReader(worker, 64<<10, l)) })
		for n, s := range list {
			if err := add(poller, s.fd, n); err != nil {
				return stop, err
			}
		}
	}
	return stop, nil
}

func add(poller, fd, n int) error {
	if err := unix.EpollCtl(poller, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(n)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// serve reads a list's streams until the pipe's end, whose number is -1.
func (a *Streams) serve(poller int, list []*stream, r *reader) {
	defer unix.Close(poller)
	events := make([]unix.EpollEvent, 128)
	for {
		ready, err := unix.EpollWait(poller, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			a.failed(r.listener, list[0], fmt.Errorf("epoll_wait: %w", err))
			return
		}
		for _, e := range events[:ready] {
			if e.Fd < 0 {
				return
			}
			s := list[e.Fd]
			n, err := unix.Read(s.fd, r.in)
			switch {
			case err == unix.EAGAIN || err == unix.EINTR:
				continue
			case err == nil:
				if err = io.EOF; n > 0 {
					err = r.got(s, n)
				}
			}
			if err != nil {
				_ = unix.EpollCtl(poller, unix.EPOLL_CTL_DEL, s.fd, nil)
				a.failed(r.listener, s, err)
			}
		}
	}
}
