use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::Headers;

/// The headers of a record. The client's library panics at a name that is not UTF-8, which the protocol forbids but no broker checks:
/// such a header is left out, else one record could end the thread again and again.
pub(super) fn of<H: Headers>(headers: &H) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    (0..headers.count()).filter_map(|index| {
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index))).ok().flatten()?;
        Some((header.key, header.value))
    })
}
