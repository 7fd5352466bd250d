//! The wire types: every request and answer of the protocol, as Rust and (through utoipa) as schema.
//!
//! Requests are not read by serde's derive: it cannot name the field whose *value* is wrong, takes
//! `1.0` for a number like any other, and buffers tagged objects. [`read`] goes over an object once
//! and hands each value's own text to its field's type; [`request!`](request) declares both the
//! struct and that reader, so names exist once.

pub(crate) mod admin;
pub(crate) mod answer;
pub(crate) mod codes;
pub(crate) mod compat;
pub(crate) mod estimate;
pub(crate) mod gateway;
pub(crate) mod limit;
pub(crate) mod meta;
pub(crate) mod onboarding;
pub(crate) mod own_key;
pub(crate) mod quota;
pub(crate) mod read;
pub(crate) mod report;
pub(crate) mod scalar;
pub(crate) mod schema;
pub(crate) mod tariff;
pub(crate) mod view;
pub(crate) mod word;

#[cfg(test)]
mod tests;

/// Declares a request object and how it is read. `Option` fields may be absent; others
/// are required. A field whose wire name is a Rust keyword says `last as "final"`.
macro_rules! request {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident $(as $wire:literal)?: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, utoipa::ToSchema)]
        pub(crate) struct $name {
            $($(#[$field_meta])* $(#[schema(rename = $wire)])? pub(crate) $field: $kind,)*
        }

        impl $crate::http::wire::read::Object for $name {
            #[cfg(test)]
            const FIELDS: &'static [&'static str] = &[$($crate::http::wire::wire_name!($field $($wire)?)),*];

            fn read(text: &str, tag: Option<&str>) -> Result<Self, $crate::http::wire::read::Bad> {
                use $crate::http::wire::read::{Bad, Field, members};
                $(let mut $field: Option<&str> = None;)*
                members(text, |name, raw| {
                    let slot = match name {
                        $($crate::http::wire::wire_name!($field $($wire)?) => &mut $field,)*
                        name if Some(name) == tag => return Ok(()),
                        name => return Err(Bad::unknown(name)),
                    };
                    match slot.replace(raw) {
                        None => Ok(()),
                        Some(_) => Err(Bad::at(name, "is given twice")),
                    }
                })?;
                Ok(Self {
                    $($field: Field::read($field)
                        .map_err(|bad| bad.within($crate::http::wire::wire_name!($field $($wire)?)))?,)*
                })
            }
        }
    };
}

/// A field's name on the wire.
macro_rules! wire_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $wire:literal) => {
        $wire
    };
}

pub(crate) use request;
pub(crate) use wire_name;
