//! `/admin/v1/defaults` and `/admin/v1/defaults/{layer}`: what new accounts begin with.

use std::collections::BTreeMap;

use crate::{
    http::{
        answer::{Answer, Handled},
        error::{Problem, Word},
        gateway::done,
        route::Call,
        wire::{
            quota::{AllDefaults, DefaultsShown, LayerDefaults, LayerShown},
            read,
        },
    },
    quota::defaults::{Defaults, Layer},
};

pub(super) async fn all(call: &Call<'_>) -> Handled {
    let (layers, _) = done(call.service.engine.defaults().await)?;
    let scale = call.service.engine.scale();
    let shown = layers.iter().map(|(layer, defaults)| (layer.as_str(), LayerShown::of(defaults, scale)));
    Ok(Answer::ok(&DefaultsShown(shown.collect())))
}

pub(super) async fn put_all(call: &Call<'_>) -> Handled {
    let put: AllDefaults = read::body(call.body)?;
    replace(call, &put.units(call.service.engine.scale())?).await?;
    all(call).await
}

pub(super) async fn get(call: &Call<'_>, layer: &str) -> Handled {
    one(call, named(layer)?).await
}

pub(super) async fn put(call: &Call<'_>, layer: &str) -> Handled {
    let layer = named(layer)?;
    let put: LayerDefaults = read::body(call.body)?;
    let defaults = put.units(call.service.engine.scale())?;
    replace(call, &BTreeMap::from([(layer, defaults)])).await?;
    one(call, layer).await
}

async fn replace(call: &Call<'_>, layers: &BTreeMap<Layer, Defaults>) -> Result<(), Problem> {
    done(call.service.engine.put_defaults(&call.actor()?, layers).await)?;
    Ok(())
}

async fn one(call: &Call<'_>, layer: Layer) -> Handled {
    let (mut layers, _) = done(call.service.engine.defaults().await)?;
    let defaults = layers.remove(&layer).unwrap_or_default();
    Ok(Answer::ok(&LayerShown::of(&defaults, call.service.engine.scale())))
}

fn named(layer: &str) -> Result<Layer, Problem> {
    let known: Vec<&str> = Layer::all().map(Layer::as_str).collect();
    let missing = || Problem::new(Word::NotFound, format!("there are defaults of {}", known.join(", ")));
    Layer::parse(layer).ok_or_else(missing)
}
