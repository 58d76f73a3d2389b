package sqlitebus

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/hub"
)

// 4 processes publish and follow at once; each is told all, in the order of history, though
// none looks without being woken.
func TestProcesses(t *testing.T) {
	path := newPath(t)
	var all []*process
	for n := range 4 {
		all = append(all, start(t, path, "both", fmt.Sprint("p", n)))
	}
	for _, p := range all {
		if got := p.line(t); got != "ready" {
			t.Fatal(got)
		}
	}
	for _, p := range all {
		io.WriteString(p.stdin, "\n")
	}
	var first []string
	for i, p := range all {
		var got []string
		for range 400 {
			got = append(got, p.line(t))
		}
		if i == 0 {
			first = got
		} else if !slices.Equal(got, first) {
			t.Errorf("process %d has another order than the first", i)
		}
	}
	for _, p := range all {
		p.end(t)
	}
	if names, err := sockets(path + "-wake"); err != nil || len(names) > 0 {
		t.Errorf("processes that ended in order left %q, %v", names, err)
	}
	events, span := history(t, newBus(t, path, Options{}), hub.Query{Earliest: true})
	if len(events) != 400 || !span.Complete {
		t.Fatalf("%d events are stored, %+v", len(events), span)
	}
	for i, e := range events {
		if got := fmt.Sprint(e.Seq, " ", e.ID); got != first[i] {
			t.Fatalf("event %d: got %q, followers had %q", i, got, first[i])
		}
	}
}

// Of publishers that are killed nothing is lost that was acknowledged, and those who live have no harm.
func TestKill(t *testing.T) {
	const rounds = 4
	path := newPath(t)
	survivor := newBus(t, path, Options{})
	live := follow(t, survivor, hub.Everything)
	acknowledged := make(map[string]bool)
	for r := range rounds {
		p := []*process{start(t, path, "publish", fmt.Sprint("a", r)), start(t, path, "publish", fmt.Sprint("b", r))}
		for range 300 + rand.IntN(300) {
			acknowledged[p[0].line(t)] = true
		}
		for _, p := range p {
			p.cmd.Process.Kill()
		}
		for _, p := range p {
			rest := bufio.NewScanner(p.stdout)
			for rest.Scan() {
				acknowledged[rest.Text()] = true
			}
			p.cmd.Wait()
		}
		acknowledged[publish(t, survivor, fmt.Sprint("s", r), "t", "").ID] = true
	}
	events, span := history(t, newBus(t, path, Options{}), hub.Query{Earliest: true})
	if !span.Complete {
		t.Errorf("history isn't complete")
	}
	for i, e := range events {
		if i > 0 && e.Seq != events[i-1].Seq+1 {
			t.Fatalf("Seq %d behind %d", e.Seq, events[i-1].Seq)
		}
		delete(acknowledged, e.ID)
		if got := next(t, live); got != e.ID {
			t.Fatalf("a follower is told of %q, expected %q", got, e.ID)
		}
	}
	if len(acknowledged) > 0 {
		t.Errorf("acknowledged, and lost: %q", slices.Collect(maps.Keys(acknowledged)))
	}
	t.Logf("%d events", len(events))
	intact(t, path)
}

// intact has SQLite look over the file.
func intact(t testing.TB, path string) {
	t.Helper()
	b := newBus(t, path, Options{})
	if err := b.read(t.Context(), func(f *file) error {
		return f.rows(func(scan func(...any) error) (bool, error) {
			var s string
			err := scan(&s)
			if s != "ok" {
				t.Errorf("integrity: %s", s)
			}
			return true, err
		}, "PRAGMA integrity_check")
	}); err != nil {
		t.Error(err)
	}
}

// CGI programs that start at once, where there is no file yet, get along, and wake those who follow.
func TestOnce(t *testing.T) {
	path := newPath(t)
	var all []*process
	for n := range 8 {
		all = append(all, start(t, path, "once", fmt.Sprint("e", n)))
	}
	for _, p := range all {
		p.line(t)
		p.end(t)
	}
	b := newBus(t, path, Options{poll: time.Hour})
	if events, span := history(t, b, hub.Query{Earliest: true}); len(events) != 8 || !span.Complete {
		t.Errorf("got %d events, %+v", len(events), span)
	}
	live := follow(t, b, "t")
	p := start(t, path, "once", "late")
	if got := next(t, live); got != "late" {
		t.Errorf("got %q", got)
	}
	p.line(t)
	p.end(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v: others could read it", err, info.Mode())
	}
}

// What a killed process leaves is found by others: its members, its socket.
func TestKillMember(t *testing.T) {
	path := newPath(t)
	b := newBus(t, path, Options{})
	list := func() (present string, lost []hub.Member) {
		lost, err := b.Presence(t.Context(), nil, func(m hub.Member) bool { present += m.Subscriber; return true })
		if err != nil {
			t.Fatal(err)
		}
		return present, lost
	}
	p := start(t, path, "member", "x")
	p.line(t)
	for range 2 {
		if present, lost := list(); present != "x" || len(lost) > 0 {
			t.Errorf("got %q, lost %v", present, lost)
		}
	}
	p.kill()
	if present, lost := list(); present != "" || len(lost) != 1 || lost[0].Subscriber != "x" {
		t.Errorf("got %q, lost %v", present, lost)
	}
	publish(t, b, "e", "t", "")
	if names, _ := sockets(path + "-wake"); len(names) != 0 {
		t.Errorf("a publish left the sockets of the dead: %q", names)
	}
}

// A process that others have taken for dead has its members back with its next call, and is woken again.
func TestBack(t *testing.T) {
	path := newPath(t)
	a, b := newBus(t, path, Options{poll: 5 * time.Millisecond}), newBus(t, path, Options{poll: time.Hour})
	live := follow(t, a, "t")
	if _, err := a.Presence(t.Context(), []hub.Change{{Member: hub.Member{Subscriber: "x"}}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path + "-wake"); err != nil {
		t.Fatal(err)
	}
	lost, err := b.Presence(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	// a may have been quicker.
	if len(lost) > 1 {
		t.Errorf("lost: %v", lost)
	}
	for deadline := time.Now().Add(limit); ; {
		if names, _ := sockets(path + "-wake"); slices.Contains(names, a.name) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the socket isn't made again")
		}
		time.Sleep(time.Millisecond)
	}
	var present []string
	for _, bus := range []*Bus{a, b} {
		if lost, err := bus.Presence(t.Context(), nil, func(m hub.Member) bool { present = append(present, m.Subscriber); return true }); err != nil || len(lost) > 0 {
			t.Errorf("lost %v, %v", lost, err)
		}
	}
	if got := strings.Join(present, " "); got != "x x" {
		t.Errorf("present: %q", got)
	}
	publish(t, b, "e", "t", "")
	if got := next(t, live); got != "e" {
		t.Errorf("got %q", got)
	}
}
