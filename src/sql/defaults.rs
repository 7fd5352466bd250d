//! Platform quotas of new accounts, a row for each layer that was ever set.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::{
    policy_rows::corrupt,
    session::{Dialect, Session},
};
use crate::{
    engine::ports::StoreError,
    quota::{
        defaults::{Defaults, Layer},
        id::Platform,
        platform::{Caps, Window},
    },
};

/// The layers that are asked for; one that was never set is empty.
pub(super) async fn read(
    session: &mut dyn Session,
    layers: impl Iterator<Item = Layer> + Send,
) -> Result<BTreeMap<Layer, Defaults>, StoreError> {
    let rows = session.fetch("SELECT layer, quotas FROM signup_defaults".into(), &[]).await?;
    let mut stored = BTreeMap::new();
    for row in &rows {
        stored.insert(row.text(0)?.to_owned(), parse(row.text(1)?)?);
    }
    Ok(layers.map(|layer| (layer, stored.remove(layer.as_str()).unwrap_or_default())).collect())
}

/// What a layer holds, and nobody else may change it until the transaction ends.
pub(super) async fn lock(session: &mut dyn Session, dialect: &Dialect, layer: Layer) -> Result<Defaults, StoreError> {
    let insert =
        format!("INSERT INTO signup_defaults (layer, quotas) VALUES (?, '{{}}'){}", (dialect.keep_first)("layer"));
    session.execute(insert.into(), &[layer.as_str().into()]).await?;
    let select = format!("SELECT quotas FROM signup_defaults WHERE layer = ?{}", dialect.for_update);
    let rows = session.fetch(select.into(), &[layer.as_str().into()]).await?;
    parse(rows.first().ok_or_else(|| corrupt("a layer of defaults vanished"))?.text(0)?)
}

/// Replaces a layer that is locked.
pub(super) async fn replace(session: &mut dyn Session, layer: Layer, defaults: &Defaults) -> Result<(), StoreError> {
    let quotas = doc(defaults).to_string();
    let update = "UPDATE signup_defaults SET quotas = ? WHERE layer = ?";
    session.execute(update.into(), &[quotas.as_str().into(), layer.as_str().into()]).await?;
    Ok(())
}

/// The stored form, in units.
pub(super) fn doc(defaults: &Defaults) -> Json {
    let caps = |caps: &Caps| Window::ALL.map(|window| (window.as_str().to_owned(), json!(caps.of(window))));
    let all = defaults.0.iter().map(|(name, of)| (name.to_string(), Map::from_iter(caps(of)).into()));
    Json::Object(all.collect())
}

fn parse(text: &str) -> Result<Defaults, StoreError> {
    let stored: BTreeMap<Platform, BTreeMap<String, Option<i64>>> = serde_json::from_str(text).map_err(corrupt)?;
    let caps = |of: BTreeMap<String, Option<i64>>| {
        let [daily, weekly, monthly] = Window::ALL.map(|window| of.get(window.as_str()).copied().flatten());
        Caps { daily, weekly, monthly }
    };
    Ok(Defaults(stored.into_iter().map(|(platform, of)| (platform, caps(of))).collect()))
}
