//! Remembered events in Redis: a single server, a primary behind sentinels, or a Cluster.
//!
//! # What is stored
//!
//! | key | holds |
//! | --- | --- |
//! | `oncesink:{pipeline}:next` | a hash, the pipeline's *state*: the *generation* in force, and for each partition the claim that holds it and its next offset |
//! | `oncesink:{pipeline}:{generation}:{route}:{event id}` | a *mark*: this event is durable. Its value is the coordinate of the event's record (`orders:3@88211`). It ends after `redis.ttl` |
//!
//! (The braces stand for values; in a Cluster the marks are spread over all slots, the state is in one.) All that concerns the state
//! is one Lua script over that one key, hence one step, in a Cluster too.
//!
//! # What is done
//!
//! * **claim**: after the database has given partitions to this worker. If Redis holds a *higher* offset for one of them than the
//!   database, the database has gone back: the state begins anew, with a new generation and these partitions alone. A generation is a
//!   random number, never one that is counted up, so that none ever comes again, whatever Redis loses.
//! * **screen**: reads the marks under a generation, but those that could not count (of an id that is its own record's coordinate, at or above the
//!   durable offset); then reads the state, and goes by the marks only if that generation is in force *still*,
//!   every partition of the events is held by *this* claim, and its stored offset is *not above* what the database has made durable under
//!   it. A mark of one of these partitions counts only if its record lies below that durable offset.
//! * **remember**, after COMMIT: raises the stored offsets, each only if the claim of the batch still holds its partition, and all only
//!   if the generation of the batch's *screening* is still in force. After that is acknowledged the marks are written, under that generation.
//!
//! # Why nothing is lost
//!
//! An event would be lost if it were left out for a mark that says what the database, as it is now, does not hold. Let the database be
//! restored to an older copy at a time R, and let *M* be a mark of an event of partition `p` at offset `o`, whose COMMIT came before R and is not in
//! the copy. So the copy's next offset of `p` is at most `o`, and whoever holds `p` after R has claimed it again: a database that was exchanged under a claim
//! fences it.
//!
//! *The first wall.* `M` was preceded by an acknowledged raise of `p` above `o`, in the generation `G` under which `M` is written, and `G`
//! was in force before a COMMIT that was before R. Take the first claim of `p` after R that reaches Redis.
//! 1. If the raise came before it, the claim finds an offset above its own, and puts a new generation in force: `M` is dead,
//!    also if it is only written later, because it is written under `G`, and a screening takes only what it reads under the one in force.
//! 2. If the raise comes after it, the state names another claim (or, after a rewind that another partition found, none, or another
//!    generation), and the raise is refused: `M` is never written.
//!
//! In between nothing lowers a stored offset but a claim that puts a new generation in force, in the same step. It does not matter how late a
//! worker wakes up, or how many find the rewind at once: the first takes out of the state what the others would compare with, so one rewind makes one new
//! generation, and a second one would only forget more.
//!
//! *The second wall.* The same record `p@o` is read again, by a worker whose durable offset of `p` is at most `o`. `M` names `p@o`, which
//! is not below it, so `M` does not count. This holds whatever Redis has lost. The first wall alone does not bear all of it: in a
//! Cluster a failover can take back the last raises on the state's node while marks on other nodes stay, and behind sentinels one can come
//! between a raise and its marks. (Else, behind one primary, what is lost is the end of one log, and a raise comes before its marks.)
//!
//! *An event that comes twice*, once in `p` and once in `q`, may be left out in `q` for the mark `M` of `p`, as long as nobody has claimed `p` after R.
//! Nothing is lost by that: the record in `p` lies above the copy's next offset, is read again, and by the above is written then.
//!
//! # What repeats
//!
//! A crash between COMMIT and mark; marks that Redis has lost, evicted or ended; every event from before a rewind; a deliberate move of a checkpoint backwards,
//! which looks like one. And a worker that stands still between its claim in the database and the one here, until another one has taken over and
//! has remembered something: its late claim looks like a rewind, and puts a new generation in force. The holder's next screening then says that it is
//! not held ([`NotHeld`](crate::dedup::ScreenError::NotHeld)), the database tells who is, and its marks so far are forgotten.
//!
//! # The least rights
//!
//! ```text
//! ACL SETUSER app on >PASSWORD resetchannels ~oncesink:* -@all +get +mget +set +del +hget +hset +hmget +eval +evalsha +info
//! ```
//!
//! `~oncesink:*` follows `redis.prefix`; `+select` if the URL names a database other than 0, in a Cluster also `+cluster|slots +ping`. A
//! sentinel's user needs `+sentinel|get-master-addr-by-name`. `del`, `hget` and `hset` are run by the scripts.

mod connection;
mod facts;
pub mod fault;
mod marks;
mod options;
mod script;
mod state;
mod store;

pub use connection::AT_ONCE;
pub use options::{RedisOptions, RedisOptionsError, Servers};
pub use store::{RedisDedup, RedisStore, open};
