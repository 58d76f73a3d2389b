package sqlitebus

import (
	"context"
	"slices"
	"sync"

	"tandem/hub"
)

// presence is the members that this process has. In the file each process has a row, and one for
// each member. A process is dead when its socket refuses: whoever removes its row tells of its members.
type presence struct {
	lock chan struct{} // holds one while Presence runs

	own   map[memberKey]string // payloads
	stale bool                 // the file may not have what own has

	mu   sync.Mutex
	lost []hub.Member // that no caller has been told of yet
}

type memberKey struct{ subscriber, matchType, match string }

func keyOf(m hub.Member) memberKey { return memberKey{m.Subscriber, m.MatchType, m.Match} }

// Presence is hub.Bus's. It writes only if there is a change. Members of a process that died are lost at the
// next call, not only after PresenceInterval.
func (b *Bus) Presence(ctx context.Context, changes []hub.Change, list func(hub.Member) bool) ([]hub.Member, error) {
	p := &b.presence
	select {
	case p.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.closing:
		return nil, errClosed
	}
	lost, members, err := b.update(ctx, changes, list != nil)
	<-p.lock
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if !list(m) {
			break
		}
	}
	return lost, nil
}

// update is Presence with p.lock held.
func (b *Bus) update(ctx context.Context, changes []hub.Change, list bool) (lost, members []hub.Member, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	p := &b.presence
	for _, c := range changes {
		if c.Gone {
			delete(p.own, keyOf(c.Member))
			continue
		}
		if p.own == nil {
			p.own = make(map[memberKey]string)
		}
		p.own[keyOf(c.Member)] = c.Payload
	}
	if len(p.own) > 0 {
		if err := b.wake.listen(b); err != nil {
			p.stale = true
			return nil, nil, b.fault(err)
		}
	}
	var registered bool
	var dead []string
	if err := b.read(ctx, func(f *file) error {
		registered, dead = false, nil
		return f.rows(func(scan func(...any) error) (bool, error) {
			var name string
			if err := scan(&name); err != nil {
				return false, err
			}
			if name == b.name {
				registered = true
			} else if b.dead(name) {
				dead = append(dead, name)
			}
			return true, nil
		}, "SELECT name FROM processes")
	}); err != nil {
		p.stale = true
		return nil, nil, err
	}
	// Somebody has taken this process for dead, or the file is another one now.
	p.stale = p.stale || !registered && len(p.own) > 0
	if p.stale || len(changes) > 0 || len(dead) > 0 {
		if err := b.write(ctx, b.presenceJob(changes, dead)); err != nil {
			p.stale = true
			return nil, nil, err
		}
		p.stale = false
	}
	if list {
		if members, err = b.members(ctx); err != nil {
			return nil, nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	lost, p.lost = p.lost, nil
	return lost, members, nil
}

// presenceJob writes changes, or all of the process's members if the file may lack some, and removes the dead. It
// may run after its caller has given up: so what it needs is its own, and who is lost waits for the next caller.
func (b *Bus) presenceJob(changes []hub.Change, dead []string) *job {
	p := &b.presence
	changes = slices.Clone(changes)
	all := p.stale
	if all {
		changes = nil
		for k, payload := range p.own {
			changes = append(changes, hub.Change{Member: hub.Member{Subscriber: k.subscriber, MatchType: k.matchType, Match: k.match, Payload: payload}})
		}
	}
	var lost []hub.Member
	do := func(f *file) error {
		lost = nil
		for _, name := range dead {
			// If another process was faster there are none left.
			if err := f.rows(collect(&lost), selectMembers+" WHERE process = ?", name); err != nil {
				return err
			}
			if _, err := f.exec("DELETE FROM members WHERE process = ?", name); err != nil {
				return err
			}
			if _, err := f.exec("DELETE FROM processes WHERE name = ?", name); err != nil {
				return err
			}
		}
		if all {
			if _, err := f.exec("DELETE FROM members WHERE process = ?", b.name); err != nil {
				return err
			}
		}
		if len(changes) > 0 {
			if _, err := f.exec("INSERT INTO processes (name) VALUES (?) ON CONFLICT DO NOTHING", b.name); err != nil {
				return err
			}
		}
		for _, c := range changes {
			var err error
			if c.Gone {
				_, err = f.exec("DELETE FROM members WHERE process = ? AND subscriber = ? AND match_type = ? AND match = ?", b.name, c.Subscriber, c.MatchType, c.Match)
			} else {
				_, err = f.exec("INSERT OR REPLACE INTO members (process, subscriber, match_type, match, payload) VALUES (?, ?, ?, ?, ?)", b.name, c.Subscriber, c.MatchType, c.Match, c.Payload)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	committed := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lost = append(p.lost, lost...)
	}
	return &job{do: do, committed: committed, done: make(chan error, 1)}
}

const selectMembers = "SELECT subscriber, match_type, match, payload FROM members"

func collect(list *[]hub.Member) func(scan func(...any) error) (bool, error) {
	return func(scan func(...any) error) (bool, error) {
		var m hub.Member
		err := scan(&m.Subscriber, &m.MatchType, &m.Match, &m.Payload)
		*list = append(*list, m)
		return true, err
	}
}

func (b *Bus) members(ctx context.Context) (list []hub.Member, err error) {
	err = b.read(ctx, func(f *file) error {
		list = nil
		return f.rows(collect(&list), selectMembers)
	})
	return list, err
}
