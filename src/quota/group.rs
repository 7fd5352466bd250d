//! Price groups: which ones an account may use, in which order `auto` tries them, and which models they serve. Pure;
//! the tables are the operator's.
//!
//! A call is made in one group, and its prices are multiplied with that group's ratio (`tariff`). Which one it is
//! follows from three wishes: what the call names, else what its key is bound to, else the account's own group.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    id::Model,
    verdict::{Code, Refusal},
};

/// Not a group but a wish: the first usable group in the operator's order that serves the model.
pub const AUTO: &str = "auto";
/// Bytes of a group's name at most.
pub const NAME_MAX: usize = 64;
/// What a name of a group must be, for sentences.
pub const NAME_RULE: &str = "1 to 64 bytes, without control characters and `/`, and not `*`";
/// The row of account groups that have none of their own.
const OTHERS: &str = "*";
/// Characters of a description at most.
const DESCRIPTION_MAX: usize = 256;
/// Groups, rows or models of one table, or of one row, at most.
const ENTRIES_MAX: usize = 1000;

/// Groups with their descriptions.
pub type Row = BTreeMap<Box<str>, Box<str>>;

/// The operator's tables.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupTables {
    /// What accounts of a group may use besides that group: by account group, `*` for those without a row. Empty:
    /// nothing is said, so that a key's group stands as its operator wrote it.
    pub usable: BTreeMap<Box<str>, Row>,
    /// The order in which `auto` tries groups.
    pub auto: Vec<Box<str>>,
    /// The models that a group serves: names, or beginnings of names with `*` at the end. A group without a row
    /// serves all.
    pub models: BTreeMap<Box<str>, Vec<Box<str>>>,
}

impl Default for GroupTables {
    fn default() -> Self {
        Self { usable: BTreeMap::new(), auto: vec!["default".into()], models: BTreeMap::new() }
    }
}

/// Who wants to use a group.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The account's own group.
    pub own: &'a str,
    /// What the call's key is bound to.
    pub of_key: Option<&'a str>,
}

/// Whether a text can name a group: any language's, as long as it fits into a record and a line.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let stranger = |c: char| c.is_control() || c == '/';
    (1..=NAME_MAX).contains(&text.len()) && !text.chars().any(stranger) && text != OTHERS
}

fn refused(detail: String) -> Refusal {
    Refusal::new(Code::GroupNotAllowed, detail)
}

impl GroupTables {
    /// Reads the table of usable groups: `{"<account group or *>": {"<group>": "<description>"}}`.
    ///
    /// # Errors
    /// A sentence that names the entry that cannot stand.
    pub fn read_usable(usable: BTreeMap<String, BTreeMap<String, String>>) -> Result<BTreeMap<Box<str>, Row>, String> {
        bounded("rows", usable.len())?;
        let row = |(own, row): (String, BTreeMap<String, String>)| {
            if own != OTHERS {
                named(&own)?;
            }
            bounded("groups", row.len())?;
            let row = row.into_iter().map(|(group, about)| {
                named(&group)?;
                if about.chars().count() > DESCRIPTION_MAX || about.chars().any(char::is_control) {
                    return Err(format!(
                        "the description of `{group}` must be at most {DESCRIPTION_MAX} characters, none of them a \
                         control character"
                    ));
                }
                Ok((group.into(), about.into()))
            });
            Ok((own.into(), row.collect::<Result<Row, String>>()?))
        };
        usable.into_iter().map(row).collect()
    }

    /// Reads the order of `auto`.
    ///
    /// # Errors
    /// A sentence that names the entry that cannot stand.
    pub fn read_auto(auto: Vec<String>) -> Result<Vec<Box<str>>, String> {
        bounded("groups", auto.len())?;
        let mut order: Vec<Box<str>> = Vec::with_capacity(auto.len());
        for group in auto {
            named(&group)?;
            if order.iter().any(|known| **known == *group) {
                return Err(format!("`{group}` is named twice"));
            }
            order.push(group.into());
        }
        Ok(order)
    }

    /// Reads the models that groups serve: `{"<group>": ["<model>", "<beginning>*"]}`.
    ///
    /// # Errors
    /// A sentence that names the entry that cannot stand.
    pub fn read_models(models: BTreeMap<String, Vec<String>>) -> Result<BTreeMap<Box<str>, Vec<Box<str>>>, String> {
        bounded("groups", models.len())?;
        let row = |(group, models): (String, Vec<String>)| {
            named(&group)?;
            bounded("models", models.len())?;
            let model = |model: String| {
                let good = Model::new(&model).is_ok() && !model[..model.len() - 1].contains('*');
                let sentence =
                    || format!("`{model}` of `{group}` is no model, nor a beginning of one with `*` at its end");
                if good { Ok(model.clone().into()) } else { Err(sentence()) }
            };
            let models = models.into_iter().map(model).collect::<Result<Vec<Box<str>>, String>>()?;
            Ok((group.into(), models))
        };
        models.into_iter().map(row).collect()
    }

