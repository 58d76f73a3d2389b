package sqlitebus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/ncruces/go-sqlite3"

	"tandem/hub"
)

var errClosed = fmt.Errorf("sqlitebus: %w: it was closed", hub.ErrUnavailable)

// fault is what a caller is told of an error with the file: which file, what is wrong with it, what to do.
func (b *Bus) fault(err error) error {
	switch {
	case err == nil, errors.Is(err, hub.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	what := b.path
	if a := advice(err); a != "" {
		what += ": " + a
	}
	return fmt.Errorf("sqlitebus: %w: %s: %w", hub.ErrUnavailable, what, err)
}

// advice says what is wrong, and what to do about it, where err's own text doesn't.
func advice(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "its folder isn't there: make it, or name another file"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not write to it: the file, its folder and what is beside it must belong to the user that the hub's processes run as"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "the disk is full: make room"
	}
	if errors.Is(err, sqlite3.IOERR_SHMSIZE) {
		return "the disk is full: make room"
	}
	switch code(err) {
	case sqlite3.FULL:
		return "the disk is full: make room"
	case sqlite3.BUSY, sqlite3.LOCKED:
		return "another program keeps it locked: end that program, such as an sqlite3 with an open transaction"
	case sqlite3.CORRUPT:
		return "it is damaged: with the hub's processes stopped, move it away with its -wal and -shm files, and a new one is made without the old history"
	case sqlite3.NOTADB:
		return "it is no SQLite database: name another file, or move it away"
	case sqlite3.READONLY, sqlite3.PERM:
		return "it can't be written to: the file, its folder and what is beside it must belong to the user that the hub's processes run as, on a disk that isn't read-only"
	case sqlite3.CANTOPEN:
		return "it can't be opened: it must be a file, in a folder that this user may write to"
	case sqlite3.IOERR:
		return "the disk or a limit of this process refuses: look for a full or broken disk in the system's log, and at the process's limits of file size and open files"
	case sqlite3.NOMEM:
		return "there is no memory"
	}
	return ""
}

// code is SQLite's primary result code of an error; 0: it isn't SQLite's.
func code(err error) sqlite3.ErrorCode {
	var c sqlite3.ErrorCode
	errors.As(err, &c)
	return c
}

// lasting tells whether the connection is of no more use, so that the file is opened anew.
func lasting(err error) bool {
	switch code(err) {
	case 0:
		return err != nil
	case sqlite3.BUSY, sqlite3.FULL, sqlite3.CONSTRAINT, sqlite3.TOOBIG, sqlite3.LOCKED:
		return false
	}
	return true
}

// memory makes an error of the panic with which a connection says that it has used up its memory. It is deferred.
func memory(err *error) {
	if v := recover(); v != nil {
		if e, ok := v.(error); !ok || e.Error() != "sqlite3: out of memory" {
			panic(v)
		}
		*err = sqlite3.NOMEM
	}
}
