package owner

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// claimName is the name of a key's link. The key itself, with which its session can be
// opened again, is nowhere on disk.
func claimName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + ".open"
}

// claim makes the link, unless a living owner has it, and returns who has it then.
// Making a link is one step: it never is there without its owner's name.
func (o *Owner) claim(link string) (string, error) {
	path := o.Dir.file(link)
	for {
		err := os.Symlink(o.Name, path)
		if err == nil {
			return o.Name, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		other, err := os.Readlink(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // it was released just now
		case err != nil:
			return "", err
		case o.alive(other):
			return other, nil
		}
		if err := o.Dir.bury(link, other); err != nil {
			return "", err
		}
	}
}

// bury removes a link of a dead owner. Two that have found the same one must not
// remove what the faster one has put in its place: the folder is locked, and the link
// looked at once more.
func (d Dir) bury(link, owner string) error {
	f, err := os.Open(d.Path)
	if err != nil {
		return err
	}
	defer f.Close() // and with it the lock
	if err := flock(int(f.Fd())); err != nil {
		return os.NewSyscallError("flock", err)
	}
	now, err := os.Readlink(d.file(link))
	if err == nil && now == owner {
		err = os.Remove(d.file(link))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func flock(fd int) error {
	for {
		if err := unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}

// release gives a link up that claim made. As long as this process listens nobody else
// has removed it.
func (o *Owner) release(link string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.claims[link]; !ok {
		return // Close was faster
	}
	delete(o.claims, link)
	if err := os.Remove(o.Dir.file(link)); err != nil {
		o.log().Warn("owner: a session's key can't be given up", "error", err)
	}
}
