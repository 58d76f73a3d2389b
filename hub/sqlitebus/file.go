package sqlitebus

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/ncruces/go-sqlite3"
)

const (
	// application marks the file as this program's ("Tndm"), in SQLite's application_id.
	application = 0x546e646d
	// version of the tables, in SQLite's user_version. A later one is one that this
	// program can't write to.
	version = 1
)

// Seq begins with the time at which a file was made, in µs: where a file takes the place of a damaged one
// the order goes on, for those who have seen the old one's events.
//
// start is the sum of the sizes of all events before. So the newest and the oldest event
// say what is stored between them, and a start of 0 that nothing was lost yet.
const schema = `
CREATE TABLE events (
	seq INTEGER PRIMARY KEY,
	time INTEGER NOT NULL,
	start INTEGER NOT NULL,
	size INTEGER NOT NULL,
	id TEXT NOT NULL UNIQUE,
	topic TEXT NOT NULL,
	type TEXT NOT NULL,
	private INTEGER NOT NULL,
	retry INTEGER NOT NULL,
	data TEXT NOT NULL
);
CREATE INDEX topics ON events (topic);
CREATE TABLE processes (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE members (
	process TEXT NOT NULL,
	subscriber TEXT NOT NULL,
	match_type TEXT NOT NULL,
	match TEXT NOT NULL,
	payload TEXT NOT NULL,
	PRIMARY KEY (process, subscriber, match_type, match)
) WITHOUT ROWID;
`

// file is one connection. Its zero value is closed. It is not safe for concurrent use.
type file struct {
	conn       *sqlite3.Conn
	info       fs.FileInfo // of the file that was opened
	statements map[string]*sqlite3.Stmt
}

// ready opens the file, unless it is open. One that isn't what its path leads to any more is
// opened anew: nobody else would see what is written to it.
func (f *file) ready(b *Bus) error {
	if f.conn != nil {
		if info, err := os.Stat(b.path); err == nil && os.SameFile(info, f.info) {
			return nil
		}
		f.close()
	}
	if err := f.open(b); err != nil {
		f.close()
		return err
	}
	return nil
}

func (f *file) open(b *Bus) error {
	if err := create(b.path); err != nil {
		return err
	}
	var err error
	if f.info, err = os.Stat(b.path); err != nil {
		return err
	}
	if f.info.IsDir() {
		return fmt.Errorf("expected a file, this is a folder")
	}
	if f.conn, err = connect(b.path); err != nil {
		return err
	}
	f.statements = make(map[string]*sqlite3.Stmt)
	sync := "NORMAL"
	if b.opt.Sync {
		sync = "FULL"
	}
	// 512 KiB of cache do for the ends of the tables, where all happens.
	settings := "PRAGMA synchronous=" + sync + "; PRAGMA cache_size=-512; PRAGMA journal_size_limit=" + strconv.Itoa(maxLog) + "; " + b.opt.pragma
	return b.insist(func() error {
		if err := f.conn.Exec(settings); err != nil {
			return err
		}
		return f.prepareTables()
	})
}

// connect opens a connection. Each reserves 256 MB of addresses, of which it uses what it needs.
func connect(path string) (c *sqlite3.Conn, err error) {
	defer func() {
		if v := recover(); v != nil {
			if e, ok := v.(error); !ok || !errors.Is(e, syscall.ENOMEM) {
				panic(v)
			}
			err = fmt.Errorf("%w: 256 MB of addresses (ulimit -v)", sqlite3.NOMEM)
		}
	}()
	uri := url.URL{Scheme: "file", Path: path, RawQuery: "vfs=" + private}
	return sqlite3.OpenFlags(uri.String(), sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI)
}

// maxLog is what the write-ahead log is cut down to in bytes.
const maxLog = 4 << 20

// prepareTables checks whose file it is, and makes the tables in a new one.
func (f *file) prepareTables() error {
	whose, v, tables, err := f.identity()
	if err != nil {
		return err
	}
	if whose == 0 && v == 0 && tables == 0 {
		var mode string
		if _, err := f.row([]any{&mode}, "PRAGMA journal_mode=WAL"); err != nil {
			return err
		}
		if mode != "wal" {
			return fmt.Errorf("expected the journal mode wal, SQLite can only do %s there: the file must be on a local disk", mode)
		}
		if err := f.makeTables(); err != nil {
			return err
		}
		if whose, v, _, err = f.identity(); err != nil {
			return err
		}
	}
	switch {
	case whose != application:
		return fmt.Errorf("it is another program's database (application_id %#x, expected %#x): name another file", whose, application)
	case v > version:
		return fmt.Errorf("it was written by a newer version of Tandem (version %d of its tables, this one knows %d): update this one, or name another file", v, version)
	case v < version:
		return fmt.Errorf("its tables have version %d, expected %d: move the file away, and a new one is made", v, version)
	}
	return nil
}

