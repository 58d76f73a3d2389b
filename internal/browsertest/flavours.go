package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// flavour is how a browser is started and found.
type flavour struct {
	command string
	args    func(profile string) []string
	file    string // in the profile: tells where it listens
	address func(text string) string
	dialect func(context.Context, *rpc) (dialect, error)
}

var flavours = map[Kind]*flavour{
	Chromium: {
		command: "chromium",
		args: func(profile string) []string {
			return []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
				"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--ignore-certificate-errors",
				"--user-data-dir=" + profile, "--remote-debugging-port=0", "about:blank"}
		},
		file: "DevToolsActivePort",
		address: func(text string) string {
			port, path, ok := strings.Cut(text, "\n")
			if !ok || path == "" {
				return ""
			}
			return "ws://127.0.0.1:" + port + strings.TrimSpace(path)
		},
		dialect: func(_ context.Context, r *rpc) (dialect, error) { return &devtools{r}, nil },
	},
	Firefox: {
		command: "firefox-esr",
		args: func(profile string) []string {
			// Nothing leaves the machine but what a test asks for.
			prefs := `user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("browser.safebrowsing.downloads.remote.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("app.update.enabled", false);
user_pref("dom.max_script_run_time", 0);
`
			os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs), 0o644)
			return []string{"--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0", "about:blank"}
		},
		file: "WebDriverBiDiServer.json",
		address: func(text string) string {
			var at struct {
				Host string `json:"ws_host"`
				Port int    `json:"ws_port"`
			}
			if json.Unmarshal([]byte(text), &at) != nil || at.Port == 0 {
				return ""
			}
			return fmt.Sprintf("ws://%s:%d/session", at.Host, at.Port)
		},
		dialect: func(ctx context.Context, r *rpc) (dialect, error) {
			return &bidi{r}, r.call(ctx, "", "session.new", obj{"capabilities": obj{"alwaysMatch": obj{"acceptInsecureCerts": true}}}, nil)
		},
	},
}

type obj = map[string]any

// devtools is Chromium's protocol. A tab is named by the session that is attached to it.
type devtools struct{ *rpc }

func (d *devtools) open(ctx context.Context) (string, error) {
	var target struct {
		ID string `json:"targetId"`
	}
	if err := d.call(ctx, "", "Target.createTarget", obj{"url": "about:blank"}, &target); err != nil {
		return "", err
	}
	var session struct {
		ID string `json:"sessionId"`
	}
	err := d.call(ctx, "", "Target.attachToTarget", obj{"targetId": target.ID, "flatten": true}, &session)
	return session.ID, err
}

func (d *devtools) navigate(ctx context.Context, tab, url string) error {
	var failed struct {
		Text string `json:"errorText"`
	}
	err := d.call(ctx, tab, "Page.navigate", obj{"url": url}, &failed)
	if err == nil && failed.Text != "" {
		err = fmt.Errorf("browsertest: %s: %s", url, failed.Text)
	}
	return err
}

func (d *devtools) eval(ctx context.Context, tab, js string) (string, error) {
	var r struct {
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	err := d.call(ctx, tab, "Runtime.evaluate", obj{"expression": js, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &r)
	if err == nil && r.Exception != nil {
		err = errors.New("browsertest: " + r.Exception.Text + " " + r.Exception.Exception.Description)
	}
	return r.Result.Value, err
}

func (d *devtools) front(ctx context.Context, tab string) error {
	return d.call(ctx, tab, "Page.bringToFront", nil, nil)
}

func (d *devtools) close(ctx context.Context, tab string) error {
	return d.call(ctx, tab, "Page.close", nil, nil)
}

func (d *devtools) screenshot(ctx context.Context, tab string, width, height int, dark bool) ([]byte, error) {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	if err := d.call(ctx, tab, "Emulation.setDeviceMetricsOverride", obj{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil); err != nil {
		return nil, err
	}
	if err := d.call(ctx, tab, "Emulation.setEmulatedMedia", obj{"features": []obj{{"name": "prefers-color-scheme", "value": scheme}}}, nil); err != nil {
		return nil, err
	}
	var r struct{ Data []byte }
	err := d.call(ctx, tab, "Page.captureScreenshot", nil, &r)
	return r.Data, err
}

// bidi is WebDriver BiDi. A tab is a browsing context.
type bidi struct{ *rpc }

func (b *bidi) open(ctx context.Context) (string, error) {
	var r struct{ Context string }
	err := b.call(ctx, "", "browsingContext.create", obj{"type": "tab"}, &r)
	return r.Context, err
}

func (b *bidi) navigate(ctx context.Context, tab, url string) error {
	return b.call(ctx, "", "browsingContext.navigate", obj{"context": tab, "url": url, "wait": "complete"}, nil)
}

func (b *bidi) eval(ctx context.Context, tab, js string) (string, error) {
	var r struct {
		Type      string
		Result    struct{ Value string }
		Exception struct {
			Text string
		} `json:"exceptionDetails"`
	}
	err := b.call(ctx, "", "script.evaluate", obj{"expression": js, "target": obj{"context": tab}, "awaitPromise": true, "userActivation": true}, &r)
	if err == nil && r.Type != "success" {
		err = errors.New("browsertest: " + r.Exception.Text)
	}
	return r.Result.Value, err
}

func (b *bidi) front(ctx context.Context, tab string) error {
	return b.call(ctx, "", "browsingContext.activate", obj{"context": tab}, nil)
}

func (b *bidi) close(ctx context.Context, tab string) error {
	return b.call(ctx, "", "browsingContext.close", obj{"context": tab}, nil)
}

func (b *bidi) screenshot(ctx context.Context, tab string, width, height int, _ bool) ([]byte, error) {
	if err := b.call(ctx, "", "browsingContext.setViewport", obj{"context": tab, "viewport": obj{"width": width, "height": height}}, nil); err != nil {
		return nil, err
	}
	var r struct{ Data []byte }
	err := b.call(ctx, "", "browsingContext.captureScreenshot", obj{"context": tab}, &r)
	return r.Data, err
}
