package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// store is one stream. Its answers are the leader's, but for batch.
type store struct {
	b      *Bus
	config func() jetstream.StreamConfig

	mu     sync.Mutex // one at a time opens it
	opened bool
}

// state is what a stream holds: sequences first to last, none if first is larger.
type state struct {
	first, last uint64
	// begin is the sequence that the stream began with.
	begin   uint64
	created time.Time
}

// message is one that is stored.
type message struct {
	subject string
	seq     uint64
	time    time.Time
	header  nats.Header
	data    []byte
}

func (b *Bus) eventStream() jetstream.StreamConfig {
	storage := jetstream.FileStorage
	if b.o.Memory {
		storage = jetstream.MemoryStorage
	}
	return jetstream.StreamConfig{
		Name:        b.o.Name,
		Description: "Tandem: the events of a hub",
		Subjects:    []string{b.allStored()},
		MaxAge:      b.o.MaxAge, MaxMsgs: b.o.MaxEvents, MaxBytes: b.o.MaxBytes,
		Storage: storage, Replicas: b.o.Replicas, Duplicates: b.o.DuplicateWindow,
		AllowDirect: true,
		RePublish:   &jetstream.RePublish{Source: b.allStored(), Destination: b.o.Name + ".live.{{wildcard(1)}}"},
		// Sequences grow also where a stream had to be made anew.
		FirstSeq: uint64(time.Now().UnixMicro()),
	}
}

// open makes the stream, or has its bounds be those of the options. It is done once, until the
// stream is missed.
func (s *store) open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened {
		return nil
	}
	want := s.config()
	stream, err := s.b.js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		_, err = s.b.js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err // another process was faster: look again
		}
	case err == nil:
		err = s.adjust(ctx, stream.CachedInfo().Config, want)
	}
	if err != nil {
		var api *jetstream.APIError
		if errors.As(err, &api) && api.Code >= 400 && api.Code < 500 {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
		return err
	}
	s.opened = true
	return nil
}

// adjust updates a stream that is there.
func (s *store) adjust(ctx context.Context, have, want jetstream.StreamConfig) error {
	if have.Storage != want.Storage {
		return fatal{fmt.Errorf("natsbus: stream %s has %v storage, expected %v: change the option Memory, or remove the stream and its events", want.Name, have.Storage, want.Storage)}
	}
	if len(have.Subjects) != 1 || have.Subjects[0] != want.Subjects[0] || have.Retention != want.Retention {
		return fatal{fmt.Errorf("natsbus: stream %s is not a hub's: it has the subjects %q and %v retention: choose another Name", want.Name, have.Subjects, have.Retention)}
	}
	now := have
	now.MaxAge, now.MaxBytes, now.MaxMsgs = want.MaxAge, unlimited(want.MaxBytes), unlimited(want.MaxMsgs)
	now.MaxMsgsPerSubject = unlimited(want.MaxMsgsPerSubject)
	now.Replicas, now.Duplicates, now.AllowDirect, now.RePublish = want.Replicas, want.Duplicates, want.AllowDirect, want.RePublish
	now.Discard, now.NoAck, now.Sealed = want.Discard, false, have.Sealed
	same := have.MaxAge == now.MaxAge && have.MaxBytes == now.MaxBytes && have.MaxMsgs == now.MaxMsgs && have.MaxMsgsPerSubject == now.MaxMsgsPerSubject &&
		have.Replicas == now.Replicas && (want.Duplicates == 0 || have.Duplicates == now.Duplicates) && have.AllowDirect && sameRePublish(have.RePublish, now.RePublish) &&
		have.Discard == now.Discard && !have.NoAck
	if same {
		return nil
	}
	if want.Duplicates == 0 {
		now.Duplicates = have.Duplicates
	}
	if _, err := s.b.js.UpdateStream(ctx, now); err != nil {
		return fmt.Errorf("stream %s has other bounds than the options, and they can't be changed: %w", want.Name, err)
	}
	s.b.log.Info("natsbus: the stream's bounds were changed", "stream", want.Name, "max_age", now.MaxAge, "max_events", now.MaxMsgs, "max_bytes", now.MaxBytes, "replicas", now.Replicas)
	return nil
}

// unlimited is how the servers say no bound.
func unlimited(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

func sameRePublish(a, b *jetstream.RePublish) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// do is a request of the stream, tried again as retry does, and after the stream was opened.
func (s *store) do(ctx context.Context, what string, op func(context.Context) error) error {
	return s.b.retry(ctx, what, func(ctx context.Context) error {
		if err := s.open(ctx); err != nil {
			return err
		}
		err := op(ctx)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			s.missed()
		}
		return err
	})
}

// missed has the stream looked for, or made, with the next request.
func (s *store) missed() {
	s.mu.Lock()
	s.opened = false
	s.mu.Unlock()
}

// ask is a request of JetStream's API that has an answer in JSON.
func (s *store) ask(ctx context.Context, verb string, request, answer any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return fatal{err}
		}
	}
	m, err := s.b.nc.RequestWithContext(ctx, "$JS.API.STREAM."+verb+"."+s.config().Name, body)
	if err != nil {
		return err
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &failed); err != nil {
		return err
	}
	if failed.Error != nil {
		return failed.Error
	}
	return json.Unmarshal(m.Data, answer)
}

