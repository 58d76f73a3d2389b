package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"tandem/client"
)

// fileMemory is a file in which tandem connect remembers the transport that works
// for an endpoint, so that the next session starts at once. It is a convenience: where
// it can't be read or written, or two write at a time, something is looked for once
// more. Hosts and paths are in it, so it is for its owner's eyes.
type fileMemory string

// mostRemembered bounds the file, in endpoints.
const mostRemembered = 100

// transportsFile is where it is, empty if there is no place for it.
func transportsFile() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "tandem", "transports.json")
}

func (f fileMemory) read() map[string]client.Known {
	known := make(map[string]client.Known)
	if b, err := os.ReadFile(string(f)); err == nil && json.Unmarshal(b, &known) != nil {
		return make(map[string]client.Known)
	}
	return known
}

// Recall gives what is known of an endpoint.
func (f fileMemory) Recall(endpoint string) (client.Known, bool) {
	k, ok := f.read()[endpoint]
	return k, ok
}

// Remember replaces what is known of an endpoint.
func (f fileMemory) Remember(endpoint string, k client.Known) {
	known := f.read()
	for name, old := range known {
		if time.Now().After(old.Until) {
			delete(known, name)
		}
	}
	delete(known, endpoint)
	if len(known) >= mostRemembered {
		clear(known)
	}
	if k.Transport != "" {
		known[endpoint] = k
	}
	b, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return
	}
	dir := filepath.Dir(string(f))
	if os.MkdirAll(dir, 0o700) != nil {
		return
	}
	tmp, err := os.CreateTemp(dir, "transports-*") // 0600
	if err != nil {
		return
	}
	defer os.Remove(tmp.Name()) // fails where it was renamed
	_, err = tmp.Write(append(b, '\n'))
	if tmp.Close() == nil && err == nil {
		os.Rename(tmp.Name(), string(f))
	}
}
