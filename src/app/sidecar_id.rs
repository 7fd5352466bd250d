//! The name of this sidecar in leases: random, made at the first start, kept in the data directory.
//! A sidecar that was killed and started again finds its own leases and need not wait for their end;
//! the lock on the data directory makes sure that no two processes use the name at once.

use std::{fs, io::ErrorKind, path::Path};

use super::failure::Failure;

const ID_BYTES: usize = 8;

pub(super) fn obtain(data: &Path) -> Result<String, Failure> {
    let path = data.join("sidecar.id");
    let refuse = |error: &dyn std::fmt::Display| {
        Failure::Config(vec![format!("the sidecar's id file {} cannot be used: {error}", path.display())])
    };
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().len() == 2 * ID_BYTES => return Ok(text.trim().to_owned()),
        // Nothing, or what a crash left of a first start.
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(refuse(&error)),
    }
    let mut bytes = [0u8; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Other(error.to_string()))?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(&path, &id).map_err(|error| refuse(&error))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_keeps_its_id_and_no_two_share_one() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = obtain(one.path()).unwrap();
        assert_eq!(obtain(one.path()).unwrap(), id);
        assert_ne!(obtain(other.path()).unwrap(), id);
        fs::write(one.path().join("sidecar.id"), "torn").unwrap();
        assert_eq!(obtain(one.path()).unwrap().len(), 2 * ID_BYTES);
    }
}
