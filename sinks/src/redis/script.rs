//! What Redis does in one step. Each script touches one key, the pipeline's state, so that all of it happens or nothing, in a
//! Cluster too.
//!
//! The state is a hash: `generation`, and for each partition `topic:index` its next offset (19 digits, so that texts compare as
//! numbers do) and the claim that holds it: `0000000000000088212:-77`.

use redis::{Cmd, Script};

/// Takes partitions over. Where the stored offset is above the claim's, the database has gone back: the state begins anew, in a new
/// generation, with these partitions alone. What anybody else knew of the old one is refused from then on.
///
/// `ARGV`: a generation that nobody ever had; for each partition its name, claim and offset. Answers the generation, then for each
/// partition the higher offset that was stored, or nothing.
const CLAIM: &str = r"
local state = KEYS[1]
local generation = redis.call('HGET', state, 'generation')
local answer = {}
local rewound = false
for i = 2, #ARGV, 3 do
  local stored = redis.call('HGET', state, ARGV[i])
  local before = ''
  if generation and stored and string.sub(stored, 1, 19) > ARGV[i + 2] then
    before = string.sub(stored, 1, 19)
    rewound = true
  end
  answer[#answer + 1] = before
end
if rewound or not generation then
  redis.call('DEL', state)
  generation = ARGV[1]
  redis.call('HSET', state, 'generation', generation)
end
for i = 2, #ARGV, 3 do
  redis.call('HSET', state, ARGV[i], ARGV[i + 2] .. ':' .. ARGV[i + 1])
end
table.insert(answer, 1, generation)
return answer
";

/// Puts back what Redis has lost or a rewind has taken out: only partitions that are not there. Nobody's claim is taken over by it.
///
/// `ARGV` as above. Answers the generation.
const REGISTER: &str = r"
local state = KEYS[1]
local generation = redis.call('HGET', state, 'generation')
if not generation then
  redis.call('DEL', state)
  generation = ARGV[1]
  redis.call('HSET', state, 'generation', generation)
end
for i = 2, #ARGV, 3 do
  if not redis.call('HGET', state, ARGV[i]) then
    redis.call('HSET', state, ARGV[i], ARGV[i + 2] .. ':' .. ARGV[i + 1])
  end
end
return generation
";

/// Raises the offsets of partitions, each only under the claim that still holds it, and all only in the generation that is still in force.
///
/// `ARGV`: the generation; then as above. Answers for each partition 1, or 0 where it is refused.
const RAISE: &str = r"
local state = KEYS[1]
local current = redis.call('HGET', state, 'generation') == ARGV[1]
local answer = {}
for i = 2, #ARGV, 3 do
  local stored = current and redis.call('HGET', state, ARGV[i])
  local taken = 0
  if stored and string.sub(stored, 21) == ARGV[i + 1] then
    taken = 1
    if ARGV[i + 2] > string.sub(stored, 1, 19) then
      redis.call('HSET', state, ARGV[i], ARGV[i + 2] .. ':' .. ARGV[i + 1])
    end
  end
  answer[#answer + 1] = taken
end
return answer
";

/// A script, and its name at the server.
#[derive(Debug)]
pub(super) struct Stored {
    text: &'static str,
    hash: String,
}

impl Stored {
    fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned() }
    }

    /// By its name: what is sent every time.
    pub(super) fn by_name(&self, key: &str, arguments: &[String]) -> Cmd {
        command("EVALSHA", &self.hash, key, arguments)
    }

    /// By its text, for a server that has not seen it or has forgotten it: the same step, and known from then on. The
    /// driver's own way (`SCRIPT LOAD`, then again) needs one more permission, and in a Cluster every node's answer.
    pub(super) fn by_text(&self, key: &str, arguments: &[String]) -> Cmd {
        command("EVAL", self.text, key, arguments)
    }
}

fn command(name: &str, script: &str, key: &str, arguments: &[String]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(1).arg(key).arg(arguments);
    command
}

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) claim: Stored,
    pub(super) register: Stored,
    pub(super) raise: Stored,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self { claim: Stored::new(CLAIM), register: Stored::new(REGISTER), raise: Stored::new(RAISE) }
    }
}
