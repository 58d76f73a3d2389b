package sqlitebus

import (
	"os"

	"github.com/ncruces/go-sqlite3/vfs"
	"golang.org/x/sys/unix"
)

// private is the name of the VFS of the hub's files.
const private = "tandem"

func init() { vfs.Register(private, privateVFS{vfs.Find("os").(vfs.VFSFilename)}) }

// privateVFS makes the files beside the database for this user alone, as the database itself is. The one it stands on leaves that
// to the process's umask.
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
	return v.VFSFilename.OpenFilename(name, flags)
}

// touch makes an empty file, unless there is one. Where it can't, SQLite's own try says why.
func touch(path string) {
	if f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600); err == nil {
		f.Close()
	}
}