    /// The group that a call is made in: what it names, else what its key is bound to, else the account's own.
    ///
    /// # Errors
    /// `group_not_allowed`.
    pub fn choose<'t>(
        &'t self,
        member: Member<'t>,
        named: Option<&'t str>,
        model: Option<&Model>,
    ) -> Result<&'t str, Refusal> {
        let wish = match (named, member.of_key) {
            (Some(named), Some(bound)) if named != bound && !self.frees(bound, named) => {
                return Err(refused(format!("The key is bound to the group {bound}; the call names {named}.")));
            }
            (Some(wish), _) | (None, Some(wish)) => wish,
            (None, None) => member.own,
        };
        if wish == AUTO { self.first(member, model) } else { self.one(member, wish, model) }
    }

    /// Whether a retry may go on in the group `named`. What a key is bound to does not bind it: whether the key allows
    /// such a retry at all is asked before.
    ///
    /// # Errors
    /// `group_not_allowed`.
    pub fn retry(&self, member: Member<'_>, named: &str, model: Option<&Model>) -> Result<(), Refusal> {
        self.one(member, named, model).map(|_| ())
    }

    /// Whether the member may use the group, whatever model is called.
    #[must_use]
    pub fn is_usable(&self, member: Member<'_>, group: &str) -> bool {
        let bound = self.usable.is_empty() && member.of_key == Some(group);
        group == member.own || bound || self.row(member.own).is_some_and(|row| row.contains_key(group))
    }

    /// Groups that the member's calls can be made in, with their descriptions: of a key, those it is bound to, all
    /// that are usable when `free`. In order of their names, and those of `auto` in its order.
    #[must_use]
    pub fn choices<'t>(&'t self, member: Member<'t>, free: bool) -> Vec<(&'t str, &'t str)> {
        let row = self.row(member.own);
        let about = |group| row.and_then(|row| row.get(group)).map_or("", |about| &**about);
        let mut groups: Vec<&str> = match member.of_key {
            Some(AUTO) if !free => self.auto.iter().map(|group| &**group).collect(),
            Some(bound) if !free => vec![bound],
            bound => {
                let names = row.into_iter().flat_map(BTreeMap::keys).map(|group| &**group);
                let names: BTreeSet<&str> = names.chain([member.own]).chain(bound).collect();
                names.into_iter().collect()
            }
        };
        groups.retain(|group| self.is_usable(member, group));
        groups.into_iter().map(|group| (group, about(group))).collect()
    }

    /// Whether a key that is bound to `bound` may name `named` all the same.
    fn frees(&self, bound: &str, named: &str) -> bool {
        bound == AUTO && self.auto.iter().any(|group| **group == *named)
    }

    fn one<'t>(&self, member: Member<'_>, group: &'t str, model: Option<&Model>) -> Result<&'t str, Refusal> {
        if !self.is_usable(member, group) {
            let own = member.own;
            return Err(refused(format!("Accounts of the group {own} may not use the group {group}.")));
        }
        if !self.serves(group, model) {
            return Err(refused(match model {
                Some(model) => format!("The group {group} does not serve the model {model}."),
                None => format!("The group {group} serves certain models only, and the call names none."),
            }));
        }
        Ok(group)
    }

    fn first(&self, member: Member<'_>, model: Option<&Model>) -> Result<&str, Refusal> {
        let found = self.auto.iter().find(|group| self.is_usable(member, group) && self.serves(group, model));
        found.map(|group| &**group).ok_or_else(|| {
            let own = member.own;
            let model = model.map_or("a call without a model".to_owned(), |model| format!("the model {model}"));
            refused(format!("No group of the automatic order serves {model} to accounts of the group {own}."))
        })
    }

    fn serves(&self, group: &str, model: Option<&Model>) -> bool {
        let Some(models) = self.models.get(group) else { return true };
        let Some(model) = model.map(Model::as_str) else { return false };
        models.iter().any(|entry| match entry.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => **entry == *model,
        })
    }

    fn row(&self, own: &str) -> Option<&Row> {
        self.usable.get(own).or_else(|| self.usable.get(OTHERS))
    }
}

fn bounded(what: &str, count: usize) -> Result<(), String> {
    if count <= ENTRIES_MAX { Ok(()) } else { Err(format!("more than {ENTRIES_MAX} {what}")) }
}

fn named(group: &str) -> Result<(), String> {
    match is_name(group) && group != AUTO {
        true => Ok(()),
        false => Err(format!("`{group}` is no group: {NAME_RULE}, nor `{AUTO}`")),
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
