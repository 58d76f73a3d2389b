package natsbus

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/hub"
)

func subscribers(members []hub.Member) string {
	var l []string
	for _, m := range members {
		l = append(l, m.Subscriber)
	}
	slices.Sort(l)
	return strings.Join(l, " ")
}

// there is one call of Presence.
func there(t *testing.T, b *Bus, join ...string) (present, lost string) {
	t.Helper()
	var changes []hub.Change
	for _, s := range join {
		changes = append(changes, hub.Change{Member: hub.Member{Subscriber: s, MatchType: "Exact", Match: "a"}})
	}
	var list []hub.Member
	gone, err := b.Presence(t.Context(), changes, func(m hub.Member) bool { list = append(list, m); return true })
	if err != nil {
		t.Fatal(err)
	}
	return subscribers(list), subscribers(gone)
}

// A process that dies without a word is missed by one of the others; one that was only away comes back.
func TestProcessDies(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	o := Options{Servers: []string{n.url()}, Name: newName()}
	const interval = time.Second
	a, b, c := open(t, o, time.Hour, interval), open(t, o, time.Hour, interval), open(t, o, time.Hour, interval)
	there(t, a, "a1", "a2")
	there(t, b, "b")
	if present, _ := there(t, c, "c"); present != "a1 a2 b c" {
		t.Fatalf("present: %s", present)
	}
	a.nc.Close() // and so says nothing any more
	var lost []string
	until(t, "the dead one is missed", func() bool {
		for _, x := range []*Bus{b, c} {
			if _, l := there(t, x); l != "" {
				lost = append(lost, l)
			}
		}
		return len(lost) > 0
	})
	if present, _ := there(t, c); present != "b c" {
		t.Errorf("present: %s", present)
	}
	// b is away for long enough, and c alone.
	until(t, "the one that is away is missed", func() bool {
		_, l := there(t, c)
		if l != "" {
			lost = append(lost, l)
		}
		return l != ""
	})
	if fmt.Sprint(lost) != "[a1 a2 b]" {
		t.Errorf("lost: %q", lost)
	}
	if present, l := there(t, b); present != "b c" || l != "" {
		t.Errorf("b is back: %s, lost %q", present, l)
	}
	if present, l := there(t, c); present != "b c" || l != "" {
		t.Errorf("c sees it: %s, lost %q", present, l)
	}
}

// Thousands of members are no burden; graves go away.
func TestManyMembers(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	o := Options{Servers: []string{n.url()}, Name: newName()}
	a, b := open(t, o, time.Hour, time.Second), open(t, o, time.Hour, time.Second)
	var all []string
	for i := range 5000 {
		all = append(all, fmt.Sprint("subscriber", i))
	}
	there(t, a, all...)
	if present, _ := there(t, b, "b"); len(strings.Fields(present)) != 5001 {
		t.Errorf("%d are present", len(strings.Fields(present)))
	}
	a.Close()
	if present, lost := there(t, b); present != "b" || len(strings.Fields(lost)) != 5000 {
		t.Errorf("%s is present, %d are lost", present, len(strings.Fields(lost)))
	}
	until(t, "nothing is left of the dead", func() bool {
		s, err := b.js.Stream(t.Context(), o.Name+"-presence")
		if err != nil {
			t.Fatal(err)
		}
		there(t, b)
		return s.CachedInfo().State.Msgs == 2 // b's sign of life and its slot
	})
}
