//! A price list as somebody offers it, read in any format that is known and compared with the one in
//! force, but not stored.

use std::{borrow::Cow, io::Read};

use flate2::read::GzDecoder;
use serde::Deserialize;

use super::{
    Tariff,
    diff::Diff,
    doc::TariffDoc,
    import::{self, ImportReport},
    newapi,
};

/// Larger lists, unpacked, are no price lists.
pub const CONTENT_BYTES_MAX: usize = 64 << 20;
/// Entries that cannot stand, and assumptions, that are told one by one.
const NOTES_MAX: usize = 100;

/// What would become the next version.
#[derive(Clone, Debug)]
pub struct Draft {
    pub doc: TariffDoc,
    /// Against the list in force.
    pub diff: Diff,
    /// Sentences about what was left out or assumed, for people.
    pub notes: Vec<String>,
}

/// A number that only our own documents have on top.
#[derive(Deserialize)]
struct Own {
    #[serde(rename = "format")]
    _format: u32,
}

impl Draft {
    /// Reads our own document, the public price list or new-api's ratio settings, also compressed by gzip.
    /// A list without groups leaves those `in_force`, ratio settings without models leave the models;
    /// with `merge`, models and groups that it does not name stay as well.
    ///
    /// # Errors
    /// A sentence about what cannot be read or cannot stand.
    pub fn read(content: &[u8], in_force: &TariffDoc, merge: bool) -> Result<Self, String> {
        let content = unpacked(content)?;
        let mut notes = Vec::new();
        let mut doc = if serde_json::from_slice::<Own>(&content).is_ok() {
            serde_json::from_slice::<TariffDoc>(&content).map_err(|error| error.to_string())?
        } else if let Some(ratios) = newapi::import(&content, in_force) {
            let ratios = ratios?;
            notes = told(&ratios.report);
            let mut group_ratio = ratios.group_ratio.unwrap_or_else(|| in_force.group_ratio.clone());
            if ratios.some_groups {
                notes.push("a price page shows the groups that its reader may use: all others stay".to_owned());
                let missing = in_force.group_ratio.iter().filter(|(group, _)| !group_ratio.contains_key(*group));
                let missing: Vec<_> = missing.map(|(group, ratio)| (group.clone(), *ratio)).collect();
                group_ratio.extend(missing);
            }
            TariffDoc {
                models: ratios.models.unwrap_or_else(|| in_force.models.clone()),
                group_ratio,
                user_group_ratio: ratios.user_group_ratio.unwrap_or_else(|| in_force.user_group_ratio.clone()),
                ..in_force.clone()
            }
        } else {
            let (list, report) = import::import(&content, in_force.units_per_usd)?;
            notes = told(&report);
            TariffDoc { models: list.models, ..in_force.clone() }
        };
        if doc.units_per_usd != in_force.units_per_usd {
            let (its, ours) = (doc.units_per_usd, in_force.units_per_usd);
            return Err(format!("it counts {its} units to a dollar, this deployment {ours}"));
        }
        if merge {
            doc = merged(doc, in_force);
        }
        Tariff::from_doc(0, &doc)?;
        let diff = Diff::between(in_force, &doc);
        Ok(Self { doc, diff, notes })
    }

    /// As it is stored.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        // Strings and numbers: they cannot fail to be written.
        serde_json::to_vec(&self.doc).unwrap_or_default()
    }
}

/// `over` where it says something, else `base`.
fn merged(over: TariffDoc, base: &TariffDoc) -> TariffDoc {
    let mut all = base.clone();
    all.models.extend(over.models);
    all.group_ratio.extend(over.group_ratio);
    for (user, row) in over.user_group_ratio {
        all.user_group_ratio.entry(user).or_default().0.extend(row.0);
    }
    all
}

