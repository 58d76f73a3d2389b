package natsbus

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// maxToken is the longest token that shows a topic: longer ones show a hash. A subject has to fit
// a line of NATS' protocol with others, 4096 bytes by default.
const maxToken = 400

// token is a topic as one token of a subject. What could be a separator, a wildcard or no
// text on a terminal becomes %XX, as in URLs. Two topics never have one token, but for a collision of SHA-256.
func token(topic string) string {
	var t strings.Builder
	for _, c := range []byte(topic) {
		if c > ' ' && c < 0x7f && !strings.ContainsRune(`.*>%$"\`, rune(c)) {
			t.WriteByte(c)
		} else {
			fmt.Fprintf(&t, "%%%02X", c)
		}
		if t.Len() > maxToken {
			sum := sha256.Sum256([]byte(topic))
			return "%sha256-" + base64.RawURLEncoding.EncodeToString(sum[:])
		}
	}
	if topic == "" {
		return "%"
	}
	return t.String()
}

func (b *Bus) stored(topic string) string { return b.o.Name + ".event." + token(topic) }

func (b *Bus) allStored() string { return b.o.Name + ".event.*" }
func (b *Bus) allLive() string   { return b.o.Name + ".live.*" }

// msgID is the name of an event's ID with the servers, which keep it in memory.
func msgID(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
