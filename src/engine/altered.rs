//! Offsets of the group that somebody else set, reset or deleted: what a claim makes of them, said aloud.

use oncesink_sinks::{
    claim::{Claimed, Committed, StartReason},
    start::is_ours,
};

/// What to say where the group does not hold what this pipeline committed.
pub(super) fn altered(claimed: &Claimed, committed: &Committed) -> Option<String> {
    let (next, durable) = (claimed.next, claimed.durable);
    let again = if durable > next { format!("; what was read up to {durable} is written again") } else { String::new() };
    match (committed, claimed.because) {
        (Committed::At { next: set, metadata }, StartReason::CommittedOffset) if !is_ours(metadata) => {
            Some(format!("the group's offset {set} was not committed by oncesink, and is followed"))
        }
        (Committed::At { next: set, metadata }, StartReason::Checkpoint) if !is_ours(metadata) && *set != next => {
            Some(format!("the group's offset {set} was not committed by oncesink, and is not followed: the checkpoint says {next}{again}"))
        }
        (Committed::Nothing, StartReason::Checkpoint) if durable.get() > 0 => Some(format!("the group holds no offset: the checkpoint says {next}{again}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use oncesink_sinks::model::{BatchId, Claim, NextOffset};

    use super::*;

    fn said(next: i64, durable: i64, because: StartReason, committed: &Committed) -> String {
        let (next, durable) = (NextOffset::new(next), NextOffset::new(durable));
        altered(&Claimed { claim: Claim::default(), next, durable, last: None, because, lost: 0, batch: BatchId(0) }, committed).unwrap_or_default()
    }

    #[test]
    fn what_somebody_else_did_is_said_and_what_is_ours_is_not() {
        use StartReason::{Checkpoint, CommittedOffset, Policy};
        let set = |next, metadata: &str| Committed::At { next: NextOffset::new(next), metadata: metadata.to_owned() };
        assert!(said(300, 300, Checkpoint, &set(0, "")).ends_with("is not followed: the checkpoint says 300"));
        assert!(said(100, 300, Checkpoint, &set(0, "")).ends_with("says 100; what was read up to 300 is written again"));
        assert!(said(900, 900, CommittedOffset, &set(900, "")).ends_with("is followed"));
        assert!(said(300, 300, Checkpoint, &Committed::Nothing).ends_with("no offset: the checkpoint says 300"));
        for (next, durable, because, committed) in [
            (300, 300, Checkpoint, set(200, "db/exactly-once")),
            (300, 300, Checkpoint, set(300, "")),
            (300, 300, CommittedOffset, set(300, "db/at-least-once")),
            (0, 0, Checkpoint, Committed::Nothing),
            (300, 300, Checkpoint, Committed::Unknown),
            (0, 0, Policy, Committed::Nothing),
        ] {
            assert_eq!(said(next, durable, because, &committed), "", "{committed:?}");
        }
    }
}
