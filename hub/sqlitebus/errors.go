package sqlitebus

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

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
	switch code(err) {
	case lib.SQLITE_FULL:
		return "the disk is full: make room"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return "another program keeps it locked: end that program, such as an sqlite3 with an open transaction"
	case lib.SQLITE_CORRUPT:
		return "it is damaged: with the hub's processes stopped, move it away with its -wal and -shm files, and a new one is made without the old history"
	case lib.SQLITE_NOTADB:
		return "it is no SQLite database: name another file, or move it away"
	case lib.SQLITE_READONLY, lib.SQLITE_PERM:
		return "it can't be written to: the file, its folder and what is beside it must belong to the user that the hub's processes run as, on a disk that isn't read-only"
	case lib.SQLITE_CANTOPEN:
		return "it can't be opened: it must be a file, in a folder that this user may write to"
	case lib.SQLITE_IOERR:
		return "the disk or a limit of this process refuses: look for a full or broken disk in the system's log, and at the process's limits of file size and open files"
	case lib.SQLITE_NOMEM:
		return "there is no memory"
	}
	return ""
}

// code is SQLite's primary result code of an error; 0: it isn't SQLite's.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// lasting tells whether the connection is of no more use, so that the file is opened anew.
func lasting(err error) bool {
	switch code(err) {
	case 0:
		return err != nil && !errors.Is(err, sql.ErrNoRows)
	case lib.SQLITE_BUSY, lib.SQLITE_FULL, lib.SQLITE_CONSTRAINT, lib.SQLITE_TOOBIG, lib.SQLITE_LOCKED:
		return false
	}
	return true
}
