package program

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"tandem/session/frame"
)

const testLimit = 8

var allFramings = []Framing{FramingLines, FramingNetstring, FramingJSON}

// decodeAll decodes output that comes in pieces of size bytes.
func decodeAll(f Framing, output []byte, size int) (ms []frame.Message, err error) {
	d := newFraming(f).decoder(testLimit)
	var p []byte
	for piece := range slices.Chunk(output, size) {
		p = append(p, piece...)
		for len(p) > 0 {
			m, n, ok, err := d.decode(p)
			if err != nil {
				return ms, err
			}
			if ok {
				m.Data = bytes.Clone(m.Data)
				ms = append(ms, m)
			}
			if n == 0 {
				break
			}
			p = p[n:]
		}
	}
	m, ok, err := d.eof(p)
	if ok {
		ms = append(ms, m)
	}
	return ms, err
}

func TestDecode(t *testing.T) {
	for _, tc := range []struct {
		framing Framing
		output  string
		want    []string // binary messages begin with "b"
		code    frame.Code
	}{
		{FramingLines, "a\n\n b\r\nlast", []string{"a", "", " b\r", "last"}, 0},
		{FramingLines, "\xff\n", []string{"b\xff"}, 0},
		{FramingLines, "12345678\n", []string{"12345678"}, 0},
		{FramingLines, "123456789\n", nil, frame.CodeTooBig},
		{FramingLines, "1234567890", nil, frame.CodeTooBig},

		{FramingNetstring, "1:a,0:,3:x\ny,8:12345678,", []string{"a", "", "x\ny", "12345678"}, 0},
		{FramingNetstring, "2:\xff\n,", []string{"b\xff\n"}, 0},
		{FramingNetstring, "9:", nil, frame.CodeTooBig},
		{FramingNetstring, "99999999999999999999999999", nil, frame.CodeTooBig},
		{FramingNetstring, "01:a,", nil, frame.CodeInternal},
		{FramingNetstring, "00:,", nil, frame.CodeInternal},
		{FramingNetstring, ":a,", nil, frame.CodeInternal},
		{FramingNetstring, "-1:a,", nil, frame.CodeInternal},
		{FramingNetstring, "1:a,\n", []string{"a"}, frame.CodeInternal},
		{FramingNetstring, "1:ab", nil, frame.CodeInternal},
		{FramingNetstring, "1:a", nil, frame.CodeInternal},
		{FramingNetstring, "1", nil, frame.CodeInternal},

		{FramingJSON, `{"data":"a"}` + "\n\n \r\n" + `{"data64":"/w==","more":[1]}` + "\n" + `{"data":"end"}`, []string{"a", "b\xff", "end"}, 0},
		{FramingJSON, `{"data":"\n\u00e9\ud83d\ude00"}`, []string{"\né😀"}, 0},
		{FramingJSON, `{"data":"\\ud800"}`, []string{`\ud800`}, 0},
		{FramingJSON, `{"data":"` + strings.Repeat(`\u0041`, 8) + `"}`, []string{"AAAAAAAA"}, 0},
		{FramingJSON, `{"data":"123456789"}`, nil, frame.CodeTooBig},
		{FramingJSON, strings.Repeat(" ", 6*testLimit+1025) + "\n", nil, frame.CodeTooBig},
		{FramingJSON, `{"data":"\ud800"}`, nil, frame.CodeInternal},
		{FramingJSON, `{"data":"\ud800\ud800"}`, nil, frame.CodeInternal},
		{FramingJSON, `{"data":"\ude00"}`, nil, frame.CodeInternal},
		{FramingJSON, "{\"data\":\"\xff\"}", nil, frame.CodeInternal},
		{FramingJSON, `{"Data":"a"}`, nil, frame.CodeInternal},
		{FramingJSON, `{}`, nil, frame.CodeInternal},
		{FramingJSON, `null`, nil, frame.CodeInternal},
		{FramingJSON, `"a"`, nil, frame.CodeInternal},
		{FramingJSON, `{"data":null}`, nil, frame.CodeInternal},
		{FramingJSON, `{"data":1}`, nil, frame.CodeInternal},
		{FramingJSON, `{"data":"a","data64":""}`, nil, frame.CodeInternal},
		{FramingJSON, `{"data64":"/w"}`, nil, frame.CodeInternal},
		{FramingJSON, `{"data":"a"} {"data":"b"}`, nil, frame.CodeInternal},
	} {
		for _, size := range []int{1, 2, 1 << 20} {
			ms, err := decodeAll(tc.framing, []byte(tc.output), size)
			var got []string
			for _, m := range ms {
				if m.Text {
					got = append(got, string(m.Data))
				} else {
					got = append(got, "b"+string(m.Data))
				}
			}
			if !slices.Equal(got, tc.want) || code(err) != tc.code {
				t.Errorf("%s %q in pieces of %d: got %q, %v; expected %q, code %d", tc.framing, tc.output, size, got, err, tc.want, tc.code)
			}
		}
	}
}