fn told(report: &ImportReport) -> Vec<String> {
    let ImportReport { models, free, rounded, unpriced, .. } = report;
    let mut notes = vec![format!("{models} models are priced, {free} of them free")];
    if *unpriced > 0 {
        notes.push(format!("{unpriced} entries have no price that is known here"));
    }
    if *rounded > 0 {
        notes.push(format!("{rounded} prices were no whole units and are rounded, half away from zero"));
    }
    let refused = report.refused.iter().map(|(name, why)| format!("`{name}` {why}"));
    let assumed = report.assumed.iter().map(|name| {
        format!("`{name}` has no completion ratio, and no price list knows it: its output costs what its input does")
    });
    let all: Vec<String> = refused.chain(assumed).collect();
    let more = all.len().saturating_sub(NOTES_MAX);
    notes.extend(all.into_iter().take(NOTES_MAX));
    if more > 0 {
        notes.push(format!("and {more} more"));
    }
    notes
}

/// A content as it is, or what it unpacks to when it begins as gzip does.
fn unpacked(content: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if !content.starts_with(&[0x1f, 0x8b]) {
        return Ok(Cow::Borrowed(content));
    }
    let mut plain = Vec::new();
    let read = GzDecoder::new(content).take(CONTENT_BYTES_MAX as u64 + 1).read_to_end(&mut plain);
    read.map_err(|error| format!("it cannot be unpacked: {error}"))?;
    if plain.len() > CONTENT_BYTES_MAX {
        return Err(format!("it unpacks to more than {CONTENT_BYTES_MAX} bytes"));
    }
    Ok(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn in_force() -> TariffDoc {
        serde_json::from_str(
            r#"{"format":1,"units_per_usd":100000000,"models":{"a":{"input":1},"b":{"input":2}},
                "group_ratio":{"vip":"0.8"},"user_group_ratio":{"gold":{"vip":"0.5"}}}"#,
        )
        .unwrap()
    }

    fn models(draft: &Draft) -> Vec<&str> {
        draft.doc.models.keys().map(String::as_str).collect()
    }

    #[test]
    fn the_public_list_replaces_models_and_keeps_groups() {
        let list = br#"{"b":{"input_cost_per_token":1e-06},"c":{"input_cost_per_token":2e-06}}"#;
        let draft = Draft::read(list, &in_force(), false).unwrap();
        assert_eq!(models(&draft), ["b", "c"]);
        assert_eq!((draft.diff.added, draft.diff.removed, draft.diff.changed), (1, 1, 1));
        assert_eq!((&draft.doc.group_ratio, draft.diff.ratios.len()), (&in_force().group_ratio, 0));
        let merged = Draft::read(list, &in_force(), true).unwrap();
        assert_eq!((models(&merged), merged.diff.removed), (vec!["a", "b", "c"], 0));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(list).unwrap();
        let packed = Draft::read(&encoder.finish().unwrap(), &in_force(), false).unwrap();
        assert_eq!(packed.doc, draft.doc);
    }

    #[test]
    fn a_document_of_our_own_says_all() {
        let own = br#"{"format":1,"units_per_usd":100000000,"models":{"a":{"input":1}},"group_ratio":{"x":"2"}}"#;
        let draft = Draft::read(own, &in_force(), false).unwrap();
        assert_eq!((models(&draft), draft.diff.removed, draft.diff.ratios.len()), (vec!["a"], 1, 3));
        assert_eq!(serde_json::from_slice::<TariffDoc>(&draft.stored()).unwrap(), draft.doc);
        let merged = Draft::read(own, &in_force(), true).unwrap();
        assert_eq!((models(&merged).len(), merged.diff.removed, merged.diff.ratios.len()), (2, 0, 1));
        for (bad, part) in [
            (&br#"{"format":1,"units_per_usd":500000,"models":{}}"#[..], "500000 units to a dollar"),
            (br#"{"format":1,"units_per_usd":100000000,"models":{"a":{"inptu":1}}}"#, "inptu"),
            (br#"{"format":1,"units_per_usd":100000000,"models":{"a":{"input":-1}}}"#, "input must be"),
            (b"[]", "no price list"),
            (b"\x1f\x8bnonsense", "unpacked"),
        ] {
            let why = Draft::read(bad, &in_force(), false).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
