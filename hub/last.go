package hub

import (
	"context"
	"fmt"
)

// LastID is the ID of the newest event of all topics; "": there was none yet.
func (h *Hub) LastID(ctx context.Context) (string, error) {
	span, err := h.bus.History(ctx, Query{}, func(*Event) bool { return true })
	if err != nil {
		return "", fmt.Errorf("hub: history: %w", err)
	}
	return span.LastID, nil
}
