//! JSON schemas of the scalar values. The objects derive theirs.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, RefOr, SchemaFormat,
        schema::{AdditionalProperties, Schema, SchemaType, Type},
    },
};

use super::{
    estimate::{IMAGES_MAX, Images, LongText, Messages, PIXELS_MAX, SECONDS_MAX, Seconds},
    limit::{LimitRule, Limits},
    meta::Meta,
    quota::{Usd, UsdOrNull},
    scalar::{
        COUNT_MAX, Cap, Count, GroupName, GroupOrNull, InstantOrNull, Ip, Level, Network, PAGE_MAX, PageLimit, Secret,
        Sha256, Span, TEXT_CHARS_MAX, TTL_MS_MAX, TTL_MS_MIN, Text, TextOrNull, TimeZone, TtlMs, Units, Usage,
    },
};
use crate::quota::{
    amount::{AMOUNT_MAX, COUNTER_MAX},
    clock::Millis,
    id::{AccountId, KeyId, Model, OpId, Platform, ReservationId},
    limit::LIMITS_MAX,
    tariff::Diff,
};

const ID_PATTERN: &str = "^[A-Za-z0-9._:@-]{1,128}$";
const NAME_PATTERN: &str = "^[ -~]{1,128}$";
/// `*` alone stands for other groups in the operator's tables.
const GROUP_PATTERN: &str = r"^([^\u0000-\u001f\u007f-\u009f/*]|[^\u0000-\u001f\u007f-\u009f/]{2,64})$";
const CIDR_PATTERN: &str =
    "^([0-9]{1,2}\\.){3}[0-9]{1,2}/([0-9]|[12][0-9]|3[0-2])$|^[0-9a-fA-F:.]+:[0-9a-fA-F:.]*/[0-9]{1,3}$";

/// A string out of a closed list.
pub(crate) fn one_of_words(words: &[&'static str]) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied())).into()
}

fn text(pattern: &str, about: &str) -> ObjectBuilder {
    let about = Some(about).filter(|about| !about.is_empty());
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).description(about)
}

fn integer(least: i64, most: i64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most))
}

fn amount(most: i64) -> OneOfBuilder {
    let digits = text("^[0-9]{1,15}$", "the same in decimal digits");
    OneOfBuilder::new().item(integer(0, most)).item(digits)
}

fn dollars() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0))
}

fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

fn format(format: KnownFormat) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)))
}

fn open_object(about: &str) -> ObjectBuilder {
    let any = AdditionalProperties::FreeForm(true);
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(any)).description(Some(about))
}

fn free_text(about: &str) -> ObjectBuilder {
    text("^[^\\u0000-\\u001f\\u007f-\\u009f]*$", about).max_length(Some(TEXT_CHARS_MAX))
}

/// Of an image: both sides, or neither.
fn size() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("width", integer(1, PIXELS_MAX))
        .property("height", integer(1, PIXELS_MAX))
        .property("detail", one_of_words(&["low", "high", "auto", "original"]))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

fn or_null(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([kind, Type::Null]))
}

/// An object with all of these.
fn of_all<S: Into<RefOr<Schema>>>(properties: impl IntoIterator<Item = (&'static str, S)>) -> ObjectBuilder {
    properties.into_iter().fold(ObjectBuilder::new().schema_type(Type::Object), |object, (name, schema)| {
        object.property(name, schema).required(name)
    })
}

/// Two price lists, compared.
fn difference() -> ObjectBuilder {
    let word = || ObjectBuilder::new().schema_type(Type::String);
    let about = "units, or tokens for max_output; null: none";
    let number = || or_null(Type::Integer).description(Some(about));
    let price = of_all([("price", word()), ("before", number()), ("after", number())]);
    let model = of_all([("model", word())])
        .property("change", one_of_words(&["added", "removed", "changed"]))
        .required("change")
        .property("prices", ArrayBuilder::new().items(price))
        .required("prices");
    let word_or_null = || or_null(Type::String);
    let provider = of_all([("before", word_or_null()), ("after", word_or_null())]);
    let model = model.property("provider", provider);
    let ratio = of_all([
        ("user_group", word_or_null()),
        ("group", word()),
        ("before", word_or_null()),
        ("after", word_or_null()),
    ]);
    of_all(["added", "removed", "changed", "same"].map(|count| (count, integer(0, i64::from(u32::MAX)))))
        .property("models", ArrayBuilder::new().items(model))
        .required("models")
        .property("ratios", ArrayBuilder::new().items(ratio))
        .required("ratios")
}

macro_rules! schemas {
    ($($kind:ty => $schema:expr,)*) => {$(
        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }
        impl ToSchema for $kind {}
    )*};
}

