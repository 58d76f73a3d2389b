package main

import "errors"

type connectCmd struct {
	URL string `arg:"" help:"The endpoint."`
}

func (*connectCmd) Run() error { return errors.New("connect is not there yet") }
