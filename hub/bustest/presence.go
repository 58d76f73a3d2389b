package bustest

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"tandem/hub"
)

func member(subscriber, match, payload string) hub.Member {
	return hub.Member{Subscriber: subscriber, MatchType: "Exact", Match: match, Payload: payload}
}

// change is Presence that must be done. It returns who is there, and who was lost, in
// an order of its own.
func change(t *testing.T, b hub.Bus, changes ...hub.Change) (present, lost string) {
	t.Helper()
	var list []hub.Member
	gone, err := b.Presence(t.Context(), changes, func(m hub.Member) bool {
		list = append(list, m)
		return true
	})
	if err != nil {
		t.Fatalf("Presence: %v", err)
	}
	return members(list), members(gone)
}

func members(list []hub.Member) string {
	var l []string
	for _, m := range list {
		l = append(l, m.Subscriber+":"+m.Match+":"+m.Payload)
	}
	slices.Sort(l)
	return strings.Join(l, " ")
}

func join(m hub.Member) hub.Change  { return hub.Change{Member: m} }
func leave(m hub.Member) hub.Change { return hub.Change{Member: m, Gone: true} }

func testPresence(t *testing.T, newHub Hub) {
	buses := several(2, newHub(t, 0))
	expect := func(want string, b hub.Bus, changes ...hub.Change) {
		t.Helper()
		if got, lost := change(t, b, changes...); got != want || lost != "" {
			t.Errorf("got %q, expected %q; lost: %q", got, want, lost)
		}
	}
	expect("", buses[0])
	expect("s1:a:", buses[0], join(member("s1", "a", "")))
	expect("s1:a: s2:b:{}", buses[1], join(member("s2", "b", "{}")))
	expect("s1:a: s1:b: s2:b:{}", buses[0], join(member("s1", "b", "")))
	expect("s1:a:1 s1:b: s2:b:{}", buses[0], join(member("s1", "a", "1"))) // again
	pattern := member("s1", "a", "2")
	pattern.MatchType = "URLPattern"
	expect("s1:a:1 s1:a:2 s1:b: s2:b:{}", buses[0], join(pattern))
	expect("s1:a:2 s1:b: s2:b:{}", buses[0], leave(member("s1", "a", "")))
	expect("s1:a:2 s1:b: s2:b:{}", buses[1], leave(member("s1", "b", ""))) // not its own
	expect("s1:b: s2:b:{}", buses[0], leave(pattern), join(member("x", "x", "")), leave(member("x", "x", "")))
	odd := member("urn:uuid:ü \x00'", "https://example.com/{id} *>.", strings.Repeat("x", 10000))
	if got, _ := change(t, buses[1], join(odd)); !strings.Contains(got, members([]hub.Member{odd})) {
		t.Errorf("got %.200q", got)
	}
	if lost, err := buses[0].Presence(t.Context(), []hub.Change{leave(member("s1", "b", ""))}, nil); err != nil || len(lost) != 0 {
		t.Errorf("without a list: %v, %v", lost, err)
	}
	n := 0
	if _, err := buses[0].Presence(t.Context(), nil, func(hub.Member) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("list was called %d times, %v", n, err)
	}
	expect("", buses[1], leave(odd), leave(member("s2", "b", "")))
	expect("", buses[0])
}

// The members of a process that ended without a word are lost to all, and one is told.
func testPresenceLost(t *testing.T, newHub Hub) {
	open := newHub(t, 0)
	buses := several(4, open)
	change(t, buses[0], join(member("a", "t", "")), join(member("b", "t", "1")))
	change(t, buses[1], join(member("c", "t", "")))
	change(t, buses[2], join(member("d", "t", "")))
	if err := buses[0].Close(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var lost []hub.Member
	var wg sync.WaitGroup
	for _, b := range buses[1:] {
		wg.Go(func() {
			for range 3 {
				l, err := b.Presence(t.Context(), nil, nil)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				lost = append(lost, l...)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := members(lost); got != "a:t: b:t:1" {
		t.Errorf("lost: %q", got)
	}
	// All end; who comes then learns it.
	for _, b := range buses[1:] {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b := open()
	if present, lost := change(t, b, join(member("e", "t", ""))); present != "e:t:" || lost != "c:t: d:t:" {
		t.Errorf("got %q, lost %q", present, lost)
	}
	if present, lost := change(t, b); present != "e:t:" || lost != "" {
		t.Errorf("got %q, lost %q", present, lost)
	}
}
