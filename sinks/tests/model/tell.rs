//! A step in words.

use crate::{
    action::Action,
    state::{Commit, Flight, Lane, Phase, Row, Span, State},
};

impl Action {
    /// `before` and `after` are equal where the step is the one that goes wrong.
    pub fn tell(self, before: &State, after: &State) -> String {
        let went_wrong = before == after;
        match self {
            Self::Restart { w, switch } => {
                let delivery = if before.workers[w].exactly_once ^ switch { "exactly-once" } else { "at-least-once" };
                format!("w{w} starts under {delivery}")
            }
            Self::Crash { w } => format!("w{w} crashes"),
            Self::Assign { w, p } => format!("p{p} is assigned to w{w}"),
            Self::Revoke { w, p } => format!("p{p} is revoked from w{w}"),
            Self::Steal { p } => {
                let owner = 2 - usize::from(before.kafka[p].owner);
                format!("p{p} is assigned to w{owner}, and w{} does not hear of it", 1 - owner)
            }
            Self::HearLost { w, p } => format!("w{w} hears that it has lost p{p}"),
            Self::Produce { p } => format!("record {} is written to p{p}", before.kafka[p].high),
            Self::Commit { w, p } => format!("w{w} commits offset {} of p{p} to Kafka", before.workers[w].lanes[p].applied),
            Self::DeleteOffset { p } => format!("the group's offset of p{p} is deleted"),
            Self::ResetOffset { p, to_end } => {
                format!("an admin resets the group's offset of p{p} to {}", if to_end { before.kafka[p].high } else { 0 })
            }
            Self::Copy => "the database is copied".to_owned(),
            Self::Restore { empty: true } => "the database is restored to before everything".to_owned(),
            Self::Restore { empty: false } => format!("the database is restored from the copy: {}", rows(after)),
            Self::LookUp { w, p } => format!("w{w} looks up p{p}: {}", committed(before, p)),
            Self::Claim { w, p } | Self::ClaimAsStranger { w, p } => {
                let lane = &before.workers[w].lanes[p];
                let looked = if lane.has_looked { " with what it has looked up" } else { "" };
                let name = if matches!(self, Self::Claim { .. }) { "claims" } else { "does not know that it has lost it, and claims" };
                let end = match (&after.workers[w].lanes[p], went_wrong) {
                    (_, true) => committed(before, p),
                    (Lane { phase: Phase::Halted, .. }, _) => format!("refused, {}", committed(before, p)),
                    (lane, _) => format!("epoch {}, starts at {}", lane.claim.epoch, lane.applied),
                };
                format!("w{w} {name} p{p}{looked}: {end}")
            }
            Self::ClaimUnseen { w, p } => format!("w{w} claims p{p}, and the reply is lost"),
            Self::Check { w, p } => format!("w{w} compares the row of idle p{p} ({}): {:?}", row(&before.database[p].row), after.workers[w].lanes[p].phase),
            Self::Send { w, spans: _ } if went_wrong => format!("w{w} hands over a batch"),
            Self::Send { w, .. } => match after.workers[w].flight {
                Flight::None => format!("w{w} hands over a batch, and is fenced: {}", rows(after)),
                _ => format!("w{w} hands over a batch of {}", spans(&after.workers[w].spans)),
            },
            Self::Effect { w } => format!("the COMMIT of w{w} takes effect: {}", if went_wrong { spans(&before.workers[w].spans) } else { rows(after) }),
            Self::Abort { w } => format!("the transaction of w{w} is rolled back"),
            Self::OrphanEffect { w } => format!("the COMMIT that w{w} had sent before it crashed takes effect: {}", rows(after)),
            Self::OrphanAbort { w } => format!("the transaction that w{w} had open when it crashed is rolled back"),
            Self::Reply { w } => format!("w{w} hears that its batch is durable"),
            Self::LoseReply { w } => format!("the reply to the COMMIT of w{w} is lost"),
            Self::Ask { w } => format!("w{w} asks the locked rows what became of its batch: {}", rows(before)),
            Self::SendAgain { w } => format!("w{w} sends its batch again"),
        }
    }
}

fn spans(spans: &[Span]) -> String {
    let inside = spans.iter().enumerate().filter(|(_, span)| span.is_in());
    inside.map(|(p, span)| format!("p{p} [{}, {})", span.from, span.to)).collect::<Vec<_>>().join(" and ")
}

fn committed(state: &State, p: usize) -> String {
    let committed = state.kafka[p].committed;
    match committed.kind {
        Commit::Nothing => "nothing is committed".to_owned(),
        Commit::Ours => format!("{} is committed", committed.next),
        Commit::Foreign => format!("{} is committed by hand", committed.next),
    }
}

fn row(row: &Row) -> String {
    if !row.exists {
        return "no row".to_owned();
    }
    format!("epoch {} at {} durable {}", row.claim.epoch, row.next, row.durable)
}

fn rows(state: &State) -> String {
    let existing = state.database.iter().enumerate().filter(|(_, stored)| stored.row.exists);
    let told: Vec<String> = existing.map(|(p, stored)| format!("p{p} {}", row(&stored.row))).collect();
    if told.is_empty() { "no rows".to_owned() } else { told.join(", ") }
}
