package program

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A watcher waits for files to become readable, with one goroutine for all of them:
// nearly nothing comes of most children but on their stdout, and a goroutine each for
// their stderr and their exit would be what most of an idle session's memory is.
//
// It has an epoll of its own, which the Go runtime's poller waits for; both are there only
// while there is something to wait for. Methods are safe for concurrent use.
type watcher struct {
	mu    sync.Mutex
	epoll *os.File        // nil: there is nothing to wait for
	fd    int             // its descriptor, which os.File.Fd would make blocking
	calls map[int32]watch // by file descriptor
	last  int32           // the generation given last
}

// A watch tells by its generation that an event is about it, and not about an earlier
// file with its number.
type watch struct {
	generation int32
	call       func()
}

// watching is the process's watcher.
var watching watcher

// once has call called, in a goroutine of its own, when fd is readable or at its
// end. Before fd is closed, forget must be called. fd must not be watched already.
func (w *watcher) once(fd int, call func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoll == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	w.last++
	w.calls[int32(fd)] = watch{w.last, call}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd), Pad: w.last}
	if err := w.control(unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		delete(w.calls, int32(fd))
		w.closeUnused()
		return err
	}
	return nil
}

// forget ends the watch of fd, if there is one. Its call may still come when it was due.
func (w *watcher) forget(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.calls[int32(fd)]; !ok {
		return
	}
	delete(w.calls, int32(fd))
	_ = w.control(unix.EPOLL_CTL_DEL, fd, nil)
	w.closeUnused()
}

// open makes the epoll and starts the goroutine, which ends when the epoll is closed.
// w.mu is held.
func (w *watcher) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else os.NewFile keeps it from the poller
		unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	epoll := os.NewFile(uintptr(fd), "epoll")
	conn, err := epoll.SyscallConn()
	if err != nil {
		epoll.Close()
		return err
	}
	w.epoll, w.fd, w.calls = epoll, fd, make(map[int32]watch)
	go w.run(conn)
	return nil
}

func (w *watcher) run(conn syscall.RawConn) {
	events := make([]unix.EpollEvent, 32)
	_ = conn.Read(func(fd uintptr) bool { // until the epoll is closed
		for {
			n, err := unix.EpollWait(int(fd), events, 0)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				return false
			}
			for _, e := range events[:n] {
				w.dispatch(e)
			}
		}
	})
}

func (w *watcher) dispatch(e unix.EpollEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, ok := w.calls[e.Fd]; ok && c.generation == e.Pad {
		delete(w.calls, e.Fd)
		_ = w.control(unix.EPOLL_CTL_DEL, int(e.Fd), nil)
		go c.call()
		w.closeUnused()
	}
}

func (w *watcher) control(op, fd int, event *unix.EpollEvent) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(w.fd, op, fd, event))
}

// closeUnused is the end of the epoll when nothing is left. w.mu is held.
func (w *watcher) closeUnused() {
	if len(w.calls) == 0 {
		go w.epoll.Close() // which waits for run, and run may wait for w.mu
		w.epoll = nil
	}
}
