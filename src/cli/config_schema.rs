//! `oncesink config-schema`: the JSON Schema of a pipeline's file, by which editors complete and check it.

use super::exit::Exit;
use crate::settings;

pub fn config_schema() -> Exit {
    println!("{:#}", settings::schema());
    Exit::Done
}
