//! `quotad tariff …`: works on the database alone, also while a server runs.

use std::{fmt::Write, fs::File, io::Read, path::Path};

use serde_json::Value;

use super::{failure::Failure, wiring};
use crate::{
    config::Config,
    quota::{
        id::Actor,
        tariff::{CONTENT_BYTES_MAX, Diff, Draft, TariffDoc},
    },
};

/// What an import is asked for.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Compare, but store nothing.
    pub dry_run: bool,
    /// Models and groups that the list does not name stay.
    pub merge: bool,
    /// The difference as JSON.
    pub json: bool,
    /// Who does it, for the audit; absent: the command line.
    pub actor: Option<String>,
}

/// Compares a price list with the newest version and stores it as the next one: the difference, and what
/// was done.
///
/// # Errors
/// [`Failure::Config`] for a file that cannot stand, [`Failure::Backend`] for the database.
pub fn import(config: &Config, file: &Path, ask: Import) -> Result<String, Failure> {
    let refuse = |reason: String| Failure::Config(vec![format!("{} is not imported: {reason}", file.display())]);
    let content = read(file).map_err(refuse)?;
    let by = match &ask.actor {
        Some(name) => Actor::new(name).map_err(|bad| Failure::Config(vec![format!("--actor {bad}")]))?,
        None => Actor::command_line(),
    };
    let source = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    with_database(config, async |database| {
        let (base, in_force) = newest(config, database).await?;
        let in_force: TariffDoc = serde_json::from_slice(&in_force)
            .map_err(|error| Failure::backend(format!("tariff version {base} cannot be read: {error}")))?;
        let draft = Draft::read(&content, &in_force, ask.merge).map_err(refuse)?;
        let version = if ask.dry_run {
            None
        } else {
            let stored = draft.stored();
            let put = database.policies.put_tariff(&by, &stored, &source, Some(base)).await;
            Some(put.map_err(Failure::backend)?)
        };
        Ok(if ask.json { difference_json(base, version, &draft) } else { difference_text(file, base, version, &draft) })
    })
}

/// The same document as the answer of `POST /admin/v1/tariffs`.
fn difference_json(base: u32, version: Option<u32>, draft: &Draft) -> String {
    format!("{:#}\n", wiring::tariff_difference(base, version, draft))
}

fn difference_text(file: &Path, base: u32, version: Option<u32>, draft: &Draft) -> String {
    let mut said = super::price_table::table(&draft.diff, draft.doc.units_per_usd);
    for note in &draft.notes {
        let _ = writeln!(said, "note: {note}");
    }
    let Diff { added, removed, changed, same, .. } = draft.diff;
    let _ = writeln!(
        said,
        "{}: {} models; against version {base}: {added} added, {removed} removed, {changed} changed, {same} the same",
        file.display(),
        draft.doc.models.len()
    );
    let _ = match version {
        Some(version) => writeln!(said, "stored as version {version}"),
        None => writeln!(said, "nothing was stored (--dry-run)"),
    };
    said
}

/// The newest version's number and content.
async fn newest(config: &Config, database: &wiring::Database) -> Result<(u32, Vec<u8>), Failure> {
    let version = database.policies.tariff_version().await.map_err(Failure::backend)?;
    let content = match database.policies.tariff(version).await.map_err(Failure::backend)? {
        Some(content) => content,
        None => wiring::builtin_tariff(config.constants.units_per_usd).map_err(Failure::backend)?,
    };
    Ok((version, content))
}

/// The newest version, one model per line with its prices, or as JSON.
///
/// # Errors
/// [`Failure::Backend`] when the database cannot be read.
pub fn list(config: &Config, model: Option<&str>, json: bool) -> Result<String, Failure> {
    let (version, content) = with_database(config, async |database| newest(config, database).await)?;
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

/// A file's content, as it is.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let file = File::open(file).map_err(|error| error.to_string())?;
    file.take(CONTENT_BYTES_MAX as u64 + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() > CONTENT_BYTES_MAX {
        return Err(format!("it has more than {CONTENT_BYTES_MAX} bytes"));
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
