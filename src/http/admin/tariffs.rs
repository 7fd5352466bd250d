//! `/admin/v1/tariffs` and what is below it: versions of the price list, their models, imports.

use bytes::Bytes;

use crate::{
    engine::{
        ports::TariffVersion,
        tariffs::{Drafted, TariffImport},
    },
    http::{
        answer::{Answer, Handled},
        error::{Problem, Word},
        gateway::done,
        path,
        route::Call,
        wire::tariff::{Activated, Imported, ModelShown, Models, TariffShown, TariffWhole, Tariffs, TierShown},
    },
    quota::{
        id::Model,
        tariff::{Draft, Price},
    },
};

/// Stands for the newest version in a path.
const CURRENT: &str = "current";
/// Where a list came from that nobody named.
const SOURCE: &str = "admin API";
const SOURCE_CHARS_MAX: usize = 512;

pub(super) async fn list(call: &Call<'_>) -> Handled {
    let cursor = path::parameter(call.query, "cursor")?.filter(|cursor| !cursor.is_empty());
    let before = cursor.map(|cursor| number(&cursor).ok_or_else(|| not_a("cursor", "the next_cursor of a page")));
    let most = path::page(call.query)?;
    // One more than asked for tells whether there is a next page.
    let (mut versions, _) = done(call.service.engine.tariff_versions(before.transpose()?, most + 1).await)?;
    let more = versions.len() > most as usize;
    versions.truncate(most as usize);
    let next_cursor = versions.last().filter(|_| more).map(|version| version.version.to_string());
    Ok(Answer::ok(&Tariffs { tariffs: versions.into_iter().map(shown).collect(), next_cursor }))
}

pub(super) async fn get(call: &Call<'_>, version: &str) -> Handled {
    let asked = call.service.engine.tariff_version(version_of(version)?).await;
    let ((about, doc), _) = done(asked).map_err(nowhere)?;
    Ok(Answer::ok(&TariffWhole { about: shown(about), tariff: &doc }))
}

pub(super) async fn models(call: &Call<'_>, version: &str) -> Handled {
    let part = path::parameter(call.query, "match")?.unwrap_or_default();
    let cursor = path::parameter(call.query, "cursor")?.filter(|cursor| !cursor.is_empty());
    let cursor = cursor.map(|name| Model::new(name).map_err(|_| not_a("cursor", "the next_cursor of a page")));
    let (cursor, most) = (cursor.transpose()?, path::page(call.query)? as usize);
    let (tariff, _) = done(call.service.engine.tariff_table(version_of(version)?).await).map_err(nowhere)?;
    let after = |name: &str| cursor.as_ref().is_none_or(|cursor| name > cursor.as_str());
    let mut models = tariff.models();
    models.retain(|(name, _)| after(name) && name.contains(&*part));
    let more = models.len() > most;
    models.truncate(most);
    let next_cursor = models.last().filter(|_| more).map(|(name, _)| *name);
    let models = models.iter().map(|(name, price)| model(name, price)).collect();
    let (version, units_per_usd) = (tariff.version, tariff.units_per_usd());
    Ok(Answer::ok(&Models { version, units_per_usd, models, next_cursor }))
}

pub(super) async fn import(call: &Call<'_>) -> Handled {
    let source = path::parameter(call.query, "source")?.unwrap_or_else(|| SOURCE.to_owned());
    if source.chars().count() > SOURCE_CHARS_MAX || source.chars().any(char::is_control) {
        return Err(not_a("source", "at most 512 characters, none of them a control character"));
    }
    let base = path::parameter(call.query, "base")?;
    let base = base.map(|base| number(&base).ok_or_else(|| not_a("base", "the number of a version"))).transpose()?;
    let (merge, dry_run) = (flag(call, "merge")?, flag(call, "dry_run")?);
    if call.body.is_empty() {
        return Err(not_a("tariff", "a price list in JSON, also compressed by gzip"));
    }
    let store = if dry_run { None } else { Some((call.actor()?, source)) };
    let content = Bytes::copy_from_slice(call.body);
    let ask = TariffImport { merge, base, store };
    let (Drafted { base, version, draft }, _) = done(call.service.engine.tariff_draft(content, ask).await)?;
    Ok(Answer::ok(&imported(base, version, &draft)).created(version.is_some()))
}

pub(super) async fn activate(call: &Call<'_>, version: &str) -> Handled {
    let of = version_of(version)?.ok_or_else(|| not_a("version", "the number of a version"))?;
    let activated = call.service.engine.tariff_activate(&call.actor()?, of).await;
    let (version, _) = done(activated).map_err(nowhere)?;
    Ok(Answer::ok(&Activated { of, version }).created(true))
}

pub(in crate::http) fn imported(base: u32, version: Option<u32>, draft: &Draft) -> Imported<'_> {
    Imported { base, version, models: draft.doc.models.len(), notes: &draft.notes, diff: &draft.diff }
}

fn shown(version: TariffVersion) -> TariffShown {
    let imported_at = Some(version.imported_at).filter(|_| version.version > 0);
    TariffShown { version: version.version, source: version.source, imported_at }
}

fn model<'a>(name: &'a str, price: &'a Price) -> ModelShown<'a> {
    let tiers = price.tiers.iter();
    ModelShown {
        model: name,
        provider: price.provider.as_deref(),
        max_output: price.max_output,
        prices: (&price.rates).into(),
        tiers: tiers.map(|tier| TierShown { above_tokens: tier.above_tokens, prices: (&tier.rates).into() }).collect(),
    }
}

/// `None`: the newest.
fn version_of(segment: &str) -> Result<Option<u32>, Problem> {
    if segment == CURRENT {
        return Ok(None);
    }
    number(segment).map(Some).ok_or_else(|| not_a("version", "a number, or `current`"))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn flag(call: &Call<'_>, name: &'static str) -> Result<bool, Problem> {
    match path::parameter(call.query, name)?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(not_a(name, "true or false")),
    }
}

fn not_a(field: &'static str, what: &str) -> Problem {
    Problem::invalid(field, format!("{field} must be {what}"))
}

/// A version that is not there is no wrong request, but nothing.
fn nowhere(problem: Problem) -> Problem {
    match problem.field.as_deref() {
        Some("version") => Problem::new(Word::NotFound, problem.detail),
        _ => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_or_current() {
        assert_eq!(version_of("current").unwrap(), None);
        assert_eq!(version_of("12").unwrap(), Some(12));
        for bad in ["", "-1", "+1", "1.0", "4294967296", "newest"] {
            assert_eq!(version_of(bad).unwrap_err().field.as_deref(), Some("version"), "{bad}");
        }
    }
}
