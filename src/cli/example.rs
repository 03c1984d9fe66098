//! `oncesink example`: a file with every key, explained.

use super::exit::Exit;
use crate::settings;

pub fn example() -> Exit {
    print!("{}", settings::example());
    Exit::Done
}
