//! `quotad tariff …`: works on the database alone, also while a server runs.

use std::{fmt::Write, fs::File, io::Read, path::Path};

use flate2::read::GzDecoder;
use serde_json::Value;

use super::{failure::Failure, wiring};
use crate::{config::Config, quota::id::Actor};

/// Larger files are no price lists.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Stores a price list as the newest version; a sentence about what was done.
///
/// # Errors
/// [`Failure::Config`] for a file that cannot stand, [`Failure::Backend`] for the database.
pub fn import(config: &Config, file: &Path, dry_run: bool) -> Result<String, Failure> {
    let refuse = |reason: String| Failure::Config(vec![format!("{} is not imported: {reason}", file.display())]);
    let content = read(file).map_err(refuse)?;
    let tariff = wiring::read_tariff(&content, config.constants.units_per_usd).map_err(refuse)?;
    let mut said = String::new();
    for note in &tariff.notes {
        let _ = writeln!(said, "note: {note}");
    }
    if dry_run {
        let _ = writeln!(said, "{}: {} models; nothing was stored (--dry-run)", file.display(), tariff.models);
        return Ok(said);
    }
    let source = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let version = with_database(config, async |database| {
        database.policies.put_tariff(&Actor::command_line(), &tariff.stored, &source).await.map_err(Failure::backend)
    })?;
    let _ = writeln!(said, "{}: {} models, stored as version {version}", file.display(), tariff.models);
    Ok(said)
}

/// The newest version, one model per line with its prices, or as JSON.
///
/// # Errors
/// [`Failure::Backend`] when the database cannot be read.
pub fn list(config: &Config, model: Option<&str>, json: bool) -> Result<String, Failure> {
    let (version, content) = with_database(config, async |database| {
        let version = database.policies.tariff_version().await.map_err(Failure::backend)?;
        let content = database.policies.tariff(version).await.map_err(Failure::backend)?;
        Ok((version, content))
    })?;
    let content = match content {
        Some(content) => content,
        None => wiring::builtin_tariff(config.constants.units_per_usd).map_err(Failure::backend)?,
    };
    let mut tariff: Value = serde_json::from_slice(&content)
        .map_err(|error| Failure::backend(format!("tariff version {version} cannot be read: {error}")))?;
    if let (Some(part), Some(models)) = (model, tariff.get_mut("models").and_then(Value::as_object_mut)) {
        models.retain(|name, _| name.contains(part));
    }
    if json {
        return Ok(format!("{tariff:#}\n"));
    }
    let mut out = format!("version {version}\n");
    for (name, price) in tariff.get("models").and_then(Value::as_object).into_iter().flatten() {
        let _ = writeln!(out, "{name} {price}");
    }
    Ok(out)
}

/// A file's content, decompressed when it begins as gzip does.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    let open = || File::open(file).map_err(|error| error.to_string());
    let mut magic = Vec::new();
    open()?.take(2).read_to_end(&mut magic).map_err(|error| error.to_string())?;
    let reader: Box<dyn Read> =
        if magic == [0x1f, 0x8b] { Box::new(GzDecoder::new(open()?)) } else { Box::new(open()?) };
    let mut content = Vec::new();
    reader.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(content)
}

fn with_database<T>(
    config: &Config,
    work: impl AsyncFnOnce(&wiring::Database) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // The data directory may not be there yet; it is made as the server would make it, but without
    // its lock, because a server may be running on it.
    crate::embedded::lock::make_data_dir(&config.data)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(error.to_string()))?;
    runtime.block_on(async {
        let database = wiring::open_database(config).await?;
        let result = work(&database).await;
        database.close().await;
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn plain_and_compressed_files_read_alike() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("list.json"), dir.path().join("list.json.gz"));
        std::fs::write(&plain, b"{\"a\":1}").unwrap();
        let mut encoder = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
        encoder.write_all(b"{\"a\":1}").unwrap();
        encoder.finish().unwrap();
        assert_eq!(read(&plain).unwrap(), read(&packed).unwrap());
        std::fs::write(&plain, b"").unwrap();
        assert_eq!(read(&plain).unwrap(), b"");
        assert!(read(&dir.path().join("none")).is_err());
    }
}
