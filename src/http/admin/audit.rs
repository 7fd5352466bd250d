//! `GET /admin/v1/audit`.

use crate::{
    http::{
        answer::{Answer, Handled},
        error::Problem,
        gateway::done,
        path,
        route::Call,
        wire::report::{ChangeShown, Changes},
    },
    quota::change::Recorded,
};

pub(super) async fn list(call: &Call<'_>) -> Handled {
    let subject = path::parameter(call.query, "subject")?.filter(|subject| !subject.is_empty());
    let cursor = cursor(path::parameter(call.query, "cursor")?.as_deref())?;
    let most = path::page(call.query)?;
    // One more than asked for tells whether there is a next page.
    let (mut changes, _) = done(call.service.engine.changes(subject.as_deref(), cursor, most + 1).await)?;
    let more = changes.len() > most as usize;
    changes.truncate(most as usize);
    let next_cursor = changes.last().filter(|_| more).map(|change| change.id.to_string());
    Ok(Answer::ok(&Changes { changes: changes.iter().map(shown).collect(), next_cursor }))
}

fn cursor(text: Option<&str>) -> Result<Option<i64>, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let cursor = text.parse().ok().filter(|cursor| *cursor > 0);
    cursor.map(Some).ok_or_else(|| Problem::invalid("cursor", "cursor must be the next_cursor of a page"))
}

fn shown(change: &Recorded) -> ChangeShown<'_> {
    let Recorded { id, at, by, what, subject, before, after, op_id } = change;
    ChangeShown { id: id.to_string(), at: *at, by, what, subject, before, after, op_id: op_id.as_deref() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_an_id() {
        assert_eq!(cursor(None).unwrap(), None);
        assert_eq!(cursor(Some("")).unwrap(), None);
        assert_eq!(cursor(Some("17")).unwrap(), Some(17));
        for bad in ["0", "-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(cursor(Some(bad)).unwrap_err().field.as_deref(), Some("cursor"), "{bad}");
        }
    }
}
