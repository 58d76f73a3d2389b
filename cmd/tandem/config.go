package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"tandem/internal/config"
)

// load finds and reads the configuration.
func load(flag string) (*config.Config, error) {
	at, err := config.Find(process(flag))
	if errors.Is(err, config.ErrNotFound) {
		return nil, exitWith(exitConfig, errors.New(config.NotFound+
			"\nWrite one, or say all on the command line: tandem serve --http :8080 -- bc -q"))
	}
	if err != nil {
		return nil, exitWith(exitConfig, err)
	}
	c, err := config.Load(at)
	return c, exitWith(exitConfig, err)
}

type checkCmd struct {
	Config string `short:"c" placeholder:"FILE" help:"The configuration."`
}

func (cmd *checkCmd) Run() error {
	c, err := load(cmd.Config)
	if err != nil {
		return err
	}
	// What only making the apps finds: programs that are not there, and the like.
	if _, _, err := newApps(c, slog.New(slog.DiscardHandler)).all(); err != nil {
		return exitWith(exitConfig, err)
	}
	if _, err := relayUsers(c); err != nil {
		return exitWith(exitConfig, err)
	}
	_, err = fmt.Printf("%s: ok (%s)\n", c.File, c.Source)
	return exitWith(exitIO, err)
}

type showCmd struct {
	Config string `short:"c" placeholder:"FILE" help:"The configuration."`
}

func (cmd *showCmd) Run() error {
	c, err := load(cmd.Config)
	if err != nil {
		return err
	}
	return exitWith(exitIO, c.Show(os.Stdout))
}

// newLogFor is newLog on stderr.
func newLogFor(c *config.Config) *slog.Logger { return newLog(c.Log, os.Stderr) }
