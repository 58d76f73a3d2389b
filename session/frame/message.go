package frame

// Message is what an app or a client sends and receives.
type Message struct {
	Data []byte
	Text bool // Data is UTF-8 text; false: binary
}

// Text makes a text message of s.
func Text(s string) Message { return Message{Data: []byte(s), Text: true} }
