package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
	"time"

	"tandem/hub"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// presence is who is there. It is the stream NAME-presence, which keeps the last message of each subject:
//
//	NAME.presence.PROCESS.alive  a process's sign of life, and its end
//	NAME.presence.PROCESS.SLOT   the members of this process whose hash is SLOT
//
// A process that isn't heard of is buried: one that finds it so puts a grave on its sign of life, on condition that this is still the
// last one, which the servers grant once. A process that finds its grave was only away: it goes on with another name.
// Times are those of the servers.
type presence struct {
	b        *Bus
	store    *store
	interval time.Duration
	me       string // this Bus, for graves

	lock   chan struct{} // that ctx can give up waiting for; it guards all below
	name   string        // this process in subjects
	alive  uint64        // its last sign of life, a sequence
	beaten time.Time     // when that was
	own    map[memberKey]hub.Member
	dirty  map[string]bool // slots that others don't know of

	read      uint64        // sequence up to which the stream was read
	clock     time.Duration // at least by so much are the servers' clocks ahead of ours
	processes map[string]*process
	lost      []hub.Member // not yet returned
	buried    map[string]bool
	steady    time.Time // calls came in time since then
	called    time.Time
}

// process is one as the stream shows it.
type process struct {
	time  time.Time // of the last message
	seq   uint64    // of the last sign of life; 0: none yet
	state string
	slots map[string][]hub.Member
}

// States of a process.
const (
	isAlive = "alive"
	hasLeft = "left"
	isDead  = "dead"
)

type sign struct {
	State string `json:"state"`
	By    string `json:"by,omitempty"` // who put a grave
}

type memberKey struct{ subscriber, matchType, match string }

func keyOf(m hub.Member) memberKey { return memberKey{m.Subscriber, m.MatchType, m.Match} }

// slots is on how many messages the members of a process are spread: one that comes or goes costs the writing of its slot.
const slots = 128

func (k memberKey) slot() string {
	h := fnv.New32a()
	for _, s := range []string{k.subscriber, k.matchType, k.match} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return strconv.Itoa(int(h.Sum32() % slots))
}

func newPresence(b *Bus, interval time.Duration) *presence {
	p := &presence{b: b, interval: interval, me: nuid.Next(), lock: make(chan struct{}, 1),
		own: make(map[memberKey]hub.Member), buried: make(map[string]bool)}
	p.store = &store{b: b, config: func() jetstream.StreamConfig {
		c := b.eventStream()
		c.Name += "-presence"
		c.Description = "Tandem: who is there in a hub"
		c.Subjects = []string{b.o.Name + ".presence.*.*"}
		c.MaxAge, c.MaxMsgs, c.MaxBytes, c.MaxMsgsPerSubject = 0, 0, 0, 1
		c.Duplicates, c.RePublish = 0, nil
		return c
	}}
	p.rename()
	return p
}

// rename begins again, as a process that nobody has heard of.
func (p *presence) rename() {
	p.name, p.alive, p.beaten, p.read = nuid.Next(), 0, time.Time{}, 0
	p.processes = make(map[string]*process)
	p.dirty = make(map[string]bool)
	for k := range p.own {
		p.dirty[k.slot()] = true
	}
}

func (p *presence) subject(process, what string) string {
	return p.b.o.Name + ".presence." + process + "." + what
}

// Presence applies changes, tells who is there and who was lost; see hub.Bus.
func (b *Bus) Presence(ctx context.Context, changes []hub.Change, list func(hub.Member) bool) ([]hub.Member, error) {
	p := b.there
	if b.ctx.Err() != nil {
		return nil, b.unavailable(ctx, "presence", b.ctx.Err())
	}
	select {
	case p.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("natsbus: presence: %w", ctx.Err())
	}
	present, lost, err := p.call(ctx, changes, list != nil)
	<-p.lock
	for _, members := range present {
		for _, m := range members {
			if !list(m) {
				return lost, err
			}
		}
	}
	return lost, err
}