func TestEncode(t *testing.T) {
	for _, tc := range []struct {
		framing Framing
		m       frame.Message
		want    string
	}{
		{FramingLines, frame.Text("a\r"), "a\r\n"},
		{FramingLines, frame.Text(""), "\n"},
		{FramingNetstring, frame.Text("a\nb"), "3:a\nb,"},
		{FramingNetstring, frame.Text(""), "0:,"},
		{FramingJSON, frame.Text("a\n<\"😀"), `{"data":"a\n<\"😀"}` + "\n"},
		{FramingJSON, frame.Message{Data: []byte{0xff}}, `{"data64":"/w=="}` + "\n"},
		{FramingJSON, frame.Message{}, `{"data64":""}` + "\n"},
	} {
		got, err := newFraming(tc.framing).encode([]byte("before "), tc.m)
		if err != nil || string(got) != "before "+tc.want {
			t.Errorf("%s %q: got %q, %v", tc.framing, tc.m.Data, got, err)
		}
	}
}

// FuzzDecode: whatever a program writes, pieces make no difference, messages
// keep within the limit, and what was decoded comes out of encode and decode again.
func FuzzDecode(f *testing.F) {
	f.Add(byte(0), []byte("a\nb\r\n\xff\nlast"), 3)
	f.Add(byte(1), []byte("1:a,0:,3:x\ny,"), 1)
	f.Add(byte(1), []byte("8:12345678,9:"), 4)
	f.Add(byte(2), []byte(`{"data":"a\ud83d\ude00"}`+"\n"+`{"data64":"/w=="}`), 7)
	f.Add(byte(2), []byte(`{"data":"\ud800"}`), 2)
	f.Fuzz(func(t *testing.T, which byte, output []byte, size int) {
		framing := allFramings[int(which)%len(allFramings)]
		whole, wholeErr := decodeAll(framing, output, max(1, len(output)))
		if size < 1 {
			size = 1
		}
		pieces, piecesErr := decodeAll(framing, output, size)
		if code(wholeErr) != code(piecesErr) || !slices.EqualFunc(whole, pieces, equal) {
			t.Fatalf("%s %q: whole %s, %v; in pieces of %d %s, %v", framing, output, fmt.Sprint(whole), wholeErr, size, fmt.Sprint(pieces), piecesErr)
		}
		var again []byte
		for _, m := range whole {
			if len(m.Data) > testLimit {
				t.Fatalf("%s %q: a message of %d bytes", framing, output, len(m.Data))
			}
			var err *frame.CloseError
			if again, err = newFraming(framing).encode(again, m); err != nil {
				t.Fatalf("%s: %q does not encode: %v", framing, m.Data, err)
			}
		}
		if back, err := decodeAll(framing, again, size); err != nil || !slices.EqualFunc(whole, back, equal) {
			t.Fatalf("%s: %s became %s, %v", framing, fmt.Sprint(whole), fmt.Sprint(back), err)
		}
	})
}

func equal(a, b frame.Message) bool { return a.Text == b.Text && bytes.Equal(a.Data, b.Data) }

// FuzzEncode: every text message that has a form in json is that JSON.
func FuzzEncode(f *testing.F) {
	f.Add("a\n\u2028\x00")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := jsonLines{}.encode(nil, frame.Text(text))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(b, '\n') != len(b)-1 || !json.Valid(b) {
			t.Fatalf("%q became %q", text, b)
		}
	})
}

