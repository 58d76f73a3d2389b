package sqlitebus

import (
	"errors"
	"os"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
	"golang.org/x/sys/unix"
)

// private is the name of the VFS of the hub's files.
const private = "tandem"

func init() { vfs.Register(private, privateVFS{vfs.Find("os").(vfs.VFSFilename)}) }

// privateVFS makes the files beside the database for this user alone, as the database itself is. The VFS
// that it stands on leaves that to the process's umask.
type privateVFS struct{ vfs.VFSFilename }

func (v privateVFS) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	switch {
	case flags&vfs.OPEN_CREATE == 0:
	case flags&vfs.OPEN_WAL != 0:
		// Who opens the log opens the shared memory next. It keeps the database locked while it does, so that
		// no other process, in closing, removes them in between.
		touch(name.String())
		touch(name.Database() + "-shm")
	case flags&vfs.OPEN_MAIN_JOURNAL != 0:
		touch(name.String())
	}
	f, flags, err := v.VFSFilename.OpenFilename(name, flags)
	if err == nil && flags&(vfs.OPEN_WAL|vfs.OPEN_MAIN_JOURNAL) != 0 {
		f = logFile{f}
	}
	return f, flags, err
}

// logFile says of a full disk that it is full: without, it is an I/O error like any other.
type logFile struct{ vfs.File }

func (f logFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = sqlite3.FULL
	}
	return n, err
}

// touch makes an empty file, unless there is one. Where it can't, SQLite's own try says why.
func touch(path string) {
	if f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600); err == nil {
		f.Close()
	}
}
