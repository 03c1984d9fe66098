//! The closed list of rules that a record can break. docs/types.md says the same, and a test compares them.

macro_rules! rules {
    ($($name:ident $slug:literal)*) => {
        $(pub(crate) const $name: &str = $slug;)*
        /// Every rule.
        pub const ALL: &[&str] = &[$($slug),*];
    };
}

rules! {
    AMBIGUOUS_TIME "ambiguous-time"
    DUPLICATE_FIELD "duplicate-field"
    EVENT_ID_ABSENT "event-id-absent"
    EXTRA_FIELD "extra-field"
    HAS_ZONE "has-zone"
    INVALID_ESCAPE "invalid-escape"
    KEY_ABSENT "key-absent"
    NO_COLUMN_MATCHES "no-column-matches"
    NO_ZONE "no-zone"
    NOT_A_DATE "not-a-date"
    NOT_A_LABEL "not-a-label"
    NOT_A_NUMBER "not-a-number"
    NOT_A_TIME "not-a-time"
    NOT_A_TIMESTAMP "not-a-timestamp"
    NOT_A_UUID "not-a-uuid"
    NOT_AN_OBJECT "not-an-object"
    NOT_BASE64 "not-base64"
    NOT_EXACT "not-exact"
    NOT_JSON "not-json"
    NOT_UTF8 "not-utf8"
    NUL_IN_TEXT "nul-in-text"
    NULL_KEY "null-key"
    OUT_OF_RANGE "out-of-range"
    TOMBSTONE "tombstone"
    TOMBSTONE_WITHOUT_KEY "tombstone-without-key"
    TOO_LONG "too-long"
    WRONG_TYPE "wrong-type"
}
