package problem

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
)

func TestWrite(t *testing.T) {
	w := httptest.NewRecorder()
	const detail = "a \"quote\", a \\, a\ttab, an \x01, a bad \xff and an é"
	Write(w, 400, detail)
	var got struct {
		Title, Detail string
		Status        int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if got.Title != "Bad Request" || got.Status != 400 || got.Detail != "a \"quote\", a \\, a\ttab, an \x01, a bad \ufffd and an é" {
		t.Errorf("got %+v", got)
	}
}
