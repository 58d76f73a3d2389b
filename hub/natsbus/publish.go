package natsbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tandem/hub"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream's error codes that another try doesn't change, as nats-server's errors.json numbers them.
const (
	codeResources       jetstream.ErrorCode = 10002 // of the account
	codeInsufficient    jetstream.ErrorCode = 10023
	codeMemoryExceeded  jetstream.ErrorCode = 10028
	codeStorageExceeded jetstream.ErrorCode = 10047
	codeMessageTooLarge jetstream.ErrorCode = 10054
	codeStoreFailed     jetstream.ErrorCode = 10077 // a full disk, or a bound
	codeHeaderTooLarge  jetstream.ErrorCode = 10097
)

// Publish stores e; see hub.Bus. An attempt without an answer is made again, under the same ID, while
// ctx allows.
func (b *Bus) Publish(ctx context.Context, e *hub.Event) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("natsbus: publish: %w", err)
	}
	e.Time = time.Unix(0, time.Now().UnixNano())
	const what = "an event can't be stored"
	m, err := b.encode(e)
	if err != nil {
		return fmt.Errorf("natsbus: publish: %w", err)
	}
	return b.events.do(ctx, what, func(once context.Context) error {
		if most := b.nc.MaxPayload(); most > 0 && int64(m.Size()) > most {
			return fatal{fmt.Errorf("natsbus: the event needs %d bytes, the server takes %d (max_payload): %w", m.Size(), most, hub.ErrTooLarge)}
		}
		ack, err := b.js.PublishMsg(once, m, jetstream.WithRetryAttempts(0))
		var api *jetstream.APIError
		switch {
		case err == nil:
			e.Seq = ack.Sequence
			return nil
		case errors.Is(err, nats.ErrMaxPayload):
			return fatal{fmt.Errorf("natsbus: %w: %w", err, hub.ErrTooLarge)}
		case errors.As(err, &api):
			switch api.ErrorCode {
			case codeMessageTooLarge, codeHeaderTooLarge:
				return fatal{fmt.Errorf("natsbus: %w: %w", err, hub.ErrTooLarge)}
			case codeResources, codeInsufficient, codeMemoryExceeded, codeStorageExceeded, codeStoreFailed:
				return fatal{b.unavailable(ctx, what, err)}
			}
		case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
			b.events.missed()
		}
		return err
	})
}