// An output's buffer follows its messages, up and down.
func TestOutputCopy(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var want []string
	exited := make(chan struct{})
	o := &output{pipe: r, dec: lines{}.decoder(1 << 20), exited: exited}
	go func() {
		defer func() {
			w.Close()
			close(exited)
			o.wake()
		}()
		for _, n := range []int{0, 1, bufferSize - 1, bufferSize, 3 * bufferSize, keepBuffer, 5 * keepBuffer, 10, bufferSize - 20, 7} {
			if _, err := io.WriteString(w, strings.Repeat("x", n)+"\n"); err != nil {
				return
			}
		}
	}()
	for _, n := range []int{0, 1, bufferSize - 1, bufferSize, 3 * bufferSize, keepBuffer, 5 * keepBuffer, 10, bufferSize - 20, 7} {
		want = append(want, strings.Repeat("x", n))
	}
	var got []string
	o.copy(func(m frame.Message) error {
		got = append(got, string(m.Data))
		return nil
	})
	if o.truncated || o.err != nil {
		t.Error(o.truncated, o.err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("lengths %d, expected %d", len(got), len(want))
	}
}

// wake may come after a read has seen the exit by itself: nothing is lost by it.
func TestWakeIsNotTheEnd(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	exited := make(chan struct{})
	close(exited)
	o := &output{pipe: r, dec: lines{}.decoder(100), exited: exited}
	got := make(chan string)
	go func() {
		defer close(got)
		if o.copy(func(m frame.Message) error { got <- string(m.Data); return nil }); o.err != nil {
			t.Error(o.err)
		}
	}()
	for range 200 {
		o.wake()
		if _, err := io.WriteString(w, "x\n"); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != "x" {
			t.Fatalf("got %q", s)
		}
	}
	w.Close()
	if s, ok := <-got; ok {
		t.Errorf("then %q", s)
	}
}

func TestOptionErrors(t *testing.T) {
	dir := t.TempDir()
	plain := dir + "/plain"
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cat := []string{"cat"}
	for _, tc := range []struct {
		o    Options
		key  string
		text string
	}{
		{Options{}, "command", "names no program"},
		{Options{Command: []string{""}}, "command", "names no program"},
		{Options{Command: []string{"/no/such"}}, "command", "/no/such"},
		{Options{Command: []string{"no-such-program"}}, "command", "/usr/bin"},
		{Options{Command: []string{"./cat"}}, "command", "relative"},
		{Options{Command: []string{dir}}, "command", "folder"},
		{Options{Command: []string{plain}}, "command", "chmod +x"},
		{Options{Command: []string{"cat", "a\x00b"}}, "command", "NUL"},
		{Options{Command: cat, Dir: "/no/such"}, "dir", "/no/such"},
		{Options{Command: cat, Dir: plain}, "dir", "not a folder"},
		{Options{Command: cat, Env: []string{"A"}}, "env", "NAME=value"},
		{Options{Command: cat, Env: []string{"=a"}}, "env", "NAME=value"},
		{Options{Command: cat, Env: []string{"1A=a"}}, "env", "NAME=value"},
		{Options{Command: cat, Env: []string{"A=\x00"}}, "env", "NAME=value"},
		{Options{Command: cat, PassEnv: []string{"A=b"}}, "pass_env", "name"},
		{Options{Command: cat, PassEnv: []string{"HTTP_PROXY"}}, "pass_env", "request"},
		{Options{Command: cat, PassEnv: []string{"QUERY_STRING"}}, "pass_env", "request"},
		{Options{Command: cat, Framing: "xml"}, "framing", `"lines"`},
		{Options{Command: cat, Stderr: "file"}, "stderr", `"client"`},
		{Options{Command: cat, MaxMessage: -1}, "max_message", "1 GiB"},
		{Options{Command: cat, MaxMessage: 1 << 40}, "max_message", "1 GiB"},
	} {
		_, err := New(tc.o)
		e, ok := err.(*OptionError)
		if !ok || e.Key != tc.key || !strings.Contains(e.Text, tc.text) {
			t.Errorf("%+v gave %v, expected key %s and %q", tc.o, err, tc.key, tc.text)
		}
	}
}
