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

#[cfg(test)]
mod tests {
    use rdkafka::message::{FromBytes, Header};

    use super::*;

    struct Malformed;

    impl Headers for Malformed {
        fn count(&self) -> usize {
            3
        }

        fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
            let key = str::from_bytes([&b"a"[..], b"\xff", b"c"][index]).unwrap();
            Some(Header { key, value: (index == 0).then_some(&b"1"[..]) })
        }
    }

    #[test]
    fn a_header_whose_name_is_not_text_is_left_out() {
        assert_eq!(of(&Malformed).collect::<Vec<_>>(), [("a", Some(&b"1"[..])), ("c", None)]);
    }
}
