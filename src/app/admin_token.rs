//! The token of the admin API: configured, or made at the first start and kept in the data directory.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::failure::Failure;
use crate::config::secret::Secret;

const TOKEN_BYTES: usize = 32;
/// In the data directory.
const FILE: &str = "admin.token";

/// The token, and the file it is in when it was not configured.
pub(super) fn obtain(configured: Option<&Secret>, data: &Path) -> Result<(Secret, Option<PathBuf>), Failure> {
    if let Some(token) = configured {
        return Ok((token.clone(), None));
    }
    let path = data.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create(data, &path).map_err(|error| refused(&path, &error))?
        }
        Err(error) => return Err(refused(&path, &error)),
    };
    let token = judge(&path, &text)?;
    if fs::metadata(&path).is_ok_and(|found| found.mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "others can read the admin token: run chmod 600 on it");
    }
    Ok((token, Some(path)))
}

/// The token of a quotad that runs already; none is made.
pub(super) fn find(configured: Option<&Secret>, data: &Path) -> Result<Secret, Failure> {
    configured.map_or_else(|| read(&data.join(FILE)), |token| Ok(token.clone()))
}

/// The token in a file.
pub(super) fn read(path: &Path) -> Result<Secret, Failure> {
    let text = fs::read_to_string(path).map_err(|error| refused(path, &error))?;
    judge(path, &text)
}

fn judge(path: &Path, text: &str) -> Result<Secret, Failure> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let why = "it must hold one token of printable ASCII; remove it to have a new one made";
        return Err(refused(path, &why));
    }
    Ok(Secret::new(token))
}

fn refused(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::Config(vec![format!("the admin token file {} cannot be used: {why}", path.display())])
}

/// Written aside and then linked into place, so that no reader ever sees half a token, and one that
/// was made meanwhile stays.
fn create(data: &Path, path: &Path) -> std::io::Result<String> {
    let mut bytes = [0u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let aside = data.join(format!("admin.token.{}", std::process::id()));
    let _ = fs::remove_file(&aside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Ok(()) => Ok(token),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => fs::read_to_string(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_for_the_owner_alone() {
        let data = tempfile::tempdir().unwrap();
        let (token, path) = obtain(None, data.path()).unwrap();
        let path = path.unwrap();
        assert_eq!(path, data.path().join("admin.token"));
        assert_eq!(token.expose().len(), 2 * TOKEN_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "nothing is left aside");
        assert_eq!(obtain(None, data.path()).unwrap().0, token, "kept over a restart");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(obtain(None, other.path()).unwrap().0, token);
    }

    #[test]
    fn a_configured_token_makes_no_file_and_a_broken_file_is_told() {
        let data = tempfile::tempdir().unwrap();
        let (token, path) = obtain(Some(&Secret::new("mine")), data.path()).unwrap();
        assert!(token.expose() == "mine" && path.is_none());
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
        fs::write(data.path().join("admin.token"), "two words\n").unwrap();
        let said = obtain(None, data.path()).unwrap_err();
        assert!(said.exit_code() == 2 && said.to_string().contains("admin.token cannot be used"), "{said}");
    }
}
