//! `/admin/v1/settings` and `/admin/v1/settings/{name}`: what is set at run time.

use crate::{
    engine::settings::{Entry, Shown, find},
    http::{
        answer::{Answer, Handled},
        error::{Problem, Word},
        gateway::done,
        path,
        route::Call,
        wire::{
            admin::SettingPut,
            read,
            report::{Setting, Settings},
        },
    },
};

pub(super) async fn list(call: &Call<'_>) -> Handled {
    let cursor = path::parameter(call.query, "cursor")?.unwrap_or_default();
    let most = path::page(call.query)? as usize;
    let (mut all, _) = done(call.service.engine.settings().await)?;
    all.sort_unstable_by_key(|shown| shown.entry.name);
    let mut rest = all.iter().filter(|shown| shown.entry.name > cursor.as_str());
    let settings: Vec<_> = rest.by_ref().take(most).map(shown).collect();
    let next_cursor = settings.last().map(|last| last.name).filter(|_| rest.next().is_some());
    Ok(Answer::ok(&Settings { settings, next_cursor }))
}

pub(super) async fn get(call: &Call<'_>, name: &str) -> Handled {
    let (setting, _) = done(call.service.engine.setting(entry(name)?).await)?;
    Ok(Answer::ok(&shown(&setting)))
}

pub(super) async fn put(call: &Call<'_>, name: &str) -> Handled {
    let (entry, actor) = (entry(name)?, call.actor()?);
    let put: SettingPut = read::body(call.body)?;
    let version = put.version.and_then(|version| u32::try_from(version.0).ok());
    let (setting, _) = done(call.service.engine.put_setting(&actor, entry, Some(&put.value.0), version).await)?;
    Ok(Answer::ok(&shown(&setting)))
}

pub(super) async fn delete(call: &Call<'_>, name: &str) -> Handled {
    let (entry, actor) = (entry(name)?, call.actor()?);
    let version = path::parameter(call.query, "version")?.map(|text| version(&text)).transpose()?;
    let (setting, _) = done(call.service.engine.put_setting(&actor, entry, None, version).await)?;
    Ok(Answer::ok(&shown(&setting)))
}

fn entry(name: &str) -> Result<&'static Entry, Problem> {
    find(name).ok_or_else(|| Problem::new(Word::NotFound, "there is no setting of this name: GET /admin/v1/settings"))
}

fn version(text: &str) -> Result<u32, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let version = text.parse().ok().filter(|_| digits);
    version.ok_or_else(|| Problem::invalid("version", "version must be the version of the setting, a whole number"))
}

fn shown(shown: &Shown) -> Setting<'_> {
    let Shown { entry, value, default, source, version, changed } = shown;
    Setting {
        name: entry.name,
        value,
        default,
        source,
        kind: entry.kind,
        unit: Some(entry.unit).filter(|unit| !unit.is_empty()),
        meaning: entry.meaning,
        version: *version,
        changed_at: changed.as_ref().map(|(at, _)| *at),
        changed_by: changed.as_ref().map(|(_, by)| by.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_read_strictly() {
        let put: SettingPut = read::body(br#"{"value": {"a": [1, null]} , "version": 0}"#).unwrap();
        assert_eq!((&*put.value.0, put.version.map(|version| version.0)), (r#"{"a": [1, null]}"#, Some(0)));
        let put: SettingPut = read::body(br#"{"value":null}"#).unwrap();
        assert_eq!(&*put.value.0, "null");
        for (body, field) in
            [("{}", "value"), (r#"{"value":1,"version":-1}"#, "version"), (r#"{"value":1,"valeu":2}"#, "valeu")]
        {
            assert_eq!(read::body::<SettingPut>(body.as_bytes()).unwrap_err().path, field, "{body}");
        }
        assert_eq!(version("7").unwrap(), 7);
        for bad in ["", "-1", "+1", "x", "4294967296"] {
            assert_eq!(version(bad).unwrap_err().field.as_deref(), Some("version"), "{bad}");
        }
    }

    #[test]
    fn an_unknown_name_is_404() {
        assert_eq!(entry("max_amount").unwrap().name, "max_amount");
        assert_eq!(entry("max%5Famount").err().unwrap().status, 404);
    }
}
