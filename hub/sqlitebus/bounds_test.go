package sqlitebus

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tandem/hub"
)

// clock is a test's.
type clock struct{ now atomic.Int64 }

func (c *clock) add(d time.Duration) time.Time { return time.UnixMicro(c.now.Add(d.Microseconds())) }
func (c *clock) time() time.Time               { return c.add(0) }

// 24 h worth of publishes, now many and now few, now long and now short, by two processes: the history and the file stay within their bounds.
func TestDay(t *testing.T) {
	day(t, 6000, Options{MaxAge: time.Hour, MaxEvents: 300, MaxBytes: 256 << 10}, 1500)
}

// day has total events published within 24 h.
func day(t testing.TB, total int, opts Options, data int) {
	const seed, workers = 7, 8
	var now clock
	now.now.Store(time.Now().UnixMicro())
	opts.now = now.time
	path := newPath(t)
	buses := []*Bus{newBus(t, path, opts), newBus(t, path, opts)}
	var worst, log int64
	const phases = 12
	for phase := range phases {
		// In even phases events are short, so that their number counts; every third is slow, so that age does.
		most, pause := data, 24*time.Hour/time.Duration(total)
		if phase%2 == 0 {
			most = data / 20
		}
		n := total / phases
		if phase%3 == 2 {
			n, pause = n/10, pause*10
		}
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(phase*workers+w)))
				for i := range n / workers {
					now.add(pause)
					e := &hub.Event{ID: fmt.Sprintf("%x-%d-%d-%d", random.Uint64(), phase, w, i), Topic: fmt.Sprint("https://example.com/", random.IntN(100)), Data: strings.Repeat("x", random.IntN(most))}
					if err := buses[w%2].Publish(t.Context(), e); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for i := range int(opts.MaxEvents / 4) { // time stands still, and what is too old goes
			publish(t, buses[i%2], fmt.Sprint("settle ", phase, " ", i), "t", "")
		}
		worst, log = max(worst, fileSize(t, path)), max(log, fileSize(t, path+"-wal"))
		var count, bytes, old int64
		if err := buses[0].read(t.Context(), func(f *file) error {
			_, err := f.row([]any{&count, &bytes, &old}, "SELECT count(*), sum(size), coalesce(sum(time < ?), 0) FROM events", buses[0].oldest())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		events, span := history(t, buses[1], hub.Query{Earliest: true})
		if count > opts.MaxEvents || bytes > opts.MaxBytes || old > 0 || int64(len(events)) > count || len(events) == 0 || span.Complete && phase > 0 {
			t.Errorf("phase %d: %d events with %d bytes are stored, %d of them too old, history has %d, %+v", phase, count, bytes, old, len(events), span)
		}
		for _, e := range events {
			if age := now.time().Sub(e.Time); age > opts.MaxAge {
				t.Errorf("phase %d: history has an event that is %v old", phase, age)
				break
			}
		}
		t.Logf("phase %d: %d events, %d bytes, file %d, log %d", phase, count, bytes, fileSize(t, path), fileSize(t, path+"-wal"))
	}
	if most := opts.MaxBytes*3/2 + 128<<10; worst > most {
		t.Errorf("the file grew to %d bytes, expected %d at most", worst, most)
	}
	if most := int64(2 * maxLog); log > most {
		t.Errorf("the log grew to %d bytes, expected %d at most", log, most)
	}
	intact(t, path)
}

func fileSize(t testing.TB, path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// What is too old isn't passed on, though nothing was published that would have removed it; but for where it stands.
func TestAge(t *testing.T) {
	var now clock
	now.now.Store(time.Now().UnixMicro())
	b := newBus(t, newPath(t), Options{MaxAge: time.Hour, now: now.time})
	publish(t, b, "a", "t", "")
	now.add(40 * time.Minute)
	publish(t, b, "b", "t", "")
	for _, tt := range []struct {
		after     time.Duration
		earliest  string
		complete  bool
		behindA   string
		completeA bool
	}{
		{0, "a b", true, "b", true},
		{30 * time.Minute, "b", false, "b", true},
		{40 * time.Minute, "", false, "", false},
	} {
		now.add(tt.after)
		for _, q := range []struct {
			hub.Query
			want     string
			complete bool
		}{
			{hub.Query{Earliest: true}, tt.earliest, tt.complete},
			{hub.Query{After: "a", Topics: []string{"t"}}, tt.behindA, tt.completeA},
			{hub.Query{After: "b"}, "", true},
		} {
			events, span := history(t, b, q.Query)
			var got []string
			for _, e := range events {
				got = append(got, e.ID)
			}
			if strings.Join(got, " ") != q.want || span.Complete != q.complete || span.LastID != "b" {
				t.Errorf("%v later, %+v: got %q, %+v", tt.after, q.Query, got, span)
			}
		}
	}
}

// What is pruned while a history is read, which takes pages, makes it incomplete; a follower that comes too late is told of a gap.
func TestPrunedMeanwhile(t *testing.T) {
	for _, topics := range [][]string{nil, {"t"}} {
		b := newBus(t, newPath(t), Options{MaxEvents: 2 * pageEvents})
		for i := range 2 * pageEvents {
			publish(t, b, fmt.Sprint(i), "t", "")
		}
		n := 0
		span, err := b.History(t.Context(), hub.Query{Topics: topics, Earliest: true}, func(*hub.Event) bool {
			if n++; n == 1 {
				for i := range pageEvents + 10 {
					publish(t, b, fmt.Sprint("more ", i), "t", "")
				}
			}
			return true
		})
		if want := 2*pageEvents - 10; err != nil || span.Complete || n != want {
			t.Errorf("topics %q: %d events, expected %d; %+v, %v", topics, n, want, span, err)
		}
	}

	path := newPath(t)
	a, b := newBus(t, path, Options{}), newBus(t, path, Options{MaxEvents: 3})
	live := follow(t, a, "t")
	publish(t, b, "0", "t", "")
	if got := next(t, live); got != "0" {
		t.Fatal(got)
	}
	a.reader.lock <- struct{}{} // a can't look
	for i := range 10 {
		publish(t, b, fmt.Sprint("e", i), "t", "")
	}
	<-a.reader.lock
	for _, want := range []string{"gap", "e7", "e8", "e9"} {
		if got := next(t, live); got != want {
			t.Errorf("got %q, expected %q", got, want)
		}
	}
}
