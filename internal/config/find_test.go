package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) string {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o700); err != nil {
			t.Fatal(err)
		}
		return p
	}
	exe := write("bin/tandem", "binary")
	script := write("chat", "#!"+exe+"\napp='echo'\n")
	env := write("env-chat", "#!/usr/bin/env -S "+exe+"\napp='echo'\n")
	shell := write("wrapper", "#!/bin/sh\nexec tandem\n")
	beside := write("bin2/tandem.toml", "app='echo'\n")
	exe2 := write("bin2/tandem", "binary")
	system := write("system.toml", "app='echo'\n")
	none := filepath.Join(dir, "none")

	for _, tt := range []struct {
		name    string
		p       Process
		env     map[string]string
		want    string
		wantSrc string
	}{
		{name: "flag first", p: Process{Flag: "x.toml", Args: []string{"t", script}}, env: map[string]string{"TANDEM_CONFIG": system}, want: "x.toml", wantSrc: "-c"},
		{name: "script in CGI", p: Process{CGI: true, Args: []string{"t", script}}, env: map[string]string{"SCRIPT_FILENAME": script, "TANDEM_CONFIG": system}, want: script, wantSrc: "#! script"},
		{name: "script through env", p: Process{CGI: true, Args: []string{"t", env}}, env: map[string]string{"SCRIPT_FILENAME": env}, want: env, wantSrc: "#! script"},
		{name: "script with a query's words behind", p: Process{CGI: true, Args: []string{"t", script, "-c", system}}, env: map[string]string{"SCRIPT_FILENAME": script}, want: script, wantSrc: "#! script"},
		{name: "script outside of CGI", p: Process{Args: []string{"t", script}}, want: script, wantSrc: "#! script"},

		{name: "query names a script that was not started", p: Process{CGI: true, Args: []string{"t", script}}, env: map[string]string{"SCRIPT_FILENAME": exe}},
		{name: "query names a script, server names none", p: Process{CGI: true, Args: []string{"t", script}}},
		{name: "query names the binary", p: Process{CGI: true, Args: []string{"t", exe}}, env: map[string]string{"SCRIPT_FILENAME": exe}},
		{name: "query names the shell script around it", p: Process{CGI: true, Args: []string{"t", shell}}, env: map[string]string{"SCRIPT_FILENAME": shell}},
		{name: "query names any file", p: Process{CGI: true, Args: []string{"t", "/etc/passwd"}}, env: map[string]string{"SCRIPT_FILENAME": exe}},
		{name: "query has -c", p: Process{CGI: true, Args: []string{"t", "-c", system}}, env: map[string]string{"SCRIPT_FILENAME": exe}},
		{name: "names that a request can set", p: Process{CGI: true, Args: []string{"t"}}, env: map[string]string{
			"HTTP_TANDEM_CONFIG": system, "REDIRECT_TANDEM_CONFIG": system, "QUERY_STRING": "TANDEM_CONFIG=" + system, "PATH_INFO": system, "PATH_TRANSLATED": script}},

		{name: "TANDEM_CONFIG", env: map[string]string{"TANDEM_CONFIG": none}, want: none, wantSrc: "TANDEM_CONFIG"},
		{name: "beside the binary", p: Process{Executable: exe2, System: system}, want: beside, wantSrc: "beside the binary"},
		{name: "system", p: Process{System: system}, want: system, wantSrc: "system"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.p
			p.Getenv = func(k string) string { return tt.env[k] }
			if p.Executable == "" {
				p.Executable = exe
			}
			if p.System == "" {
				p.System = none
			}
			at, err := Find(p)
			if tt.want == "" {
				if !errors.Is(err, ErrNotFound) {
					t.Fatalf("found %v, %v", at, err)
				}
				return
			}
			if err != nil || at.File != tt.want || at.Source != tt.wantSrc {
				t.Errorf("got %v, %v", at, err)
			}
		})
	}
}

// A file that is there but can't be used must not be passed over for the next.
func TestFindDoesNotFallThrough(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tandem.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	at, err := Find(Process{Getenv: func(string) string { return "" }, Executable: filepath.Join(dir, "tandem"), System: "/dev/null"})
	if err != nil || at.Source != "beside the binary" {
		t.Fatalf("got %v, %v", at, err)
	}
	if _, err := Load(at); err == nil {
		t.Error("a folder was loaded")
	}
}