func (p *presence) call(ctx context.Context, changes []hub.Change, list bool) (present [][]hub.Member, lost []hub.Member, err error) {
	now := time.Now()
	if p.steady.IsZero() || now.Sub(p.called) > 2*p.interval {
		p.steady = now
	}
	p.called = now
	defer func() {
		if err != nil {
			p.steady = time.Time{}
		}
	}()
	p.change(changes)
	if err := p.beat(ctx); err != nil {
		return nil, nil, err
	}
	if err := p.sync(ctx); err != nil {
		return nil, nil, err
	}
	if err := p.bury(ctx); err != nil {
		return nil, nil, err
	}
	lost, p.lost = p.lost, nil
	if list {
		for _, proc := range p.processes {
			if p.gone(proc) {
				continue
			}
			for _, members := range proc.slots {
				present = append(present, members)
			}
		}
	}
	return present, lost, nil
}

func (p *presence) change(changes []hub.Change) {
	for _, c := range changes {
		k := keyOf(c.Member)
		had, ok := p.own[k]
		switch {
		case c.Gone && !ok, !c.Gone && ok && had == c.Member:
			continue
		case c.Gone:
			delete(p.own, k)
		default:
			p.own[k] = c.Member
		}
		p.dirty[k.slot()] = true
	}
}

// beat tells the others that this process lives, if it has or had members, and who they are.
func (p *presence) beat(ctx context.Context) error {
	if len(p.dirty) == 0 && (p.alive == 0 || time.Since(p.beaten) < p.interval/4) {
		return nil
	}
	at := time.Now()
	seq, err := p.put(ctx, p.subject(p.name, "alive"), &sign{State: isAlive}, &p.alive)
	if wrongSequence(err) {
		p.rename()
		seq, err = p.put(ctx, p.subject(p.name, "alive"), &sign{State: isAlive}, &p.alive)
	}
	if err != nil {
		return err
	}
	p.alive, p.beaten = seq, at
	return p.flush(ctx)
}

// writers is how many slots are written at a time.
const writers = 16

// flush writes the slots that changed.
func (p *presence) flush(ctx context.Context) error {
	members := make(map[string][]hub.Member, len(p.dirty))
	for k, m := range p.own {
		if s := k.slot(); p.dirty[s] {
			members[s] = append(members[s], m)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	var written []string
	most := make(chan struct{}, writers)
	for slot := range p.dirty {
		most <- struct{}{}
		wg.Go(func() {
			defer func() { <-most }()
			_, err := p.put(ctx, p.subject(p.name, slot), members[slot], nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			written = append(written, slot)
		})
	}
	wg.Wait()
	for _, slot := range written {
		delete(p.dirty, slot)
	}
	return failed
}

// put stores a message, on condition that expected, unless nil, is the last one of its subject.
func (p *presence) put(ctx context.Context, subject string, v any, expected *uint64) (seq uint64, err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	m := nats.NewMsg(subject)
	m.Data = data
	m.Header.Set(jetstream.MsgIDHeader, nuid.Next())
	if expected != nil {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(*expected, 10))
	}
	err = p.store.do(ctx, "presence can't be written", func(once context.Context) error {
		if most := p.b.nc.MaxPayload(); most > 0 && int64(m.Size()) > most {
			return fatal{fmt.Errorf("natsbus: presence: %d bytes for some members, the server takes %d (max_payload): %w", m.Size(), most, hub.ErrTooLarge)}
		}
		ack, err := p.b.js.PublishMsg(once, m, jetstream.WithRetryAttempts(0))
		switch {
		case wrongSequence(err):
			return fatal{err}
		case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
			p.store.missed()
		}
		if err == nil {
			seq = ack.Sequence
		}
		return err
	})
	return seq, err
}

// codeWrongSequence and codeWrongSequenceConstant are JetStream's for an expected last sequence that isn't.
const (
	codeWrongSequence         jetstream.ErrorCode = 10071
	codeWrongSequenceConstant jetstream.ErrorCode = 10164
)

func wrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeWrongSequence || api.ErrorCode == codeWrongSequenceConstant)
}

// sync reads what the stream has got since the last time, to its end. A message that another one replaces
// meanwhile is found there.
func (p *presence) sync(ctx context.Context) error {
	c := &cursor{s: p.store, subject: p.subject("*", "*"), from: p.read + 1, asked: p.read == 0}
	for {
		if err := c.fill(ctx); err != nil || c.done {
			return err
		}
		now := time.Now()
		for _, m := range c.buf {
			p.clock = max(p.clock, m.time.Sub(now))
			p.apply(m)
			p.read = m.seq
		}
	}
}

