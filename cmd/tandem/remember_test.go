package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tandem/client"
)

func TestFileMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cache", "tandem", "transports.json")
	m := fileMemory(file)
	if _, ok := m.Recall("http://a/"); ok {
		t.Error("something is known from the start")
	}
	k := client.Known{Transport: "split", Best: []string{"single", "split"}, Until: time.Now().Add(time.Hour).Truncate(time.Second).UTC()}
	m.Remember("http://a/", k)
	m.Remember("http://old/", client.Known{Transport: "poll", Until: time.Now().Add(-time.Hour)})
	m.Remember("http://b/", k)
	if got, ok := m.Recall("http://a/"); !ok || fmt.Sprint(got) != fmt.Sprint(k) {
		t.Errorf("expected %v, got %v", k, got)
	}
	if _, ok := m.Recall("http://old/"); ok {
		t.Error("what is out of date is kept")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("expected mode 0600, got %v, %v", info.Mode(), err)
	}
	m.Remember("http://a/", client.Known{})
	if _, ok := m.Recall("http://a/"); ok {
		t.Error("what was forgotten is known")
	}
	for i := range 3 * mostRemembered {
		m.Remember(fmt.Sprintf("http://%d/", i), k)
	}
	if n := len(m.read()); n > mostRemembered {
		t.Errorf("%d endpoints are remembered", n)
	}

	// A file that is not one, or can't be: nothing is known, and nothing fails.
	writeFile(t, file, "{{{")
	if _, ok := m.Recall("http://1/"); ok {
		t.Error("known from garbage")
	}
	m.Remember("http://a/", k)
	if _, ok := m.Recall("http://a/"); !ok {
		t.Error("garbage stays")
	}
	nowhere := fileMemory(filepath.Join(file, "below", "a", "file"))
	nowhere.Remember("http://a/", k)
	if _, ok := nowhere.Recall("http://a/"); ok {
		t.Error("known from nowhere")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "transports-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
