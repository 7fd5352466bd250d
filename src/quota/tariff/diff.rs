//! What an import would change: prices by model, and ratios by group, before and after.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::doc::{PriceDoc, TariffDoc};

/// What happened to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added,
    Removed,
    Changed,
}

/// One price that differs: in units, per what the price's name says; null where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PriceDiff {
    /// A price of the stored form, such as `input`; in a tier `above_200k.input`.
    pub price: String,
    pub before: Option<i64>,
    pub after: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelDiff {
    pub model: String,
    pub change: Change,
    pub prices: Vec<PriceDiff>,
    /// Of a changed model that is another provider's now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderDiff>,
}

/// Whose model it is said to be; null: nobody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderDiff {
    pub before: Option<String>,
    pub after: Option<String>,
}

/// A ratio that differs; null where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RatioDiff {
    /// The account's group; null: whatever it is.
    pub user_group: Option<String>,
    /// The group that a call is made in.
    pub group: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// Two price lists, compared. Models and groups are in order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
    /// Models whose prices are the same.
    pub same: usize,
    pub models: Vec<ModelDiff>,
    pub ratios: Vec<RatioDiff>,
}

impl Diff {
    #[must_use]
    pub fn between(before: &TariffDoc, after: &TariffDoc) -> Self {
        let mut diff = Self::default();
        let names: BTreeSet<&String> = before.models.keys().chain(after.models.keys()).collect();
        for name in names {
            let (old, new) = (before.models.get(name), after.models.get(name));
            let change = match (old, new) {
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
                (Some(old), Some(new)) if old == new => {
                    diff.same += 1;
                    continue;
                }
                (Some(_), Some(_)) => Change::Changed,
            };
            match change {
                Change::Added => diff.added += 1,
                Change::Removed => diff.removed += 1,
                Change::Changed => diff.changed += 1,
            }
            let provider = provider(old, new);
            diff.models.push(ModelDiff { model: name.clone(), change, prices: prices(old, new), provider });
        }
        diff.ratios = ratios(before, after);
        diff
    }

    /// Nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && self.ratios.is_empty()
    }
}

fn prices(before: Option<&PriceDoc>, after: Option<&PriceDoc>) -> Vec<PriceDiff> {
    let (before, after) = (flat(before), flat(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differ = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let of = |name: &String| PriceDiff {
        price: name.clone(),
        before: before.get(name).copied(),
        after: after.get(name).copied(),
    };
    differ.map(of).collect()
}

fn provider(before: Option<&PriceDoc>, after: Option<&PriceDoc>) -> Option<ProviderDiff> {
    let (before, after) = (before?.provider.clone(), after?.provider.clone());
    (before != after).then_some(ProviderDiff { before, after })
}

/// The prices that a model names, those of its tiers with the tier's name before them.
fn flat(price: Option<&PriceDoc>) -> BTreeMap<String, i64> {
    let Some(price) = price else { return BTreeMap::new() };
    let named = |price: &PriceDoc| price.named().into_iter().filter_map(|(name, units)| Some((name, units?)));
    let mut all: BTreeMap<String, i64> = named(price).map(|(name, units)| (name.to_owned(), units)).collect();
    all.extend(price.max_output.map(|most| ("max_output".to_owned(), most)));
    for (tier, price) in &price.tiers {
        all.extend(named(price).map(|(name, units)| (format!("{tier}.{name}"), units)));
    }
    all
}

fn ratios(before: &TariffDoc, after: &TariffDoc) -> Vec<RatioDiff> {
    let (before, after) = (all_ratios(before), all_ratios(after));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differ = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let of = |key: &(Option<String>, String)| RatioDiff {
        user_group: key.0.clone(),
        group: key.1.clone(),
        before: before.get(key).cloned(),
        after: after.get(key).cloned(),
    };
    differ.map(of).collect()
}

fn all_ratios(doc: &TariffDoc) -> BTreeMap<(Option<String>, String), String> {
    let by_using = doc.group_ratio.iter().map(|(group, ratio)| ((None, group.clone()), ratio.to_string()));
    let by_user = doc.user_group_ratio.iter().flat_map(|(user, row)| {
        row.0.iter().map(|(group, ratio)| ((Some(user.clone()), group.clone()), ratio.to_string()))
    });
    by_using.chain(by_user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(models: &str, groups: &str) -> TariffDoc {
        let text = format!(r#"{{"format":1,"units_per_usd":100000000,"models":{{{models}}}{groups}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    /// Once such a model was counted as changed, and nothing of it was shown.
    #[test]
    fn another_provider_alone_is_a_change_that_is_told() {
        let before = doc(r#""m":{"input":1,"provider":"openai"},"n":{"input":1}"#, "");
        let after = doc(r#""m":{"input":1,"provider":"azure"},"n":{"input":1}"#, "");
        let diff = Diff::between(&before, &after);
        assert_eq!((diff.changed, diff.same, diff.models[0].prices.len()), (1, 1, 0));
        let provider = ProviderDiff { before: Some("openai".into()), after: Some("azure".into()) };
        assert_eq!(diff.models[0].provider, Some(provider));
        let gone = Diff::between(&before, &doc("", ""));
        assert!(gone.models.iter().all(|model| model.provider.is_none()), "told of models that stay");
    }

    #[test]
    fn added_removed_and_changed_prices_are_told() {
        let before = doc(
            r#""same":{"input":1},"gone":{"input":2},"moved":{"input":3,"output":4,"tiers":{"above_1k":{"input":9}}}"#,
            r#","group_ratio":{"vip":"0.8","old":"2"},"user_group_ratio":{"gold":{"vip":"0.5"}}"#,
        );
        let after = doc(
            r#""same":{"input":1},"new":{"per_request":7},
               "moved":{"input":3,"output":5,"cache_read":1,"max_output":8,"tiers":{"above_1k":{"output":6}}}"#,
            r#","group_ratio":{"vip":"0.80","new":"1.5"},"user_group_ratio":{"gold":{"vip":"0.6"}}"#,
        );
        let diff = Diff::between(&before, &after);
        assert_eq!((diff.added, diff.removed, diff.changed, diff.same), (1, 1, 1, 1));
        let told: Vec<_> = diff
            .models
            .iter()
            .flat_map(|model| model.prices.iter().map(|p| (&*model.model, &*p.price, p.before, p.after)))
            .collect();
        assert_eq!(
            told,
            [
                ("gone", "input", Some(2), None),
                ("moved", "above_1k.input", Some(9), None),
                ("moved", "above_1k.output", None, Some(6)),
                ("moved", "cache_read", None, Some(1)),
                ("moved", "max_output", None, Some(8)),
                ("moved", "output", Some(4), Some(5)),
                ("new", "per_request", None, Some(7)),
            ]
        );
        let ratios: Vec<_> = diff
            .ratios
            .iter()
            .map(|r| (r.user_group.as_deref(), &*r.group, r.before.as_deref(), r.after.as_deref()))
            .collect();
        assert_eq!(
            ratios,
            [
                (None, "new", None, Some("1.5")),
                (None, "old", Some("2"), None),
                (Some("gold"), "vip", Some("0.5"), Some("0.6")),
            ]
        );
        assert!(Diff::between(&after, &after).is_empty() && !diff.is_empty());
    }
}