func (f *file) identity() (whose, version, tables int64, err error) {
	_, err = f.row([]any{&whose, &version, &tables}, "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)")
	return
}

func (f *file) makeTables() error {
	if err := f.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	_, _, tables, err := f.identity()
	if err == nil && tables == 0 { // another process may have been faster
		err = f.conn.Exec(fmt.Sprintf("%s; PRAGMA application_id=%d; PRAGMA user_version=%d", schema, application, version))
	}
	if err == nil {
		err = f.conn.Exec("COMMIT")
	}
	if err != nil {
		_ = f.conn.Exec("ROLLBACK")
	}
	return err
}

// create makes an empty file that is for this user alone, and has its name only then: closing
// a file that SQLite has open in this process too would undo SQLite's locks.
func create(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	tmp.Close()
	defer os.Remove(tmp.Name())
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (f *file) close() {
	for _, s := range f.statements {
		finalize(s)
	}
	if f.conn != nil {
		_ = f.conn.Close()
	}
	*f = file{}
}

// finalize closes a statement, which repeats the panic of its last step.
func finalize(s *sqlite3.Stmt) {
	var err error
	defer memory(&err)
	_ = s.Close()
}

// drop closes the connection after an error that it would not get over.
func (f *file) drop(err error) {
	if lasting(err) {
		f.close()
	}
}

// prepare returns the statement of query, which is parsed once, with its arguments.
func (f *file) prepare(query string, args []any) (*sqlite3.Stmt, error) {
	s := f.statements[query]
	if s == nil {
		var err error
		if s, _, err = f.conn.PrepareFlags(query, sqlite3.PREPARE_PERSISTENT); err != nil {
			return nil, err
		}
		f.statements[query] = s
	}
	for i, arg := range args {
		if err := bind(s, i+1, arg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func bind(s *sqlite3.Stmt, i int, arg any) error {
	switch v := arg.(type) {
	case int64:
		return s.BindInt64(i, v)
	case string:
		return s.BindText(i, v)
	case bool:
		return s.BindBool(i, v)
	}
	panic(fmt.Sprintf("sqlitebus: no such argument: %T", arg))
}

// exec runs a statement, and returns how many rows it has changed, if it is one that does.
func (f *file) exec(query string, args ...any) (n int64, err error) {
	defer memory(&err)
	s, err := f.prepare(query, args)
	if err != nil {
		return 0, err
	}
	defer release(s, len(args))
	if err := s.Exec(); err != nil {
		return 0, err
	}
	return f.conn.Changes(), nil
}

// release ends a statement's run, which is what keeps a transaction open, and frees its arguments.
func release(s *sqlite3.Stmt, args int) {
	var err error
	defer memory(&err)
	_ = s.Reset() // repeats the last step's error
	if args > 0 {
		_ = s.ClearBindings()
	}
}

// row reads one row into dest. ok tells whether there is one.
func (f *file) row(dest []any, query string, args ...any) (ok bool, err error) {
	err = f.rows(func(scan func(...any) error) (bool, error) {
		ok = true
		return false, scan(dest...)
	}, query, args...)
	return ok, err
}

// rows calls each for the rows that a query finds, until it returns false.
func (f *file) rows(each func(scan func(...any) error) (bool, error), query string, args ...any) (err error) {
	defer memory(&err)
	s, err := f.prepare(query, args)
	if err != nil {
		return err
	}
	defer release(s, len(args))
	scan := func(dest ...any) error {
		for i, d := range dest {
			column(s, i, d)
		}
		return s.Err()
	}
	for s.Step() {
		if more, err := each(scan); err != nil || !more {
			return err
		}
	}
	return s.Err()
}

func column(s *sqlite3.Stmt, i int, dest any) {
	switch d := dest.(type) {
	case *int64:
		*d = s.ColumnInt64(i)
	case *uint64:
		*d = uint64(s.ColumnInt64(i))
	case *string:
		*d = s.ColumnText(i)
	case *bool:
		*d = s.ColumnInt64(i) != 0
	default:
		panic(fmt.Sprintf("sqlitebus: no such result: %T", dest))
	}
}
