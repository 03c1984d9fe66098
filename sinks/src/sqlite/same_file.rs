//! Whether a connection still has the file that its path names.
//!
//! On POSIX an open file lives on when another one takes its name: a writer would go on writing what nobody ever reads, and
//! SQLite itself does not look while it keeps a write-ahead log.

use std::path::Path;

/// The file that a path named at some moment. Elsewhere than on Unix an open file cannot be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    #[cfg(unix)]
    device_and_inode: (u64, u64),
}

impl FileId {
    /// None where the path names no file.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Some(Self { device_and_inode: (metadata.dev(), metadata.ino()) })
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            Some(Self {})
        }
    }
}
