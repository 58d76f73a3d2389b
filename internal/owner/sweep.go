package owner

import (
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

// maxSweep is how many files a sweep looks at. In a folder with more, where a look at
// all would cost each new process something, they are chosen at random: what dead
// processes have left doesn't pile up.
const maxSweep = 32

// unborn is how long a process may take from making its socket to its name.
const unborn = time.Minute

// sweep removes what processes left behind that were killed.
func (o *Owner) sweep() {
	entries, err := os.ReadDir(o.Dir.Path)
	if err != nil {
		o.log().Warn("owner: the state dir can't be swept", "error", err)
		return
	}
	if len(entries) > maxSweep {
		rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		entries = entries[:maxSweep]
	}
	for _, e := range entries {
		name := e.Name()
		path := o.Dir.file(name)
		if owner, ok := strings.CutSuffix(name, ".sock"); ok && isName(owner) {
			if !o.alive(owner) {
				_ = os.Remove(path)
			}
			continue
		}
		if owner, ok := strings.CutPrefix(name, "."); ok && isName(owner) {
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > unborn {
				_ = os.Remove(path)
			}
			continue
		}
		if strings.HasSuffix(name, ".open") {
			if owner, err := os.Readlink(path); err == nil && !o.alive(owner) {
				_ = o.Dir.bury(name, owner)
			}
		}
	}
}
