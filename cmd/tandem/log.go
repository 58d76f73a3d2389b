package main

import (
	"io"
	"log/slog"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
	logrusslog "github.com/sirupsen/logrus/hooks/slog"

	"tandem/internal/config"
)

// newLog puts logrus, which formats and writes, behind the slog.Logger that the
// packages take. Each record is one line: newlines in it are quoted.
func newLog(c config.Log, w io.Writer) *slog.Logger {
	l := logrus.New()
	l.SetOutput(w)
	if level, err := logrus.ParseLevel(c.Level); err == nil { // config has checked it
		l.SetLevel(level)
	}
	// In journald's stream, the journal has the time, and reads the level off the line.
	inJournal, _ := journal.StderrIsJournalStream()
	// No colours, on a terminal either: with them logrus prints messages as they
	// are, and what a client has sent is among them.
	var f logrus.Formatter = &logrus.TextFormatter{DisableColors: true, DisableTimestamp: inJournal}
	if c.Format == "json" {
		f = &logrus.JSONFormatter{DisableTimestamp: inJournal}
	}
	if inJournal {
		f = journalFormatter{f}
	}
	l.SetFormatter(f)
	return slog.New(logrusslog.NewHandler(l, nil))
}

// journalFormatter puts the priority before each line (sd-daemon(3)).
type journalFormatter struct{ logrus.Formatter }

func (f journalFormatter) Format(e *logrus.Entry) ([]byte, error) {
	line, err := f.Formatter.Format(e)
	if err != nil {
		return nil, err
	}
	priority := "<6>"
	switch e.Level {
	case logrus.PanicLevel, logrus.FatalLevel:
		priority = "<2>"
	case logrus.ErrorLevel:
		priority = "<3>"
	case logrus.WarnLevel:
		priority = "<4>"
	case logrus.DebugLevel, logrus.TraceLevel:
		priority = "<7>"
	}
	return append([]byte(priority), line...), nil
}
