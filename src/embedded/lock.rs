//! One sidecar per data directory.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Holds `<data>/quotad.lock` as long as it lives; the kernel lets go of it when the process ends,
/// however it ends, so that no stale lock can be left.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("quotad{process} already runs on the data directory {data}: stop it, or give this one another --data")]
    Taken { process: String, data: PathBuf },
    #[error("the data directory {data} cannot be used: {error}")]
    Unusable { data: PathBuf, error: std::io::Error },
}

impl DataLock {
    /// Makes the directory when it is not there (for the owner alone), and takes its lock.
    ///
    /// # Errors
    /// [`LockError::Taken`] while another process has it; [`LockError::Unusable`] when files cannot
    /// be made there.
    pub fn take(data: &Path) -> Result<Self, LockError> {
        let unusable = |error| LockError::Unusable { data: data.to_owned(), error };
        make_data_dir(data)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(data.join("quotad.lock"))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                let process =
                    owner.trim().parse::<u32>().map_or_else(|_| String::new(), |id| format!(" (process {id})"));
                return Err(LockError::Taken { process, data: data.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // The number is a help for people; the lock itself is the kernel's.
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()))
            .map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

/// Makes the data directory, for its owner alone, when it is not there.
///
/// # Errors
/// [`LockError::Unusable`].
pub fn make_data_dir(data: &Path) -> Result<(), LockError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|error| LockError::Unusable { data: data.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new/data");
        let lock = DataLock::take(&data).unwrap();
        let said = DataLock::take(&data).unwrap_err().to_string();
        assert!(said.starts_with(&format!("quotad (process {}) already runs on", std::process::id())), "{said}");
        drop(lock);
        DataLock::take(&data).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = DataLock::take(&file.path().join("data")).unwrap_err().to_string();
        assert!(said.contains("cannot be used"), "{said}");
    }
}
