package main

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// How often a log that is rotated between its opening and its locking is opened anew.
const reopenMax = 100

// log appends whole rows to a path that other writers share, whatever their language.
type log struct {
	path string
	fd   int // -1 while closed
}

// append writes one LF-ended row under the log's lock, on a line of its own.
func (l *log) append(row []byte) error {
	for range reopenMax {
		if l.fd < 0 {
			flags := syscall.O_RDWR | syscall.O_APPEND | syscall.O_CREAT | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
			fd, err := syscall.Open(l.path, flags, 0o640)
			if err != nil {
				return fmt.Errorf("open %s: %w", l.path, err)
			}
			l.fd = fd
		}
		if err := retried(func() error { return syscall.Flock(l.fd, syscall.LOCK_EX) }); err != nil {
			return fmt.Errorf("lock %s: %w", l.path, err)
		}
		current, size, err := l.isCurrent()
		if err != nil {
			return err
		}
		if current {
			err := l.write(row, size)
			return errors.Join(err, syscall.Flock(l.fd, syscall.LOCK_UN))
		}
		// Rotated since it was opened: closing gives up the lock too.
		l.close()
	}
	return fmt.Errorf("%s was renamed %d times in a row", l.path, reopenMax)
}

// isCurrent tells whether the path still names the locked file, and the file's size.
func (l *log) isCurrent() (bool, int64, error) {
	var open, named syscall.Stat_t
	if err := syscall.Fstat(l.fd, &open); err != nil {
		return false, 0, err
	}
	err := syscall.Lstat(l.path, &named)
	if errors.Is(err, syscall.ENOENT) {
		return false, 0, nil
	}
	return err == nil && open.Dev == named.Dev && open.Ino == named.Ino, open.Size, err
}

func (l *log) write(row []byte, size int64) error {
	if size > 0 {
		last := make([]byte, 1)
		if _, err := syscall.Pread(l.fd, last, size-1); err != nil {
			return fmt.Errorf("read %s: %w", l.path, err)
		}
		if last[0] != '\n' {
			// A killed writer's torn row keeps its line to itself.
			row = append([]byte{'\n'}, row...)
		}
	}
	for len(row) > 0 {
		n := 0
		err := retried(func() (err error) { n, err = syscall.Write(l.fd, row); return })
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", l.path, err)
		}
		row = row[n:]
	}
	return nil
}

func (l *log) close() {
	if l.fd >= 0 {
		syscall.Close(l.fd)
		l.fd = -1
	}
}

func retried(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
