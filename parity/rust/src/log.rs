//! Appends whole rows to a path that other writers share, whatever their language.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// How often a log that is rotated between its opening and its locking is opened anew.
const REOPEN_MAX: usize = 100;

pub struct Log {
    path: PathBuf,
    file: Option<File>,
}

impl Log {
    pub fn new(path: PathBuf) -> Self {
        Log { path, file: None }
    }

    /// Writes one LF-ended row under the log's lock, on a line of its own.
    pub fn append(&mut self, row: &[u8]) -> io::Result<()> {
        for _ in 0..REOPEN_MAX {
            let file = match self.file.take() {
                Some(file) => file,
                None => OpenOptions::new()
                    .read(true)
                    .append(true)
                    .create(true)
                    .mode(0o640)
                    .custom_flags(libc::O_NOFOLLOW)
                    .open(&self.path)?,
            };
            flock(&file, libc::LOCK_EX)?;
            let open = file.metadata()?;
            let current = match fs::symlink_metadata(&self.path) {
                Ok(named) => named.dev() == open.dev() && named.ino() == open.ino(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            if current {
                write(&file, row, open.size())?;
                flock(&file, libc::LOCK_UN)?;
                self.file = Some(file);
                return Ok(());
            }
            // Rotated since it was opened: dropping the file closes it and gives up the lock too.
        }
        Err(io::Error::other(format!(
            "{} was renamed {REOPEN_MAX} times in a row",
            self.path.display()
        )))
    }
}

fn write(mut file: &File, row: &[u8], size: u64) -> io::Result<()> {
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if last == [b'\n'] {
        file.write_all(row)
    } else {
        // A killed writer's torn row keeps its line to itself.
        file.write_all(&[b"\n", row].concat())
    }
}

fn flock(file: &File, operation: libc::c_int) -> io::Result<()> {
    loop {
        // SAFETY: flock takes a descriptor, which `file` keeps open, and no memory.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
