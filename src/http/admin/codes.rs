//! `/admin/v1/codes`, `/admin/v1/codes/{id}`, `/admin/v1/codes/purge` and `/admin/v1/accounts/{account}/redeem`.

use sha2::{Digest as _, Sha256};

use super::adjust::op_id;
use crate::{
    engine::{
        codes::Make,
        ports::{CodeFilter, CodePatch},
    },
    http::{
        answer::{Answer, Handled},
        error::Problem,
        gateway::{done, redeem::shown as redeemed},
        path,
        route::Call,
        wire::{
            codes::{CodePut, CodeShown, CodesMade, CodesMake, CodesPurge, CodesPurged, CodesShown, RedeemFor},
            read,
        },
    },
    quota::{
        clock::Millis,
        code::{Code, CodeName, CodeState, Plain},
        id::{AccountId, CodeId, OpId},
    },
};

/// An id is the longest that can be found.
const SEARCH_CHARS_MAX: usize = 128;

pub(super) async fn make(call: &Call<'_>) -> Handled {
    let ask: CodesMake = read::body(call.body)?;
    let make = Make {
        op_id: op_id(call, ask.op_id)?,
        name: ask.name,
        amount: ask.amount.0,
        expires_at: ask.expires_at.and_then(|at| at.0),
        count: ask.count.map_or(1, |count| count.0),
    };
    let codes = &call.service.codes;
    let (made, replayed) = done(codes.make(&call.actor()?, &make).await)?;
    let now = codes.now();
    let shown = made.iter().map(|(code, plain)| shown(code, plain.as_ref(), now)).collect();
    let answer = Answer::ok(&CodesMade { op_id: &make.op_id, codes: shown, replayed });
    Ok(answer.created(!replayed).replayed(replayed))
}

pub(super) async fn get(call: &Call<'_>, id: &str) -> Handled {
    let id = path::id(id, "id", CodeId::new)?;
    let codes = &call.service.codes;
    let (code, _) = done(codes.code(&id).await)?;
    Ok(Answer::ok(&shown(&code, None, codes.now())))
}

pub(super) async fn list(call: &Call<'_>) -> Handled {
    let filter = filter(call.query)?;
    let cursor = given(call.query, "cursor")?;
    let cursor = cursor.map(|cursor| path::id(&cursor, "cursor", CodeId::new)).transpose()?;
    let most = path::page(call.query)?;
    let codes = &call.service.codes;
    // One more than asked for tells whether there is a next page.
    let (mut page, _) = done(codes.list(&filter, cursor.as_ref(), most + 1).await)?;
    let more = page.len() > most as usize;
    page.truncate(most as usize);
    let next_cursor = page.last().filter(|_| more).map(|code| code.id.clone());
    let now = codes.now();
    Ok(Answer::ok(&CodesShown { codes: page.iter().map(|code| shown(code, None, now)).collect(), next_cursor }))
}

pub(super) async fn put(call: &Call<'_>, id: &str) -> Handled {
    let id = path::id(id, "id", CodeId::new)?;
    let put: CodePut = read::body(call.body)?;
    let patch = CodePatch {
        name: put.name,
        amount: put.amount.map(|amount| amount.0),
        expires_at: put.expires_at.map(|at| at.0),
        disabled: put.status.map(|status| status.disabled),
    };
    let codes = &call.service.codes;
    let (code, _) = done(codes.edit(&call.actor()?, &id, &patch).await)?;
    Ok(Answer::ok(&shown(&code, None, codes.now())))
}

pub(super) async fn delete(call: &Call<'_>, id: &str) -> Handled {
    let id = path::id(id, "id", CodeId::new)?;
    done(call.service.codes.delete(&call.actor()?, &id).await)?;
    Ok(Answer::nothing())
}

pub(super) async fn purge(call: &Call<'_>) -> Handled {
    let ask: CodesPurge = read::body(if call.body.is_empty() { b"{}" } else { call.body })?;
    let all = || vec![CodeState::Used, CodeState::Expired, CodeState::Disabled];
    let states = ask.status.map_or_else(all, |states| states.into_iter().map(|state| state.0).collect());
    let (purged, _) = done(call.service.codes.purge(&call.actor()?, &states).await)?;
    Ok(Answer::ok(&CodesPurged { purged }))
}

pub(super) async fn redeem(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let ask: RedeemFor = read::body(call.body)?;
    let (answer, replayed) = done(call.service.codes.redeem_for(&call.actor()?, &account, &ask.code).await)?;
    Ok(redeemed(&answer, replayed))
}

/// A query parameter that is not empty.
fn given(query: Option<&str>, name: &'static str) -> Result<Option<String>, Problem> {
    Ok(path::parameter(query, name)?.filter(|value| !value.is_empty()))
}

fn filter(query: Option<&str>) -> Result<CodeFilter, Problem> {
    let state = given(query, "status")?.map(|word| {
        let known = CodeState::parse(&word);
        known.ok_or_else(|| Problem::invalid("status", "status must be one of enabled, disabled, used, expired"))
    });
    let name = given(query, "name")?
        .map(|name| CodeName::parse(&name).ok_or_else(|| Problem::invalid("name", "name must be 1 to 20 characters")));
    let batch = given(query, "batch")?.map(|batch| path::id(&batch, "batch", OpId::new));
    let search = given(query, "search")?.map(|text| {
        if text.chars().count() > SEARCH_CHARS_MAX || text.chars().any(char::is_control) {
            let detail =
                format!("search must be at most {SEARCH_CHARS_MAX} characters, none of them a control character");
            return Err(Problem::invalid("search", detail));
        }
        let sha256 = Plain::parse(&text).map(|plain| Sha256::digest(plain.expose().as_bytes()).into());
        Ok((text, sha256))
    });
    let (state, name, batch) = (state.transpose()?, name.transpose()?, batch.transpose()?);
    Ok(CodeFilter { state, name, batch, search: search.transpose()? })
}

fn shown<'a>(code: &'a Code, plain: Option<&'a Plain>, now: Millis) -> CodeShown<'a> {
    CodeShown {
        id: &code.id,
        name: code.name.as_str(),
        amount: code.amount,
        status: code.state(now).as_str(),
        shown: code.shown(),
        expires_at: code.expires_at,
        created_at: code.created_at,
        batch: &code.batch,
        used_by: code.used.as_ref().map(|used| &used.by),
        used_at: code.used.as_ref().map(|used| used.at),
        code: plain.map(Plain::expose),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_whole() {
        let code = "0123456789ABCDEFGHIJabcdefghijkl";
        let read = filter(Some(&format!("status=used&name=spring%20sale&batch=b-1&search={code}&cursor="))).unwrap();
        assert_eq!((read.state, read.name), (Some(CodeState::Used), CodeName::parse("spring sale")));
        assert_eq!(read.batch, OpId::new("b-1").ok());
        assert_eq!(read.search, Some((code.to_owned(), Some(Sha256::digest(code).into()))));
        assert_eq!(filter(Some("search=spr")).unwrap().search, Some(("spr".to_owned(), None)));
        for (bad, field) in [
            ("status=gone", "status"),
            ("name=123456789012345678901", "name"),
            ("batch=a%20b", "batch"),
            ("search=a%00", "search"),
        ] {
            assert_eq!(filter(Some(bad)).unwrap_err().field.as_deref(), Some(field), "{bad}");
        }
    }
}
