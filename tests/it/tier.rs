//! How much of a test is run. `tests/run long` asks for the whole counts; the other tiers for what fits in their time.

/// `few` in `tests/run`, `many` in `tests/run long`. Both are what the test promises: no other count is drawn.
pub fn count(few: u32, many: u32) -> u32 {
    if std::env::var("ONCESINK_TEST_TIER").is_ok_and(|tier| tier == "long") { many } else { few }
}
