package frame

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// benchFrames are messages as they come: plain text, text with a JSON object in
// it, which json must escape, and bytes; and a server's open frame.
func benchFrames() map[string]Frame {
	frames := map[string]Frame{}
	for _, size := range []int{64, MaxData} {
		for kind, sample := range map[string]string{"text": "grüße und so. ", "object": `{"k":"v"},`, "bytes": "\xff\x00\x80"} {
			data := bytes.Repeat([]byte(sample), size/len(sample))
			data = append(data, bytes.Repeat([]byte("x"), size-len(data))...)
			frames[fmt.Sprintf("%s/%d", kind, size)] = Frame{Type: TypeMessage, Seq: 123456, Data: data, Text: kind != "bytes"}
		}
	}
	frames["open"] = Frame{Type: TypeOpen, Version: Version, Session: strings.Repeat("x", 43), Transport: "single",
		Heartbeat: 15000, Window: 64 << 10, Messages: 64, Grace: 60000, MaxMessage: 1 << 20}
	return frames
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range Codecs() {
		for name, f := range benchFrames() {
			b.Run(c.Name()+"/"+name, func(b *testing.B) {
				buf := make([]byte, 0, MaxLine)
				b.SetBytes(int64(len(f.Data)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Append(buf, &f); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range Codecs() {
		for name, f := range benchFrames() {
			wire, err := c.Append(nil, &f)
			if err != nil || c == Lines && !f.Text {
				continue
			}
			b.Run(c.Name()+"/"+name, func(b *testing.B) {
				d := c.NewDecoder()
				var got Frame
				b.SetBytes(int64(len(f.Data)))
				b.ReportAllocs()
				for b.Loop() {
					if n, err := d.Decode(wire, &got); n != len(wire) || err != nil {
						b.Fatal(n, err)
					}
				}
			})
		}
	}
}