func (p *presence) apply(m *message) {
	rest := strings.TrimPrefix(m.subject, p.b.o.Name+".presence.")
	name, what, _ := strings.Cut(rest, ".")
	proc := p.processes[name]
	if proc == nil {
		proc = &process{time: m.time, state: isAlive, slots: make(map[string][]hub.Member)}
		p.processes[name] = proc
	}
	if what != "alive" {
		var members []hub.Member
		if err := json.Unmarshal(m.data, &members); err != nil {
			p.b.log.Error("natsbus: members can't be read", "subject", m.subject, "error", err)
		}
		proc.slots[what] = members
		if proc.state == isAlive && m.time.After(proc.time) {
			proc.time = m.time
		}
		return
	}
	var s sign
	if err := json.Unmarshal(m.data, &s); err != nil {
		p.b.log.Error("natsbus: a sign of life can't be read", "subject", m.subject, "error", err)
	}
	proc.time, proc.seq, proc.state = m.time, m.seq, s.State
	if s.State != isDead {
		return
	}
	if s.By == p.me && !p.buried[name] {
		p.buried[name] = true
		for _, members := range proc.slots {
			p.lost = append(p.lost, members...)
		}
	}
	proc.slots = make(map[string][]hub.Member)
}

// away tells whether nothing was heard of a process for n intervals.
func (p *presence) away(proc *process, n int) bool {
	return time.Now().Add(p.clock).Sub(proc.time) > time.Duration(n)*p.interval
}

// gone tells whether a process's members aren't there any more.
func (p *presence) gone(proc *process) bool { return proc.state != isAlive || p.away(proc, 3) }

// bury ends processes that are gone. Not at this process's first calls, or when those were late: where the servers
// were away the others weren't heard of either, and have an interval's time.
func (p *presence) bury(ctx context.Context) error {
	graves := 0
	for name, proc := range p.processes {
		switch {
		case name == p.name:
			continue
		case proc.state == isDead:
			if p.away(proc, 3) { // whoever it concerns has seen it
				if err := p.purge(ctx, name, 0); err != nil {
					return err
				}
				delete(p.processes, name)
				delete(p.buried, name)
			}
			continue
		case proc.state == isAlive && (!p.away(proc, 3) || p.called.Sub(p.steady) < p.interval):
			continue
		}
		seq, err := p.put(ctx, p.subject(name, "alive"), &sign{State: isDead, By: p.me}, &proc.seq)
		switch {
		case wrongSequence(err):
			// Another process was faster, or it came back. Nothing at all is left if it is long ago.
			m, err := p.store.last(ctx, p.subject(name, "alive"))
			if err != nil {
				return err
			}
			if m == nil {
				delete(p.processes, name)
			}
		case err != nil:
			return err
		default:
			graves++
			defer func() { _ = p.purge(ctx, name, seq) }() // its members are read before
		}
	}
	if graves == 0 {
		return nil
	}
	return p.sync(ctx)
}

// purge removes what is stored of a process, before a sequence if that isn't 0.
func (p *presence) purge(ctx context.Context, name string, before uint64) error {
	request := struct {
		Filter string `json:"filter"`
		Seq    uint64 `json:"seq,omitempty"`
	}{p.subject(name, "*"), before}
	return p.store.do(ctx, "presence can't be pruned", func(ctx context.Context) error {
		return p.store.ask(ctx, "PURGE", request, &struct{}{})
	})
}

// leave tells the others that this process ends.
func (p *presence) leave() {
	ctx, cancel := context.WithTimeout(p.b.ctx, time.Second)
	defer cancel()
	select {
	case p.lock <- struct{}{}:
		defer func() { <-p.lock }()
	case <-ctx.Done():
		return
	}
	if p.alive == 0 || !p.b.nc.IsConnected() {
		return // or the others will miss it
	}
	if len(p.own) == 0 {
		_ = p.purge(ctx, p.name, 0)
		return
	}
	_, _ = p.put(ctx, p.subject(p.name, "alive"), &sign{State: hasLeft}, &p.alive)
}