func (s *store) state(ctx context.Context) (state, error) {
	var st state
	err := s.do(ctx, "the stream's state can't be read", func(ctx context.Context) error {
		var info jetstream.StreamInfo
		if err := s.ask(ctx, "INFO", nil, &info); err != nil {
			return err
		}
		st = state{first: info.State.FirstSeq, last: info.State.LastSeq, begin: max(info.Config.FirstSeq, 1), created: info.Created}
		return nil
	})
	return st, err
}

// get is what is asked of a stream's leader.
type get struct {
	Seq     uint64 `json:"seq,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
}

// one is nil where there is no such message.
func (s *store) one(ctx context.Context, g get) (*message, error) {
	var m *message
	err := s.do(ctx, "events can't be read", func(ctx context.Context) error {
		var answer struct {
			Message struct {
				Subject string    `json:"subject"`
				Seq     uint64    `json:"seq"`
				Header  []byte    `json:"hdrs"`
				Data    []byte    `json:"data"`
				Time    time.Time `json:"time"`
			} `json:"message"`
		}
		err := s.ask(ctx, "MSG.GET", g, &answer)
		var api *jetstream.APIError
		if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			m = nil
			return nil
		}
		if err != nil {
			return err
		}
		a := &answer.Message
		var h nats.Header
		if len(a.Header) > 0 {
			if h, err = nats.DecodeHeadersMsg(a.Header); err != nil {
				return fatal{fmt.Errorf("natsbus: message %d: %w", a.Seq, err)}
			}
		}
		m = &message{a.Subject, a.Seq, a.Time, h, a.Data}
		return nil
	})
	return m, err
}

// next is the first message with seq or more.
func (s *store) next(ctx context.Context, subject string, seq uint64) (*message, error) {
	return s.one(ctx, get{Seq: seq, NextFor: subject})
}

// last is the newest message.
func (s *store) last(ctx context.Context, subject string) (*message, error) {
	return s.one(ctx, get{LastFor: subject})
}

const (
	batchMessages = 256
	batchBytes    = 1 << 20
)

// batch is several messages from seq on, in order, without one left out between them. Any replica answers, which may not
// have the newest yet: that there are none is for next to say.
func (s *store) batch(ctx context.Context, subject string, seq uint64) ([]*message, error) {
	var all []*message
	err := s.do(ctx, "events can't be read", func(ctx context.Context) error {
		all = nil
		body, err := json.Marshal(map[string]any{"seq": seq, "next_by_subj": subject, "batch": batchMessages, "max_bytes": batchBytes})
		if err != nil {
			return fatal{err}
		}
		inbox := nats.NewInbox()
		sub, err := s.b.nc.SubscribeSync(inbox)
		if err != nil {
			return err
		}
		defer func() { _ = sub.Unsubscribe() }()
		if err := s.b.nc.PublishRequest("$JS.API.DIRECT.GET."+s.config().Name, inbox, body); err != nil {
			return err
		}
		var before uint64
		for len(all) < batchMessages {
			m, err := sub.NextMsgWithContext(ctx)
			if err != nil {
				if len(all) > 0 && errors.Is(err, context.DeadlineExceeded) {
					return nil // those are good
				}
				return err
			}
			switch status := m.Header.Get("Status"); status {
			case "":
			case "204", "404":
				return nil
			case "503":
				return nats.ErrNoResponders
			default:
				return fmt.Errorf("status %s %s", status, m.Header.Get("Description"))
			}
			x, err := direct(m)
			if err != nil {
				return fatal{fmt.Errorf("natsbus: %w", err)}
			}
			batched := m.Header.Get(jetstream.LastSequenceHeader) != ""
			if batched {
				if prev, err := number(m.Header, jetstream.LastSequenceHeader); err != nil || prev != before {
					return nil // one was lost on its way
				}
			}
			all, before = append(all, x), x.seq
			if !batched {
				return nil // a server before 2.11
			}
		}
		return nil
	})
	return all, err
}

// direct reads an answer that is the message itself.
func direct(m *nats.Msg) (*message, error) {
	seq, err := number(m.Header, jetstream.SequenceHeader)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return nil, err
	}
	return &message{strings.Clone(m.Header.Get(jetstream.SubjectHeader)), seq, at, m.Header, m.Data}, nil
}

// cursor reads the messages of a subject in order, to the end that the leader knows.
type cursor struct {
	s       *store
	subject string
	from    uint64 // where the next fill starts
	buf     []*message
	asked   bool
	done    bool
}

// fill reads messages behind those that were read, if there are any.
func (c *cursor) fill(ctx context.Context) error {
	var all []*message
	if c.asked { // most who ask miss nothing, or little: then the leader's word is enough
		var err error
		if all, err = c.s.batch(ctx, c.subject, c.from); err != nil {
			return err
		}
	}
	c.asked = true
	if len(all) == 0 {
		m, err := c.s.next(ctx, c.subject, c.from)
		if err != nil {
			return err
		}
		if m == nil {
			c.done = true
			return nil
		}
		all = []*message{m}
	}
	c.buf, c.from = all, all[len(all)-1].seq+1
	return nil
}