schemas! {
    Units => amount(AMOUNT_MAX).description(Some("units of money; one unit is 10^-8 USD by default")),
    Level => amount(COUNTER_MAX).description(Some("units of money")),
    Cap => amount(AMOUNT_MAX).item(null()).description(Some("units, tokens or requests; null: without")),
    UsdOrNull => OneOfBuilder::new().item(dollars()).item(text("^[0-9]+([.][0-9]+)?$", "the same in decimal digits"))
        .item(null()).description(Some("US dollars; null: unlimited")),
    Usd => dollars().description(Some("US dollars, exactly")),
    Count => integer(0, COUNT_MAX),
    TtlMs => integer(TTL_MS_MIN, TTL_MS_MAX),
    PageLimit => integer(1, PAGE_MAX),
    Text => free_text(""),
    TextOrNull => free_text("null clears it").schema_type(SchemaType::from_iter([Type::String, Type::Null])),
    GroupName => text(GROUP_PATTERN, "price group; at most 64 bytes of UTF-8"),
    GroupOrNull => text(GROUP_PATTERN, "price group").schema_type(SchemaType::from_iter([Type::String, Type::Null])),
    Secret => ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(128)),
    Ip => OneOfBuilder::new().item(format(KnownFormat::Ipv4)).item(format(KnownFormat::Ipv6)),
    Network => OneOfBuilder::new().item(format(KnownFormat::Ipv4)).item(format(KnownFormat::Ipv6))
        .item(text(CIDR_PATTERN, "a CIDR block, such as 10.0.0.0/8; of IPv6 too")),
    InstantOrNull => format(KnownFormat::DateTime).schema_type(SchemaType::from_iter([Type::String, Type::Null])),
    Millis => format(KnownFormat::DateTime).description(Some("RFC 3339 in UTC with milliseconds")),
    TimeZone => ObjectBuilder::new().schema_type(Type::String).min_length(Some(1))
        .description(Some("an IANA time zone")).examples(["Europe/Berlin"]),
    Sha256 => text("^[0-9a-fA-F]{64}$", "SHA-256 in hexadecimal"),
    Span => text("^(minute|hour|day|week|month|rolling:[1-9][0-9]{0,5})$", "calendar span, or rolling:<seconds>"),
    Usage => open_object("the upstream's usage object: OpenAI, Anthropic or Gemini shape"),
    Diff => difference(),
    LongText => ObjectBuilder::new().schema_type(Type::String),
    Seconds => ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(SECONDS_MAX)),
    Images => ArrayBuilder::new().max_items(Some(IMAGES_MAX)).items(size()),
    Messages => ArrayBuilder::new().items(open_object("a message of the upstream's chat")),
    Meta => open_object("kept in the log, at most 4096 bytes"),
    AccountId => text(ID_PATTERN, "who pays"),
    KeyId => text(ID_PATTERN, "an API key of the account"),
    ReservationId => text(ID_PATTERN, "a reservation of the account; also the idempotency key"),
    OpId => text(ID_PATTERN, "an operation of the account; also the idempotency key"),
    Platform => text(NAME_PATTERN, "what is called"),
    Model => text(NAME_PATTERN, "which model is called"),
}

impl PartialSchema for Limits {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new()
            .items(RefOr::Ref(utoipa::openapi::Ref::from_schema_name("LimitRule")))
            .max_items(Some(LIMITS_MAX))
            .into()
    }
}

impl ToSchema for Limits {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((LimitRule::name().into_owned(), LimitRule::schema()));
        LimitRule::schemas(schemas);
    }
}
